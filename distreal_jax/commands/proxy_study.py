"""Is the proxy right? What the search measures of a dropout vector, and what a federation that trains with it comes to.

    python experiments/proxy_study.py --dataset fashion_mnist --data-dir ../shared/tfds --model small_cnn

Expected: the configs proxy_study_digits and proxy_study_resnet20 say.

Vectors of several costs and, at each cost, several shapes (`search.design`) are trained for real: a federation in which
every device always uses that one vector, for several seeds. The proxy measures the same vectors, several times, as in a
search; and so does a proxy that trains a single device for as many mini-batches. Reported is how either orders the vectors,
against the federations: over all, and at equal cost, which is what a search decides by. Finished parts are not run again.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Annotated

import jax
import numpy as np

from distreal_jax.errors import InputError
from distreal_jax.experiment import (
    DryRun,
    HowExecuted,
    Measure,
    OutputSettings,
    Plain,
    PlainFlags,
    dry_run,
    measuring_dry_run,
    open_folder,
    parsed_list,
    parsed_seeds,
    speed_of,
)
from distreal_jax.experiment.proxy import MEASURED_KIND, measured_often, proxy_in
from distreal_jax.experiment.tracked import tracked
from distreal_jax.fleet.federation import Federation
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.methods import METHODS
from distreal_jax.record import RunFolder, Section, proxy_picture, write_report
from distreal_jax.record.rank_correlation import (
    Floats,
    agreement_within,
    interval_over_things,
    mean_over_pairs,
    partial_rank_correlation,
    rank_correlation,
)
from distreal_jax.record.recorded_run import RecordSettings, recorded_run
from distreal_jax.record.report import markdown_table, signed
from distreal_jax.record.run_folder import RESULTS_KIND
from distreal_jax.record.statistics import Interval
from distreal_jax.search import SearchSpace
from distreal_jax.search.design import DesignedVector, designed_vectors, shape_name, shapes_of
from distreal_jax.search.progress import ProgressSettings
from distreal_jax.settings import Within, check_settings
from distreal_jax.signs import bar as progress_bar
from distreal_jax.signs import how_many, percent, say
from distreal_jax.table import DropoutTable

STATISTICS = {
    "outcome": "rank correlation with the outcome",
    "outcome_at_equal_cost": "… at equal cost (partial, given cost)",
    "pairs_in_order": "pairs of one level of cost in the outcome's order",
    "one_outcome": "one measurement alone: with the outcome",
    "one_outcome_at_equal_cost": "… at equal cost",
    "repeated": "between measurements",
    "repeated_at_equal_cost": "… at equal cost",
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Measure whether the search's proxy of progress orders vectors as real federated training does."""

    shapes: str = "1,0,-1"
    """Shapes at each cost, separated by commas: tilts from 1 (wide in the first layers) to -1 (wide in the last), and
    `inside` (filters inside blocks alone are dropped)."""
    levels: Annotated[int, Within(2, 1000)] = 4
    """Costs, spread evenly over the logarithm."""
    lowest: Annotated[float, Within(0, 1, above=True)] = 0.06
    """The lowest cost, relative to the full network's."""
    highest: Annotated[float, Within(0, 1, above=True)] = 0.6
    """The highest cost: near the full network's there is room for one shape alone."""
    repeats: Annotated[int, Within(2, 10**5)] = 4
    """Measurements by each proxy; with fewer than two, nothing is known of how they agree."""
    seeds: str = "0-2"
    """Seeds of the federations, such as 0,1,2 or 0-4; the first is the proxies' as well."""
    execution: HowExecuted = "compact"
    world: Plain[WorldSettings] = WorldSettings(availability="constant:1")
    training: Plain[TrainingSettings] = TrainingSettings(rounds=24)
    progress: ProgressSettings = ProgressSettings(held_out=500)
    record: PlainFlags[RecordSettings] = RecordSettings(eval_every=2)
    output: PlainFlags[OutputSettings] = OutputSettings()
    dry_run: DryRun = False
    measure: Measure = False

    def __post_init__(self) -> None:
        check_settings(self)
        if len(shapes_of(parsed_list(self.shapes, "shapes"))) < 2:
            raise InputError(f"shapes {self.shapes!r}; give at least 2")
        if not 0 < self.lowest < self.highest <= 1:
            raise InputError(
                f"costs from {self.lowest:g} to {self.highest:g}; give fractions above 0 and up to 1, ascending"
            )
        if self.progress.devices < 2:
            raise InputError("progress devices is 1: that is the proxy to compare with; give at least 2")
        if self.world.availability != "constant:1":
            raise InputError(
                f"availability {self.world.availability!r} would cut the training of dear vectors short, which the proxy "
                "does not; leave it at constant:1"
            )


