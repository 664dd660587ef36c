"""Train one method on a simulated fleet.

    distreal train                              # distreal on digits, with the table that comes with the package
    distreal train --method partial_work

A method that chooses from a searched table needs one: --table names a file that `distreal search` wrote, or a table that
comes with the package. A run that is stopped and started again goes on from its last checkpoint.
"""

import dataclasses
from typing import Annotated

from distreal_jax.experiment import (
    DryRun,
    GivenTable,
    HowExecuted,
    JobSettings,
    Measure,
    OneMethod,
    OutputSettings,
    Plain,
    PlainFlags,
    dry_run,
    needed_table,
    open_folder,
    run_method,
    speed_of,
    traffic_notes,
)
from distreal_jax.experiment.comparison import table_settings
from distreal_jax.experiment.measured import GivenSeconds, counted_in
from distreal_jax.fleet.federation import Federation
from distreal_jax.fleet.method_table import table_for
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.methods import method_named
from distreal_jax.record.recorded_run import RecordSettings
from distreal_jax.record.report import delivered
from distreal_jax.record.run_folder import RESULTS_KIND
from distreal_jax.record.statistics import of_evaluations
from distreal_jax.settings import SEED, STEPS
from distreal_jax.tuning import settings_of


@dataclasses.dataclass(frozen=True)
class Options:
    """Train one method on a simulated fleet whose resources change while it trains."""

    method: OneMethod = "distreal"
    table: GivenTable = None
    seconds: GivenSeconds = None
    seed: Annotated[int, SEED] = 0
    """Seed of the data split, the devices, the first weights and the load."""
    examples: Annotated[int, STEPS] | None = None
    """Examples that a device with full availability trains on in a round, instead of --steps: to compare batch sizes at
    equal MACs."""
    execution: HowExecuted = "compact"
    world: Plain[WorldSettings] = WorldSettings()
    training: Plain[TrainingSettings] = TrainingSettings()
    record: PlainFlags[RecordSettings] = RecordSettings()
    output: PlainFlags[OutputSettings] = OutputSettings()
    job: Plain[JobSettings] = JobSettings()
    dry_run: DryRun = False
    measure: Measure = False


def main(options: Options) -> None:
    """Trains and prints the result."""
    method, training = method_named(options.method), options.training
    if options.examples is not None:
        _, training = settings_of({}, method, dataclasses.replace(training, steps=options.examples, batch_size=1))
        _, training = settings_of({"batch_size": options.training.batch_size}, method, training)
    world = World.make(options.world, options.seed)
    searched = needed_table(options.table, world, [method])
    counted = counted_in(options.world, training, options.seconds, world, planned=options.dry_run)
    options, world = dataclasses.replace(options, world=counted.settings), counted.of(world)
    counted.say_how_sure(searched)
    table = table_for(method, world, searched, training, counted.measured)
    federation = Federation(world, method, table, training, options.execution)
    if options.dry_run:
        notes = [*counted.notes, *traffic_notes(federation, options.job.num_processes)]
        print(dry_run([federation], options.record, notes, speed_of=speed_of(measure=options.measure)))
        return
    with open_folder(options.output, f"train-{method.name}", options, table=table_settings(federation)) as folder:
        result = run_method(federation, options.record, options.output, folder)
        folder.write_part("results.json", RESULTS_KIND, {"runs": [result.to_json()]})
        of = "" if result.delivered == 1 else f"of a model with {delivered(result.delivered)}, "
        of += of_evaluations(len(result.accuracies))
        print(f"{method.name}: {result.score_name} {result.final:.4f} ({of}), {folder.path}")
