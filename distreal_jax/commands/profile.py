"""What each entry of a dropout table costs on this device: seconds of its training step, and FLOPs by XLA's count.

    python experiments/profile_device.py --table runs/search-HASH/table.json --dataset fashion_mnist \
        --data-dir ../shared/tfds --model leaf_cnn

writes runs/profile-HASH/table.json, the same table with a column of FLOPs and one of seconds under the device's name, and a
picture of seconds against MACs. The table that is given stays as it is. The same command again measures again.

    python experiments/train.py --table runs/profile-HASH/table.json --cost "seconds:NAME" ...

then lets the simulated devices choose entries by these seconds. Measured is one client on one device: a CPU core, an
accelerator. Give the batch size and optimiser that devices will train with.
"""

import dataclasses
from typing import Any

from distreal_jax.experiment import DryRun, GivenTable, OutputSettings, Plain, PlainFlags, open_folder, the_table, tracked
from distreal_jax.fleet.federation import Federation
from distreal_jax.fleet.profile import UNCERTAIN, ProfileSettings, StepProfile, profile_steps
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.methods import METHODS
from distreal_jax.record import Section, provenance, seconds_picture, write_report
from distreal_jax.record.report import markdown_table, quantity
from distreal_jax.record.run_folder import RESULTS_KIND
from distreal_jax.signs import duration, percent
from distreal_jax.table import DropoutTable


@dataclasses.dataclass(frozen=True)
class Options:
    """Measure what each entry of a dropout table costs on this device, in seconds and in FLOPs."""

    table: GivenTable = None
    cut_batches: bool = False
    """Also measure mini-batches with fewer examples, for methods that leave out examples first (`batch=cut`)."""
    device_name: str | None = None
    """Name of the column of seconds; without it that of the accelerator or CPU."""
    profile: Plain[ProfileSettings] = dataclasses.field(default_factory=ProfileSettings)
    world: Plain[WorldSettings] = WorldSettings(partition="iid")
    training: Plain[TrainingSettings] = TrainingSettings()
    output: PlainFlags[OutputSettings] = OutputSettings()
    dry_run: DryRun = False


def main(options: Options) -> None:
    """Measures and reports."""
    world = World.make(options.world, seed=0)  # what a step costs does not depend on it
    table = the_table(options.table, world, "profile")
    if options.cut_batches:
        table = table.with_cut_batches(options.training.batch_size)
    if options.dry_run:
        steps, timing = len(table.entries) + (not table.has_full), options.profile
        seconds = steps * timing.repetitions * timing.sample_seconds
        print(
            f"{steps} training steps, to compile and to time {timing.repetitions} times each, by turns: at least "
            f"{duration(seconds)} beside compiling, up to {timing.more} times more where timings are too noisy.\n"
            "Nothing was written."
        )
        return
    source, output = provenance(), options.output
    device = options.device_name or ", ".join(sorted(set(source["accelerators"]))) or source["cpu"]
    federation = Federation(world, METHODS["distreal"], table, options.training)
    decided: Any = {"table": table.as_settings(), "device_name": device}
    with open_folder(output, "profile", options, again="all is measured again", **decided) as folder:
        with tracked(output, folder, "profile") as tracker:
            profile = profile_steps(federation, options.profile)
            conditions = {
                "training": dataclasses.asdict(options.training),
                "quartiles": profile.quartiles.tolist(),
                "full_flops": profile.full_flops,
            }
            measured, unit = profile.added_to(table, device), f"seconds:{device}"
            origin = {**measured.provenance, unit: {**measured.provenance[unit], **source, **conditions}}
            measured = dataclasses.replace(measured, provenance=origin)
            measured.save(folder.path / "table.json")
            seconds_picture(
                folder.path / "seconds.png",
                [[*table.costs(), 1.0]],
                [[*profile.seconds, measured.full_seconds[device]]],
                [device],
            )
            tracker.log_picture(folder.path / "seconds.png")
            tracker.log_artifact(folder.path / "table.json", "dropout-table", "dropout-table")
        folder.write_part(
            "results.json", RESULTS_KIND, {"table": "table.json", "device": device, **dataclasses.asdict(profile)}
        )
        section = section_of(table, measured, profile, device)
        write_report(folder.path / "report.md", "What a training step costs", section)
        print(section.text)
        print(f'table: {folder.path / "table.json"}; to choose by seconds: --cost "seconds:{device}"')


def section_of(table: DropoutTable, measured: DropoutTable, profile: StepProfile, device: str) -> Section:
    """For a report: cost of each entry in MACs, FLOPs and seconds, and the picture.

    Args:
      table: Whose entries were measured.
      measured: The same with the seconds of the device; entries that are not worth choosing by them may have left.
      profile: What was measured of the entries of the first, in their order.
      device: Name of the device.
    """
    unit = f"seconds:{device}"
    rows = [["entry", "share of MACs", "FLOPs a step", "share of FLOPs", "ms a step", "middle half", "share of seconds"]]
    full_seconds = measured.full_seconds[device]
    columns = zip(table.costs(), profile.flops, profile.seconds, profile.quartiles, strict=True)
    for index, (macs, flops, seconds, (low, high)) in enumerate(columns):
        of_flops, spread = percent(flops / profile.full_flops), f"{1e3 * low:.3g} to {1e3 * high:.3g}"
        milliseconds, share = f"{1e3 * seconds:.3g}", percent(seconds / full_seconds)
        rows.append([str(index), percent(macs), quantity(flops), of_flops, milliseconds, spread, share])
    worth = [entry.configuration for entry in measured.worth_choosing(unit)]
    never = [str(index) for index, entry in enumerate(table.entries) if entry.configuration not in worth]
    notes = f"Measured on {device}; the full network takes {1e3 * full_seconds:.3g} ms a step."
    if profile.noisy:
        notes += (
            f" **These timings are too noisy to choose by**: the costs of {len(profile.noisy)} entries are uncertain by "
            f"more than {UNCERTAIN:.0%} after {profile.full_samples.size} timings. Measure again while the machine does "
            "nothing else, or with a larger --sample-seconds."
        )
    if not worth:
        notes += (
            " By seconds, every entry is slower than the full network: to choose by them, add the full network to the table."
        )
    elif never:
        notes += f" By seconds, entries {', '.join(never)} are never chosen: a better one, or the full network, is as fast."
    return Section(
        "Cost of each entry", f"{notes}\n\n{markdown_table(rows)}", {"seconds.png": "Seconds of a step over MACs"}
    )
