"""JSON documents that outlive the program that wrote them: all that is read again, from dropout tables to results.

A document states its kind and schema version, carries a checksum of its contents, holds floats that read back bit for bit,
and is replaced as a whole or not at all. Reading one checks every field, so that a damaged file ends in one line that names
the file and the field, never in a wrong number or a traceback.
"""

import hashlib
import json
import math
import reprlib
import sys
from collections.abc import Mapping, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NoReturn

from distreal_jax.errors import InputError
from distreal_jax.files import write_atomically

_DEEPEST = 100  # levels of lists and objects, chosen by us: far below where Python's own functions give up


class DamagedDocumentError(InputError):
    """The document is truncated, altered, or another one than was expected."""


def write_document(path: Path, kind: str, schema: int, content: Mapping[str, Any], *, previous: Path | None = None) -> None:
    """Writes a document; a reader, or a program killed meanwhile, sees the old file or the new one, never a part.

    Args:
      path: The file; its folder exists.
      kind: What the document is, in words; a reader of another kind refuses it.
      schema: Version of the fields.
      content: JSON values, every float finite.
      previous: Where a file already at `path` is kept; None: it is replaced.

    Raises:
      InputError: The file can't be written there.
    """
    lines = [f"{json.dumps(name)}: {_rows(value)}" for name, value in {"kind": kind, "schema": schema, **content}.items()]
    text = "{\n" + ",\n".join([*lines, f'"sha256": "{_checksum(content)}"']) + "\n}\n"
    write_atomically(path, text.encode(), previous=previous)


def parsed_json(text: bytes) -> Any:
    """What a JSON text says; raises `ValueError`, in one line, for another text, a number out of range, or a deep nest."""
    try:
        content = json.loads(text.decode("utf-8"), parse_constant=_refuse_number, parse_float=_finite)
    except RecursionError:
        content = None
        deep = True
    except ValueError as error:
        raise ValueError(str(error).split("\n", 1)[0]) from error
    else:
        deep = _is_deep(content)
    if deep:
        raise ValueError(f"lists and objects are nested more than {_DEEPEST} deep")
    return content


def read_document(file: Path | Traversable, kind: str, schema: int, remedy: str) -> "Fields":
    """Reads a document's contents, without kind, schema and checksum, for checked access.

    Args:
      file: The file to read.
      kind: What the document has to be.
      schema: The newest version that the caller understands.
      remedy: What to do about a damaged file, said at the end of the error.

    Raises:
      DamagedDocumentError: The file is truncated, altered, or of another kind.
      InputError: The file is missing or of a newer schema.
    """
    try:
        text = file.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path that no file can have
        reason = error.strerror if isinstance(error, OSError) else None
        raise InputError(f"can't read {file}: {reason or error}; check the path") from error
    try:
        content = parsed_json(text)
    except ValueError as error:
        raise DamagedDocumentError(f"{file} is damaged or truncated ({error}); {remedy}") from error
    header = Fields(str(file), content, remedy)
    found = header.text("kind")
    if found != kind:
        raise DamagedDocumentError(f"{file} is a {reprlib.repr(found)}, expected a {kind!r}; give another file")
    version = header.whole("schema", least=1)
    if version > schema:
        raise InputError(
            f"{file} was made by a newer version (schema {version}, this one reads up to {schema}); upgrade distreal_jax"
        )
    checksum = header.text("sha256")
    return Fields(
        str(file),
        {name: value for name, value in content.items() if name not in ("kind", "schema", "sha256")},
        remedy,
        checksum=checksum,
        schema=version,
    )


