"""What runs would do, what they would cost and about how long they would take, before any is started; writes nothing.

What is done comes from the planner of the real run. Time is estimated from traced training steps (`estimate`), or measured.
"""

import dataclasses
import functools
from collections.abc import Hashable, Iterable, Sequence

import jax
import numpy as np
import numpy.typing as npt

from distreal_jax.experiment.speed import Speed, SpeedOf, Time, estimated_speed
from distreal_jax.fleet.aggregation import no_clients
from distreal_jax.fleet.client_steps import compact_programs
from distreal_jax.fleet.exchange import bytes_of_round
from distreal_jax.fleet.federation import Federation
from distreal_jax.record.recorded_run import Counted, RecordSettings
from distreal_jax.record.report import markdown_table, quantity
from distreal_jax.signs import bar, percent
from distreal_jax.table import TableEntry

MOST_PLANNED = 200  # rounds of a training, evenly spread, that stand for all of its rounds; chosen by us: half a second
WROTE_NOTHING = "Nothing was written."
_BAR = 40  # characters of the longest bar of the histogram


@dataclasses.dataclass(frozen=True)
class Forecast:
    """The rounds of one method and seed, planned.

    Attributes:
      method: Name of the method.
      seed: Seed of the world.
      entries: The table that devices choose from.
      unit: The unit of cost by which they choose, as for `DropoutTable.costs`.
      costs: [entries], in that unit, relative to the full network.
      computed: [entries], MACs of the program that runs each entry, relative to the full network: entries share programs.
      mini_batches: float [entries], how often each entry will be trained.
      counted: What the run will have counted at its end.
      planned: Rounds that were planned; if not all, the counts are scaled up.
      programs: What is compiled for training; two forecasts have the programs in common that are equal.
    """

    method: str
    seed: int
    entries: tuple[TableEntry, ...]
    unit: str
    costs: npt.NDArray[np.float64]
    computed: npt.NDArray[np.float64]
    mini_batches: npt.NDArray[np.float64]
    counted: Counted
    planned: int
    programs: tuple[Hashable, ...]


def forecast(federation: Federation) -> Forecast:
    """Plans all rounds, or `MOST_PLANNED` of them that are evenly spread."""
    counted, table, rounds = Counted(), federation.table, federation.training.rounds
    mini_batches = np.zeros(len(table.entries))
    planned = range(rounds) if rounds <= MOST_PLANNED else np.linspace(0, rounds - 1, MOST_PLANNED).astype(int).tolist()
    for index in bar(iterable=planned, desc=f"plan of {federation.method.name}", unit="round", leave=False):
        plan, _ = federation.plan(index)
        counted.add(federation, plan)
        mini_batches += np.bincount(plan.entries[plan.entries >= 0], minlength=len(mini_batches))
    scale, unit = rounds / len(planned), federation.world.cost
    computed, programs = _programs(federation)
    return Forecast(
        federation.method.name,
        federation.world.seed,
        table.entries,
        unit,
        federation.costs if federation.unit == unit else table.costs(unit),
        computed,
        scale * mini_batches,
        counted.scaled(scale),
        len(planned),
        programs,
    )


def _programs(federation: Federation) -> tuple[npt.NDArray[np.float64], tuple[Hashable, ...]]:
    """MACs of the program of each entry, relative to the full network, [entries]; and what tells programs apart."""
    network, method, training = federation.world.network, federation.method, federation.training
    of_all = (method.filters, method.drawn, method.rescale, method.masked_loss, method.proximal, training.batch_size)
    configurations = federation.table.configurations
    if federation.execution == "masked":
        return np.ones(len(configurations.depths)), ((*of_all, configurations.bits),)
    computed, full = np.zeros(len(configurations.depths)), network.training_macs()
    programs = compact_programs(network, configurations, federation.examples)
    for program in programs:
        entries = list(program.entries)
        macs = network.training_macs(program.widths, program.depth)
        computed[entries] = macs / full * configurations.batch_shares[entries]
    return computed, tuple((*of_all, program.widths, program.depth, program.examples) for program in programs)