def main(options: Options) -> None:
    """Runs what is not finished and reports."""
    seeds = parsed_seeds(options.seeds)
    world = World.make(options.world, seeds[0])
    space = SearchSpace(world.network, max_rate=0.99)
    shapes = shapes_of(parsed_list(options.shapes, "shapes"))
    vectors = designed_vectors(space, np.geomspace(options.lowest, options.highest, options.levels), shapes)
    devices, steps = options.progress.devices, options.progress.steps
    proxies = {
        f"{devices} devices, averaged": options.progress,
        "one device, as many mini-batches": dataclasses.replace(options.progress, devices=1, steps=devices * steps),
    }
    if options.dry_run:
        for name, settings in proxies.items():
            count, widths = len(vectors) * options.repeats, [vector.widths for vector in vectors]
            line, _ = measuring_dry_run(world, options.training, settings, count, widths, measure=options.measure)
            print(f"{name}: {line}")
        runs = [named(federation_of(vector, world, options), vector) for vector in vectors]
        print(dry_run(runs, options.record, speed_of=speed_of(measure=options.measure), seeds=len(seeds)))
        return
    output = options.output
    with open_folder(output, "proxy_study", options) as folder:
        with tracked(output, folder, "proxy_study") as tracker:
            measured = {
                name: measurements(f"proxy-{settings.devices}.json", settings, vectors, options, world, folder)
                for name, settings in proxies.items()
            }
            trained = accuracies(vectors, seeds, options, world, folder)
            section = drawn(folder, vectors, measured, trained)
            tracker.log_picture(folder.path / "proxy.png")
        write_report(folder.path / "report.md", "Is the proxy right?", section)
        print(section.text)
        print(f"report: {folder.path / 'report.md'}")


def measurements(
    file: str,
    settings: ProgressSettings,
    vectors: Sequence[DesignedVector],
    options: Options,
    world: World,
    folder: RunFolder,
) -> Floats:
    """What a proxy measures of the vectors, [repeats, vectors], from the folder if it is there.

    Args:
      file: Of the folder, with what this proxy measured.
      settings: Of the proxy.
      vectors: The vectors.
      options: The command line.
      world: With the first seed.
      folder: The run's.
    """
    stored = folder.read_part(file, MEASURED_KIND)
    if stored is not None:
        return np.array(stored["progress"])
    say(
        f"proxy of {how_many(settings.devices, 'device')}: {how_many(len(vectors), 'vector')}, "
        f"measured {options.repeats} times each"
    )
    proxy = proxy_in(world, options.training, settings)
    progress = measured_often(proxy, [vector.widths for vector in vectors], options.repeats)
    folder.write_part(file, MEASURED_KIND, {"progress": progress})
    return progress


def accuracies(
    vectors: Sequence[DesignedVector], seeds: Sequence[int], options: Options, first: World, folder: RunFolder
) -> Floats:
    """Test accuracy of the federations that train with each vector, [seeds, vectors]; each has a folder of its own.

    Args:
      vectors: The vectors.
      seeds: Of the federations.
      options: The command line.
      first: The world with the first seed.
      folder: The run's.
    """
    final = np.zeros((len(seeds), len(vectors)))
    bar, places = progress_bar(total=final.size, desc="federations", unit="run"), itertools.count(1)
    with bar:
        for row, seed in zip(final, seeds, strict=True):
            world = first if seed == first.seed else World.make(options.world, seed, first.dataset)
            for index, vector in enumerate(vectors):
                federation = federation_of(vector, world, options)
                say(f"federation {next(places)} of {final.size}: {named(federation, vector).method.name}, seed {seed}")
                name = f"vector{index}-seed{seed}"
                with RunFolder.at(folder.path / name, {"study": folder.settings, "vector": vector, "seed": seed}) as own:
                    row[index] = recorded_run(federation, own, options.record).final
                bar.update()
            jax.clear_caches()  # the compiled steps of this seed: memory, not time, of the next one
    return final


def federation_of(vector: DesignedVector, world: World, options: Options) -> Federation:
    """Every device always trains with this vector.

    Args:
      vector: The only entry of its table.
      world: The world.
      options: How it trains.
    """
    table = DropoutTable.from_widths(world.network, [vector.widths])
    return Federation(world, METHODS["distreal"], table, options.training, options.execution)


def named(federation: Federation, vector: DesignedVector) -> Federation:
    """The same under the vector's name, for dry runs and signs of life.

    Args:
      federation: Trains with the vector.
      vector: The vector.
    """
    name = f"{shape_name(vector.shape)} at {percent(vector.cost)}"
    return dataclasses.replace(federation, method=dataclasses.replace(federation.method, name=name))