class Fields:
    """Checked access to one JSON object of a document: each read names the field and says what it has to be.

    A field that nobody asked for is refused by `finish`, and so are contents that are well formed but not those that were
    written (a changed digit is still a number; only the checksum tells).

    Attributes:
      schema: The version of the document.
    """

    def __init__(
        self, source: str, content: Any, remedy: str, where: str = "", checksum: str | None = None, schema: int = 1
    ) -> None:
        self._source, self._content, self._remedy, self._where, self._checksum = source, content, remedy, where, checksum
        self._asked: set[str] = set()
        self._defaults: dict[str, Any] = {}
        self.schema = schema
        if not isinstance(content, dict):
            self._refuse("", content, "a JSON object")

    def older(self, **defaults: Any) -> None:
        """What fields are that documents of an older schema have not."""
        self._defaults = defaults

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._take(name)
        return value if isinstance(value, bool) else self._refuse(name, value, "true or false")

    def text(self, name: str) -> str:
        """A string."""
        value = self._take(name)
        return value if isinstance(value, str) else self._refuse(name, value, "a text")

    def text_or_none(self, name: str) -> str | None:
        """A string, or None where the document says null."""
        value = self._take(name)
        return value if value is None or isinstance(value, str) else self._refuse(name, value, "a text or null")

    def whole(self, name: str, least: int) -> int:
        """A whole number of at least `least`."""
        value = self._take(name)
        if not _is_whole(value, least):
            self._refuse(name, value, f"a whole number of at least {least}")
        return int(value)

    def wholes(self, name: str, least: int) -> tuple[int, ...]:
        """A list of whole numbers of at least `least` each."""
        value = self._take(name)
        if not isinstance(value, list) or not all(_is_whole(item, least) for item in value):
            self._refuse(name, value, f"a list of whole numbers of at least {least}")
        return tuple(value)

    def number(self, name: str) -> float | None:
        """A finite number, or None where the document says null."""
        value = self._take(name)
        return None if value is None else self._number(name, value)

    def positive(self, name: str, most: float) -> float:
        """A number above 0 and at most `most`."""
        value = self._take(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
            self._refuse(name, value, f"a number above 0 and at most {most:g}")
        return float(value)

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of finite numbers."""
        value = self._take(name)
        if not isinstance(value, list):
            self._refuse(name, value, "a list of numbers")
        return tuple(self._number(f"{name}[{index}]", item) for index, item in enumerate(value))

    def named_numbers(self, name: str) -> dict[str, float]:
        """A JSON object whose values are finite numbers."""
        return {key: self._number(f"{name}.{key}", value) for key, value in self.mapping(name).items()}

    def mapping(self, name: str) -> dict[str, Any]:
        """A JSON object, whatever its values are."""
        value = self._take(name)
        return value if isinstance(value, dict) else self._refuse(name, value, "a JSON object")

    def rows(self, name: str) -> "list[Fields]":
        """A list of JSON objects, each for checked access."""
        value = self._take(name)
        if not isinstance(value, list):
            self._refuse(name, value, "a list of JSON objects")
        return [Fields(self._source, row, self._remedy, f"{self._where}{name}[{index}].") for index, row in enumerate(value)]

    def remaining(self) -> dict[str, Any]:
        """All fields that were not asked for so far."""
        fields = {name: value for name, value in self._content.items() if name not in self._asked}
        self._asked.update(fields)
        return fields

    def finish(self) -> None:
        """Refuses fields that were not asked for, and, at the top of a document, contents other than those written."""
        unknown = sorted(set(self._content) - self._asked)
        if unknown:
            self._refuse(unknown[0], self._content[unknown[0]], "no field of this name")
        if self._checksum is not None and self._checksum != _checksum(self._content):
            raise DamagedDocumentError(
                f"{self._source} was changed after it was written (its checksum differs); {self._remedy}"
            )

    def _take(self, name: str) -> Any:
        self._asked.add(name)
        if name not in self._content:
            if name in self._defaults:
                return self._defaults[name]
            raise DamagedDocumentError(f"{self._source}: field {self._where}{name} is missing; {self._remedy}")
        return self._content[name]

    def _number(self, name: str, value: Any) -> float:
        # bool is an int to Python, and a whole number can be too large for a float
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > sys.float_info.max:
            self._refuse(name, value, "a finite number")
        return float(value)

    def _refuse(self, name: str, value: Any, expected: str) -> NoReturn:
        field = ascii(f"{self._where}{name}".rstrip("."))[1:-1] or "its top level"
        raise DamagedDocumentError(f"{self._source}: {field} is {reprlib.repr(value)}, expected {expected}; {self._remedy}")


def plain_json(value: Any, what: str) -> Any:
    """The value as it reads back from JSON (tuples become lists); raises `InputError`, naming `what`, if it can't."""
    try:
        return parsed_json(json.dumps(value, allow_nan=False).encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{what} can't be written as JSON ({error}); use texts, finite numbers, lists and mappings"
        ) from error


def _is_deep(content: Any) -> bool:
    level = [content]
    for _ in range(_DEEPEST):
        level = [
            item
            for value in level
            if isinstance(value, dict | list)
            for item in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return False
    return True


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is out of range")
    return value


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _rows(value: Any) -> str:
    """JSON with a line for each member of an object or of a list of them, so that differences of two files are readable."""
    if isinstance(value, Mapping) and value:
        members = (f"{json.dumps(str(name))}: {json.dumps(item, allow_nan=False)}" for name, item in value.items())
        return "{\n  " + ",\n  ".join(members) + "\n}"
    if isinstance(value, Sequence) and value and isinstance(value[0], Mapping | list | tuple):
        return "[\n  " + ",\n  ".join(json.dumps(item, allow_nan=False) for item in value) + "\n]"
    return json.dumps(value, allow_nan=False)


def _checksum(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