def traffic_notes(federation: Federation, num_processes: int | None) -> list[str]:
    """What so many processes would send in a round; nothing for one."""
    if num_processes is None or num_processes == 1:
        return []
    covered = federation.method.average == "covered"
    sums = jax.eval_shape(functools.partial(no_clients, covered=covered), federation.world.params)
    sent = bytes_of_round(sum(leaf.size for leaf in jax.tree.leaves(sums)), num_processes)
    return [f"Each of {num_processes} processes would send up to {quantity(sent)}B in a round of {federation.method.name}."]


def dry_run(
    federations: Iterable[Federation],
    record: RecordSettings,
    notes: Sequence[str] = (),
    *,
    speed_of: SpeedOf = estimated_speed,
    seeds: int = 1,
) -> str:
    """The text of `--dry-run`.

    Args:
      federations: The methods in their worlds, at least one; of one seed, one execution, and one network.
      record: Says how often a run is evaluated.
      notes: More lines.
      speed_of: Estimates or measures how fast this machine is.
      seeds: How many there are, of which these federations are the first.
    """
    runs = [(federation, forecast(federation)) for federation in federations]
    (first, _), plans = runs[0], [plan for _, plan in runs]
    parts = [_setting(first), _table(plans)]
    if len(plans) == 1 and len(plans[0].entries) > 1:
        parts.append(_histogram(plans[0]))
    if any(plan.planned < federation.training.rounds for federation, plan in runs):
        parts.append(f"Counts are scaled up from {MOST_PLANNED} planned rounds of each training.")
    if seeds > 1:
        parts.append(f"The table is of seed {plans[0].seed}, one of {seeds}; the time is for all of them.")
    time = time_of(runs, record, speed_of, seeds)
    return "\n".join([*parts, time.said(), *notes, WROTE_NOTHING])


def time_of(runs: Sequence[tuple[Federation, Forecast]], record: RecordSettings, speed_of: SpeedOf, seeds: int = 1) -> Time:
    """How long trainings take, one after the other.

    Args:
      runs: Those of the first seed, and what was planned of them.
      record: Says how often a run is evaluated.
      speed_of: Estimates or measures how fast this machine is.
      seeds: How many there are; later ones read compiled programs from the disk.
    """
    speeds, total, known = dict[int, Speed](), Time(), set[Hashable]()
    for federation, plan in runs:
        size = federation.training.batch_size
        if size not in speeds:
            alike = [other.entries[0] for its, other in runs if its.training.batch_size == size]
            speeds[size] = speed_of(federation, min(alike, key=lambda entry: entry.work))
        speed, new = speeds[size], {key for key in plan.programs if key not in known}
        evaluations = -(-federation.training.rounds // record.eval_every)
        compiling = speed.compiling(len(new), len(plan.programs) - len(new))
        again = speed.compiling(0, len(plan.programs))
        total += Time(
            compiling + (seeds - 1) * again,
            seeds * float(plan.mini_batches @ speed.of_mini_batches(plan.computed)),
            seeds * evaluations * speed.evaluate_seconds,
            len(new),
            seeds * evaluations,
            speed.origin,
        )
        known |= new
    return total


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
        counted, done = plan.counted, round(plan.mini_batches.sum())
        rows.append(
            [
                plan.method,
                str(plan.seed),
                f"{counted.deadline_hits:,.0f} of {counted.client_rounds:,.0f}",
                f"{done:,}",
                f"{float(plan.mini_batches @ plan.costs) / max(done, 1):.1%}",
                *(quantity(macs) for macs in (counted.spent, counted.wasted, counted.idle)),
                *(quantity(moved) + "B" for moved in (counted.bytes_up, counted.bytes_down)),
            ]
        )
    return markdown_table(rows)


def _histogram(plan: Forecast) -> str:
    rows = [["entry", f"share of {_named(plan.unit)}", "mini-batches", ""]]
    most = max(plan.mini_batches.max(), 1.0)
    for index, (cost, count) in enumerate(zip(plan.costs, plan.mini_batches, strict=True)):
        rows.append([str(index), percent(cost), f"{count:,.0f}", "█" * round(_BAR * count / most)])
    return markdown_table(rows)


def _named(unit: str) -> str:
    return "MACs" if unit == "macs" else f"seconds on {unit.removeprefix('seconds:')}"
