"""How a dropout table is stored: the fields of its JSON document, and where the tables that come with the package lie."""

import importlib.resources
from collections.abc import Callable, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

from distreal_jax.document import Fields, read_document, write_document
from distreal_jax.errors import InputError
from distreal_jax.files import user_path
from distreal_jax.table.configuration import LONGEST_STEP

_KIND = "distreal_jax dropout table"
# 1 had no batch_share; 2 neither depth nor step_factor, and MACs of the forward pass; 3 no unit.
_SCHEMA = 4
_REMEDY = "make the table again with `distreal search`"
Table = TypeVar("Table")


def table_file(source: str | Path) -> Path | Traversable:
    """The file of a path, or of the bare name (no folder, no `.json`) of a table that comes with the package.

    Raises:
      InputError: No table of that name; those there are are listed.
    """
    if isinstance(source, Path) or "/" in source or source.endswith(".json"):
        return user_path(source)
    file = _shipped_tables().joinpath(f"{source}.json")
    if not file.is_file():
        raise InputError(
            f"no table named {source!r} comes with the package (there are: {', '.join(shipped_tables()) or 'none'}); "
            "give one of these names or the path of a .json file"
        )
    return file


def shipped_tables() -> list[str]:
    """The names of the tables that come with the package."""
    folder = _shipped_tables()
    return sorted(item.name.removesuffix(".json") for item in folder.iterdir()) if folder.is_dir() else []


def read_table(file: Path | Traversable, build: Callable[..., Table]) -> Table:
    """Reads a table's fields and builds the table of them.

    Args:
      file: The file.
      build: Called with the table's fields by name; `entries` are a list of the fields of each.

    Raises:
      InputError: The file is damaged or of a newer schema, or `build` refuses what it says; the line names file and field.
    """
    fields = read_document(file, _KIND, _SCHEMA, _REMEDY)
    of_forward = fields.schema < 3
    passes = 3 if of_forward else 1
    if fields.schema < _SCHEMA:
        fields.older(unit="macs", **({"estimated": True} if of_forward else {}))
    groups, rows = fields.rows("groups"), fields.rows("entries")
    arguments = {
        "network": fields.text("network"),
        "group_names": tuple(group.text("name") for group in groups),
        "group_filters": tuple(group.whole("filters", least=1) for group in groups),
        "entries": [_entry(row, passes) for row in rows],
        "provenance": fields.mapping("provenance"),
        "full_macs": passes * fields.whole("full_macs", least=1),
        "full_seconds": fields.named_numbers("full_seconds"),
        "estimated": fields.flag("estimated"),
        "unit": fields.text("unit"),
    }
    for row in [*groups, *rows]:
        row.finish()
    try:
        table = build(**arguments)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    # last, since a field that can't be is worth more to a reader than a checksum that differs
    fields.finish()
    return table


def write_table(path: Path, fields: Mapping[str, Any]) -> None:
    """Writes a table's fields, named as `read_table` gives them; raises `InputError` if the file can't be written."""
    names = zip(fields["group_names"], fields["group_filters"], strict=True)
    content = {
        "network": fields["network"],
        "groups": [{"name": name, "filters": filters} for name, filters in names],
        **{name: fields[name] for name in ("full_macs", "full_seconds", "estimated", "unit", "entries", "provenance")},
    }
    write_document(path, _KIND, _SCHEMA, content)


def _entry(row: Fields, passes: int) -> dict[str, Any]:
    if passes > 1:
        row.older(batch_share=1.0, depth=0, step_factor=1.0, memory=None)
    return {
        "widths": row.wholes("widths", least=1),
        "macs": passes * row.whole("macs", least=1),
        "progress": row.number("progress"),
        "progress_stderr": row.number("progress_stderr"),
        "flops": row.number("flops"),
        "seconds": row.named_numbers("seconds"),
        "batch_share": row.positive("batch_share", most=1),
        "depth": row.whole("depth", least=0),
        "step_factor": row.positive("step_factor", most=LONGEST_STEP),
        "memory": row.number("memory"),
    }


def _shipped_tables() -> Traversable:
    return importlib.resources.files("distreal_jax").joinpath("tables")
