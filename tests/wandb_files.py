"""What Weights & Biases keeps in a folder of a run that is offline, read back."""

import dataclasses
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@dataclasses.dataclass
class Kept:
    """One run.

    Attributes:
      rows: Of the history, as key -> value; what is nested is one key with dots.
      summary: The last value of every key.
      axes: Key (or the beginning of keys, before `*`) -> the key that its curve is drawn over.
      run: Name, group, job type and tags.
      config: The settings.
      artifacts: Name -> kind.
    """

    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    summary: dict[str, Any] = dataclasses.field(default_factory=dict)
    axes: dict[str, str] = dataclasses.field(default_factory=dict)
    run: dict[str, Any] = dataclasses.field(default_factory=dict)
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    artifacts: dict[str, str] = dataclasses.field(default_factory=dict)


def kept_offline(folder: Path) -> Kept:
    """The one run of a run folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    kept = Kept()
    for data in _records(file.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "history":
            kept.rows.append(_values(record.history.item))
        elif kind == "summary":
            kept.summary |= _values(record.summary.update)
        elif kind == "metric" and record.metric.step_metric:
            kept.axes[record.metric.glob_name or record.metric.name] = record.metric.step_metric
        elif kind == "run":
            run = record.run
            kept.run = {"name": run.display_name, "group": run.run_group, "job": run.job_type, "tags": list(run.tags)}
            kept.config |= {item.key: json.loads(item.value_json) for item in run.config.update}
        elif kind == "artifact":
            kept.artifacts[record.artifact.name] = record.artifact.type
        elif kind == "request" and record.request.HasField("log_artifact"):
            artifact = record.request.log_artifact.artifact
            kept.artifacts[artifact.name] = artifact.type
    return kept


def _records(content: bytes) -> Iterator[bytes]:
    """The records of a file: LevelDB's log format, behind seven bytes of W&B's own."""
    at, block, parts = 7, 2**15, b""
    while at + 7 <= len(content):
        if block - at % block < 7:  # too few bytes are left in a block for a header: padding
            at += block - at % block
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield parts
            parts = b""


def _values(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
