"""Settings, metrics and results as JSON values, and the hash that stands for settings."""

import dataclasses
import enum
import hashlib
import json
import math
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from distreal_jax.errors import InputError


def json_value(value: Any) -> Any:
    """The value as it reads back from JSON: arrays and tuples as lists, dataclasses as mappings, NaN and infinity as None.

    Raises:
      InputError: It holds something else, such as a function.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return json_value(value.value)
    if isinstance(value, str | Path):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): json_value(item) for name, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: json_value(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "tolist"):
        return json_value(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [json_value(item) for item in value]
    if isinstance(value, Set):
        return sorted((json_value(item) for item in value), key=json.dumps)
    raise InputError(f"{value!r} can't be written as JSON; use texts, numbers, lists and mappings")


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Ten hexadecimal digits that stand for the settings, whatever the order of their names."""
    canonical = json.dumps(json_value(settings), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]