def statistics_of(vectors: Sequence[DesignedVector], measured: Floats, trained: Floats) -> dict[str, Interval]:
    """How measurements [repeats, vectors] order the vectors, beside federations [seeds, vectors]; keys of `STATISTICS`.

    Args:
      vectors: [vectors].
      measured: Progress by a proxy, float64 [repeats, vectors].
      trained: Test accuracy, float64 [seeds, vectors].
    """
    cost, level = [vector.cost for vector in vectors], [vector.level for vector in vectors]
    mean, outcome = measured.mean(axis=0), trained.mean(axis=0)

    def mean_over_repeats(correlation: Callable[..., Floats]) -> Callable[..., Floats]:
        return lambda repeats, *others: correlation(repeats, *others).mean(axis=0)

    return {
        "outcome": interval_over_things(rank_correlation, mean, outcome),
        "outcome_at_equal_cost": interval_over_things(partial_rank_correlation, mean, outcome, cost),
        "pairs_in_order": interval_over_things(agreement_within, mean, outcome, level),
        "one_outcome": interval_over_things(mean_over_repeats(rank_correlation), measured, outcome),
        "one_outcome_at_equal_cost": interval_over_things(
            mean_over_repeats(partial_rank_correlation), measured, outcome, cost
        ),
        "repeated": interval_over_things(mean_over_pairs(rank_correlation), measured),
        "repeated_at_equal_cost": interval_over_things(mean_over_pairs(partial_rank_correlation), measured, cost),
    }


def drawn(folder: RunFolder, vectors: Sequence[DesignedVector], measured: dict[str, Floats], trained: Floats) -> Section:
    """Writes results.json and proxy.png; returns the section of the report, correlations and then a line for each vector.

    Args:
      folder: The run's.
      vectors: The vectors.
      measured: Name of the proxy -> [repeats, vectors].
      trained: Test accuracy of the federations, [seeds, vectors].
    """
    outcome, cost = trained.mean(axis=0), [vector.cost for vector in vectors]
    found = {name: statistics_of(vectors, repeats, trained) for name, repeats in measured.items()}
    rows = [["", *measured]]
    rows += [[label, *(_shown(found[name][key]) for name in measured)] for key, label in STATISTICS.items()]
    each = [["filters kept", "cost", "shape", *measured, "accuracy"]]
    for index, vector in enumerate(vectors):
        gains = [_with_error(repeats[:, index], "+z.3f") for repeats in measured.values()]
        accuracy = _with_error(trained[:, index], ".3f")
        each.append([" ".join(map(str, vector.widths)), percent(vector.cost), shape_name(vector.shape), *gains, accuracy])
    notes = [
        f"{len(vectors)} vectors, federations of {how_many(len(trained), 'seed')}; intervals of 95 % by a bootstrap over "
        "vectors. Of pairs of one level, half would be in order by chance."
    ]
    if len(trained) > 1:
        reliable = [
            interval_over_things(mean_over_pairs(rank_correlation), trained),
            interval_over_things(mean_over_pairs(partial_rank_correlation), trained, cost),
        ]
        notes.append(
            "Rank correlation of the outcomes of two seeds, which are averaged here: "
            f"{_shown(reliable[0])}, at equal cost {_shown(reliable[1])}."
        )
    folder.write_part(
        "results.json",
        RESULTS_KIND,
        {"vectors": vectors, "trained": trained, "measured": measured, "statistics": found},
    )
    proxy_picture(
        folder.path / "proxy.png",
        {
            f"{name}\nrank correlation {_in_short(found[name]['outcome'])}, "
            f"at equal cost {_in_short(found[name]['outcome_at_equal_cost'])}": repeats.mean(axis=0).tolist()
            for name, repeats in measured.items()
        },
        outcome.tolist(),
        cost,
    )
    text = "\n\n".join([*notes, markdown_table(rows), markdown_table(each)])
    return Section("The proxy's order and the outcome's", text, {"proxy.png": "Accuracy of the federation over the proxy"})


def _shown(interval: Interval) -> str:
    return signed(interval) if np.isfinite(interval.mean) else "–"


def _in_short(interval: Interval) -> str:
    return f"{interval.mean:z.2f}" if np.isfinite(interval.mean) else "unknown"


def _with_error(values: Floats, form: str) -> str:
    """The mean of values [values] with its standard error, which one value alone does not have."""
    mean = format(values.mean(), form)
    return mean if len(values) < 2 else f"{mean} ± {values.std(ddof=1) / np.sqrt(len(values)):.3f}"
