"""How a large population behaves: rounds of 1,000 clients from 1,000,000 devices, with their time and peak memory.

    python experiments/population.py

prints one JSON line. Every device holds one synthetic 8x8 image (a million real ones would measure the disk), its load is
redrawn three times a round, and the method is DISTREAL with one rate for all layers. Memory grows with the clients that
train at once, not with the devices.
"""

import dataclasses
import json
import time
from typing import Annotated

import jax

from distreal_jax.data.datasets import synthetic_dataset
from distreal_jax.experiment import DryRun, Quiet, dry_run
from distreal_jax.experiment.surroundings import peak_memory_mib
from distreal_jax.fleet.federation import Federation
from distreal_jax.fleet.method_table import table_for
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.methods import METHODS
from distreal_jax.record.recorded_run import RecordSettings
from distreal_jax.settings import COUNT, STEPS
from distreal_jax.signs import duration, say

MOST_PLANNED_DEVICES = 10_000  # chosen by us: a world of so many is made in a second


@dataclasses.dataclass(frozen=True)
class Options:
    """Time rounds of a large population on this machine."""

    devices: Annotated[int, COUNT] = 1_000_000
    """Devices in the population."""
    clients: Annotated[int, COUNT] = 1000
    """Clients of a round."""
    steps: Annotated[int, STEPS] = 5
    """Mini-batches of 10 that a device with all resources manages in a round."""
    rounds: Annotated[int, STEPS] = 3
    """Rounds that are timed, after one that compiles."""
    quiet: Quiet = False
    dry_run: DryRun = False


def federation_of(options: Options) -> tuple[Federation, float]:
    """The federation, and the seconds that it took to make its world.

    Args:
      options: The command line.
    """
    begin = time.perf_counter()
    dataset = synthetic_dataset(num_examples=options.devices, image_shape=(8, 8, 1), num_classes=10, seed=0)
    world = World.make(WorldSettings(partition="iid", devices=options.devices), 0, dataset)
    made = time.perf_counter() - begin
    method = METHODS["distreal_uniform"]
    training = TrainingSettings(
        rounds=options.rounds + 1, devices_per_round=options.clients, steps=options.steps, batch_size=10
    )
    return Federation(world, method, table_for(method, world, None, training), training), made


def main(options: Options) -> None:
    """Times the parts and prints the JSON line."""
    if options.dry_run:  # what rounds take does not depend on the devices that are not asked
        fewer = min(options.devices, max(MOST_PLANNED_DEVICES, options.clients))
        note = f"Planned with {fewer:,} of {options.devices:,} devices; making all of them takes seconds to minutes more."
        federation, _ = federation_of(dataclasses.replace(options, devices=fewer))
        print(dry_run([federation], RecordSettings(eval_every=federation.training.rounds), [note]))
        return
    say(f"making {options.devices:,} devices")
    federation, made = federation_of(options)
    server = federation.start()
    planning, training_seconds = [], []
    for index in range(options.rounds + 1):
        begin = time.perf_counter()
        _, work = federation.plan(index)
        planning.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        server, _ = jax.block_until_ready(federation.run_round(server, work, index))
        training_seconds.append(time.perf_counter() - begin)
        of = f"round {index} of {options.rounds}" if index else "a first round, which compiles"
        say(f"{of}: {options.clients:,} clients in {duration(training_seconds[-1])}")
    print(
        json.dumps(
            {
                "devices": options.devices,
                "clients": options.clients,
                "seconds_to_make_the_world": round(made, 1),
                "seconds_to_plan": [round(seconds, 3) for seconds in planning[1:]],
                "seconds_to_train": [round(seconds, 2) for seconds in training_seconds[1:]],
                "seconds_of_the_first_round": round(training_seconds[0], 1),
                "compilations": sum(federation.round.compilations().values()),
                "peak_memory_mib": peak_memory_mib(),
                "device": f"{len(jax.devices())} x {jax.devices()[0].device_kind}",
            }
        )
    )
