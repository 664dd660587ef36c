"""Which dropout table an experiment uses: the one that is given, or the one that comes with the package for its network."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from distreal_jax import processes
from distreal_jax.errors import InputError
from distreal_jax.files import user_path
from distreal_jax.fleet.world import World
from distreal_jax.methods import METHODS, Method
from distreal_jax.table import DropoutTable, shipped_tables


def table_of(source: str, world: World) -> DropoutTable:
    """A table by file or by the name of a shipped one, checked to be made for the world's network."""
    return DropoutTable.load(source).checked_for(world.network)


def given_or_shipped(source: str | None, world: World, *, planned: bool = False) -> DropoutTable | None:
    """The table that is given; otherwise the package's own of filters for the world's network; None: neither.

    Args:
      source: A file or a name; `{seed}` in it stands for the world's seed.
      world: Has the network.
      planned: A file that is not there yet is none, as a dry run may come before the search.

    Raises:
      InputError: As `table_of`.
    """
    if source is None:
        return DropoutTable.shipped_for(world.network)
    path = source.replace("{seed}", str(world.seed))
    if planned and path.endswith(".json") and not user_path(path).exists():
        return None
    return table_of(path, world)


def the_table(source: str | None, world: World, needed_by: str) -> DropoutTable:
    """The table that is given, or else the one that comes with the package, for a method that needs one.

    Args:
      source: A file, the name of a table of the package, or None.
      world: The world, whose network the table has to be of.
      needed_by: The method's name, for errors.

    Raises:
      InputError: There is no table; the line says which methods need none. Or as `table_of`.
    """
    table = given_or_shipped(source, world)
    if table is None:
        free = ", ".join(name for name, method in METHODS.items() if method.rates != "table")
        named = " or ".join(f"--table {name}" for name in DropoutTable.all_shipped_for(world.network))
        there = f"but {named} (every knob)" if named else f"(there are those of {', '.join(shipped_tables())})"
        raise InputError(
            f"{needed_by} needs a dropout table, and none comes with the package for this network and input size {there}; "
            f"search one with `distreal search` and give it with --table; methods that need none: {free}"
        )
    return table


def needed_table(source: str | None, world: World, methods: Sequence[Method]) -> DropoutTable | None:
    """`the_table` if one of the methods needs a table, else `given_or_shipped`.

    Args:
      source: A file, the name of a table of the package, or None.
      world: The world, whose network the table has to be of.
      methods: Those that are to be trained.

    Raises:
      InputError: As `the_table`.
    """
    needs = [method.name for method in methods if method.rates == "table"]
    if needs and world.network.filter_groups:
        return the_table(source, world, needs[0])
    return given_or_shipped(source, world)


def table_in_all(file: Path) -> DropoutTable:
    """A table that process 0 has in a file, in all processes of a job, who need not see its disk.

    Raises:
      InputError: As `DropoutTable.load`.
    """
    content = processes.told_bytes(file.read_bytes() if processes.is_first() else b"")
    if processes.is_first():
        return DropoutTable.load(file)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, file.name)
        copy.write_bytes(content)
        return DropoutTable.load(copy)
