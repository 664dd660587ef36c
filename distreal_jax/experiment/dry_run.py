"""What runs would do, what they would cost and about how long they would take, before any is started; writes nothing.

What is done comes from the planner of the real run, over all of its rounds. Time is estimated from two table entries, which
are compiled and run for a moment on this machine.
"""

import dataclasses
import time
from collections.abc import Iterable, Sequence

import jax
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from distreal_jax.fleet.federation import Federation
from distreal_jax.record.recorded_run import Counted, RecordSettings
from distreal_jax.record.report import markdown_table, quantity
from distreal_jax.signs import duration
from distreal_jax.table import DropoutTable, TableEntry

_TIMED_ROUNDS = 3  # chosen by us: the first ones compile, the last one is timed
_TIMED_STEPS = 3  # chosen by us: long enough for a round's own overhead to be a part of it as small as in training
_BAR = 40  # characters of the longest bar of the histogram


@dataclasses.dataclass(frozen=True)
class Forecast:
    """All rounds of one method and seed, planned.

    Attributes:
      method: Its name.
      seed: Of the world.
      entries: The table that its devices choose from.
      unit: What they choose by, as for `DropoutTable.costs`.
      costs: [entries], in that unit, relative to the full network.
      macs: [entries], relative to the full network.
      mini_batches: int [entries], how often each entry will be trained.
      counted: What the run will have counted at its end.
    """

    method: str
    seed: int
    entries: tuple[TableEntry, ...]
    unit: str
    costs: npt.NDArray[np.float64]
    macs: npt.NDArray[np.float64]
    mini_batches: npt.NDArray[np.int64]
    counted: Counted


@dataclasses.dataclass(frozen=True)
class Speed:
    """How fast this machine runs one world's network, all of its devices at work.

    Attributes:
      compile_seconds: For the program of one table entry.
      evaluate_seconds: For one evaluation of the full network, by its MACs.
      macs: (fewer, more) of the entries that were timed, relative to the full network.
      seconds: Of a mini-batch of each.
    """

    compile_seconds: float
    evaluate_seconds: float
    macs: tuple[float, float]
    seconds: tuple[float, float]

    def of_mini_batches(self, macs: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Seconds of mini-batches of so many MACs, relative to the full network, [entries]; linear in them."""
        (low, high), (least, most) = self.macs, self.seconds
        slope = (most - least) / (high - low) if high > low else 0.0
        return np.maximum(least + slope * (np.asarray(macs) - low), 0.0)


def forecast(federation: Federation) -> Forecast:
    """Plans all rounds."""
    counted, table = Counted(), federation.table
    mini_batches = np.zeros(len(table.entries), dtype=np.int64)
    rounds = federation.training.rounds
    # Without a terminal there is no bar.
    for index in tqdm(range(rounds), f"plan of {federation.method.name}", unit="round", leave=False, disable=None):
        plan, _ = federation.plan(index)
        counted.add(federation, plan)
        mini_batches += np.bincount(plan.entries[plan.entries >= 0], minlength=len(mini_batches))
    name, seed, unit = federation.method.name, federation.world.seed, federation.world.cost
    return Forecast(name, seed, table.entries, unit, table.costs(unit), table.costs(), mini_batches, counted)


def measured_speed(federation: Federation, cheapest: TableEntry) -> Speed:
    """Times an entry and the full network, trained as this federation trains but without a limit."""
    network, world = federation.world.network, federation.world
    full = DropoutTable.full(network)
    compiling, most = _timed(federation, full)
    low, least = 1.0, most
    # Masked, every entry costs as much as the full network.
    if federation.execution == "compact" and cheapest.work < network.macs():
        alone = dataclasses.replace(full, entries=(cheapest,))
        low, (compiling_too, least) = cheapest.work / network.macs(), _timed(federation, alone)
        compiling = (compiling + compiling_too) / 2
    # Forward passes alone are a third of training, and need not be compiled to be counted.
    examples = world.evaluator.test.num_examples + len(world.evaluator.statistics)
    evaluating = most * examples / (3 * federation.training.batch_size)
    return Speed(compiling, evaluating, (low, 1.0), (least, most))


def dry_run(federations: Iterable[Federation], record: RecordSettings, notes: Sequence[str] = ()) -> str:
    """The text of `--dry-run`.

    Args:
      federations: The methods in their worlds, at least one; of one execution, and one network and training.
      record: Says how often a run is evaluated.
      notes: More lines to say.
    """
    plans, first = [], None
    for federation in federations:
        first = first or federation
        plans.append(forecast(federation))
    assert first is not None
    speed = measured_speed(first, min((plan.entries[0] for plan in plans), key=lambda entry: entry.work))
    parts = [_setting(first), _table(plans)]
    if len(plans) == 1 and len(plans[0].entries) > 1:
        parts.append(_histogram(plans[0]))
    return "\n".join([*parts, _time(plans, speed, first, record), *notes, "Nothing was written."])


def _timed(federation: Federation, table: DropoutTable) -> tuple[float, float]:
    """Seconds to compile the round of a table of one entry, and of one of its mini-batches."""
    alone = dataclasses.replace(
        federation,
        table=table,
        method=dataclasses.replace(federation.method, limited=False),
        training=dataclasses.replace(federation.training, steps=min(federation.training.steps, _TIMED_STEPS)),
    )
    server, seconds, mini_batches = alone.start(), [], 0
    for index in range(_TIMED_ROUNDS):
        plan, work = alone.plan(index)
        begun = time.perf_counter()
        server, _ = jax.block_until_ready(alone.run_round(server, work, index))
        seconds.append(time.perf_counter() - begun)
        mini_batches = int((plan.entries >= 0).sum())
    return sum(seconds) - len(seconds) * seconds[-1], seconds[-1] / max(mini_batches, 1)


def _setting(federation: Federation) -> str:
    world, training = federation.world, federation.training
    by_macs = world.cost == "macs"
    return (
        f"{world.dataset.name}: {world.train.num_examples:,} training examples on {world.devices:,} devices; "
        f"{quantity(world.network.macs())}MACs for the forward pass of one.\n"
        + "".join(f"{whole}\n" for whole in world.network.kept_whole)
        + f"{training.rounds} rounds of {training.devices_per_round} devices, each {training.steps} mini-batches of "
        f"{training.batch_size} if it has all resources.\n"
        + (
            ""
            if by_macs
            else f"Devices choose by {_named(world.cost)}; idle: what the full network would do in that time.\n"
        )
    )


def _table(plans: Sequence[Forecast]) -> str:
    mean = f"mean share of {_named(plans[0].unit)}"
    rows = [["method", "seed", "cut by the deadline", "mini-batches", mean, "MACs spent", "wasted", "idle", "up", "down"]]
    for plan in plans:
        counted, done = plan.counted, int(plan.mini_batches.sum())
        rows.append(
            [
                plan.method,
                str(plan.seed),
                f"{counted.deadline_hits:,} of {counted.client_rounds:,}",
                f"{done:,}",
                f"{float(plan.mini_batches @ plan.costs) / max(done, 1):.1%}",
                *(quantity(macs) for macs in (counted.spent, counted.wasted, counted.idle)),
                *(quantity(moved) + "B" for moved in (counted.bytes_up, counted.bytes_down)),
            ]
        )
    return markdown_table(rows)


def _histogram(plan: Forecast) -> str:
    rows = [["entry", f"share of {_named(plan.unit)}", "mini-batches", ""]]
    most = max(int(plan.mini_batches.max()), 1)
    for index, (cost, count) in enumerate(zip(plan.costs, plan.mini_batches, strict=True)):
        rows.append([str(index), f"{cost:.1%}", f"{count:,}", "█" * round(_BAR * int(count) / most)])
    return markdown_table(rows)


def _named(unit: str) -> str:
    return "MACs" if unit == "macs" else f"seconds on {unit.removeprefix('seconds:')}"


def _time(plans: Sequence[Forecast], speed: Speed, federation: Federation, record: RecordSettings) -> str:
    training = sum(float(plan.mini_batches @ speed.of_mini_batches(plan.macs)) for plan in plans)
    programs = sum(len(plan.entries) if federation.execution == "compact" else 1 for plan in plans)
    evaluations = len(plans) * -(-federation.training.rounds // record.eval_every)
    compiling, evaluating = programs * speed.compile_seconds, evaluations * speed.evaluate_seconds
    devices = jax.devices()
    return (
        f"About {duration(compiling + training + evaluating)} on {len(devices)} {devices[0].device_kind} "
        f"device{'s' if len(devices) > 1 else ''}: {duration(compiling)} to compile {programs} programs, "
        f"{duration(training)} of training, {duration(evaluating)} for {evaluations} evaluations. "
        "Estimated from the cheapest entry and the full network, measured just now."
    )
