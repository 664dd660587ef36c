"""Is the search worth it? NSGA-II against vectors that take no search, at equal numbers of evaluations.

    python experiments/search_study.py --dataset fashion_mnist --data-dir ../shared/tfds --model small_cnn

Expected: the configs search_study_digits and search_study_resnet20 say. This command took 18 min on 2 CPU cores on
2026-11-23, before measurements were pooled, and NSGA-II was ahead by little (hypervolume, 95 % over 5 seeds): +0.015
[-0.002, +0.039] over one rate, +0.004 [-0.015, +0.023] over random rates, +0.012 [-0.001, +0.027] over most where MACs are
highest.

The rivals: one rate for all layers; random rates per layer; rates in proportion to what a layer's filters cost ("drop most
where MACs are highest"); and one rate for the filters inside blocks, for networks that have residual streams or
concatenations. For each seed all of them meet the same first weights, mini-batches and held-out examples, and are given as
many evaluations as NSGA-II used. A search over several knobs (`--search.knobs`) meets the same search with each of them left
out as well, which says what a knob is worth. Each chooses its front as a search does, which measures afresh as many of the
best as a population has, and NSGA-II's besides those that it began with. The front is then judged by measurements that had
no part in any choice. Finished parts are not run again, and a search that was stopped goes on after its last generation.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from tqdm import tqdm

from distreal_jax.errors import InputError
from distreal_jax.experiment import (
    DryRun,
    Measure,
    OutputSettings,
    Plain,
    PlainFlags,
    measuring_dry_run,
    open_folder,
    parsed_seeds,
)
from distreal_jax.experiment.dry_run import WROTE_NOTHING
from distreal_jax.experiment.proxy import proxy_in
from distreal_jax.experiment.search_dry_run import measurements
from distreal_jax.experiment.tracked import tracked
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.record import (
    Front,
    RunFolder,
    Section,
    mean_interval,
    paired_difference,
    rivals_picture,
    write_report,
)
from distreal_jax.record.report import level, markdown_table, signed
from distreal_jax.record.run_folder import RESULTS_KIND
from distreal_jax.search import (
    SearchResult,
    SearchSettings,
    SearchSpace,
    evaluate_rates,
    inner_weights,
    macs_weights,
    random_rates,
    search,
    uniform_rates,
    weighted_rates,
)
from distreal_jax.search.evaluation import EvaluatedVectors
from distreal_jax.search.front import area_below
from distreal_jax.search.nsga2 import ALGORITHM
from distreal_jax.search.progress import Progress, ProgressSettings, describe
from distreal_jax.signs import bar as progress_bar
from distreal_jax.signs import duration, how_many, percent, say
from distreal_jax.tracing import TracedNetwork

SEARCH = "nsga2"
PART_KIND = "distreal_jax outcome of a search"
KNOB_NAMES = {"filters": "dropped filters", "examples": "fewer examples", "depth": "frozen layers", "step": "step factors"}
ARMS = {
    SEARCH: "NSGA-II",
    "uniform": "one rate for all layers",
    "random": "random rates",
    "macs": "most where MACs are highest",
    "inner": "block-inner filters alone",
    **{f"without_{knob}": f"NSGA-II without {name}" for knob, name in KNOB_NAMES.items()},
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Compare a search with vectors that take no search, at equal numbers of evaluations."""

    seeds: str = "0-4"
    """Seeds, such as 0,1,2 or 0-4; each is the seed of the search as well."""
    world: Plain[WorldSettings] = WorldSettings(partition="iid")
    training: Plain[TrainingSettings] = TrainingSettings()
    progress: ProgressSettings = ProgressSettings(held_out=500)
    search: SearchSettings = SearchSettings(population=16, generations=8)
    output: PlainFlags[OutputSettings] = OutputSettings()
    dry_run: DryRun = False
    measure: Measure = False


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What an arm came to with one seed.

    Attributes:
      arm: A key of `ARMS`.
      seed: The seed.
      evaluated: Different vectors evaluated.
      widths: Of the front that the arm chose, [front][groups].
      others: What else its configurations choose, [front]: share of examples, depth, step factor.
      costs: Of the front, fractions of the full network's, [front].
      progress: Of the front, by measurements that did not choose it, [front].
      stderr: Standard error of `progress`, [front].
      area: Below the front as judged (`area_below`): fraction of the full cost times accuracy.
      over_octaves: The same over the logarithm of cost: octaves of cost times accuracy.
      as_chosen: The same as estimated from the measurements that chose the front.
    """

    arm: str
    seed: int
    evaluated: int
    widths: tuple[tuple[int, ...], ...]
    others: tuple[tuple[float, int, float], ...]
    costs: tuple[float, ...]
    progress: tuple[float, ...]
    stderr: tuple[float, ...]
    area: float
    over_octaves: float
    as_chosen: float

    @classmethod
    def judged(cls, arm: str, seed: int, found: SearchResult, space: SearchSpace, measured: Progress) -> Self:
        """Measures a front on repeats that neither selected its vectors nor decided which of them are the front.

        Args:
          arm: A key of `ARMS`.
          seed: The seed.
          found: The front that the arm chose.
          space: Counts what vectors cost.
          measured: Measures their progress.
        """
        settings, widths = found.settings, tuple(entry.widths for entry in found.front)
        vectors = [entry.configuration for entry in found.front]
        # no arm has more generations than the search: all are judged by the same random numbers, which none has used
        used = settings.generations * settings.repeats + settings.final_repeats
        progress = EvaluatedVectors(space, measured, settings).measure(vectors, range(used, used + settings.final_repeats))
        costs, mean = np.array([space.cost(vector) for vector in vectors]), progress.mean(axis=1)
        return cls(
            arm,
            seed,
            len(found.evaluated),
            widths,
            tuple((vector.batch_share, vector.depth, vector.step_factor) for vector in vectors),
            tuple(costs.tolist()),
            tuple(mean.tolist()),
            tuple((progress.std(axis=1, ddof=1) / np.sqrt(settings.final_repeats)).tolist()),
            area_below(costs, mean),
            area_below(np.log2(costs), mean, (0.0, 0.0)),
            found.hypervolume(),
        )


def main(options: Options) -> None:
    """Runs what is not finished and reports.

    Args:
      options: The command line.

    Raises:
      InputError: A seed of the search is given beside the seeds.
    """
    seeds = parsed_seeds(options.seeds)
    if options.search.seed:
        raise InputError(f"search seed {options.search.seed} is given beside the seeds; the searches' seeds are --seeds")
    world = World.make(options.world, seeds[0])
    arms = arms_of(options.search, world.network)
    if options.dry_run:
        print(planned(options, world, arms, len(seeds)))
        return
    output = options.output
    with open_folder(output, "search_study", options, algorithm=ALGORITHM) as folder:
        bar = progress_bar(total=len(seeds) * len(arms), desc="study", unit="part")
        with tracked(output, folder, "search_study") as tracker, bar:
            outcomes = [outcome for seed in seeds for outcome in outcomes_of(seed, arms, options, world, folder, bar)]
            section = drawn(folder, outcomes, arms)
            tracker.log_picture(folder.path / "rivals.png")
        write_report(folder.path / "report.md", "What a search is worth", section)
        print(section.text)
        print(f"report: {folder.path / 'report.md'}")


def arms_of(settings: SearchSettings, network: TracedNetwork) -> list[str]:
    """The ways to choose vectors: rivals of filters, where these are searched, and the search with each knob left out.

    Args:
      settings: Of the search.
      network: The traced network.

    Returns:
      Keys of `ARMS`, the search first.
    """
    arms = [SEARCH]
    if "filters" in settings.knobs:
        has_blocks = inner_weights(SearchSpace(network, settings.max_rate)).any()
        arms += ["uniform", "random", "macs", *(["inner"] if has_blocks else [])]
    left = {knob: {*settings.knobs} - {knob, "step"} for knob in settings.knobs}
    return [*arms, *(f"without_{knob}" for knob, others in left.items() if others and len(settings.knobs) > 1)]


def planned(options: Options, world: World, arms: Sequence[str], seeds: int) -> str:
    """The text of `--dry-run`: the most that is measured.

    Args:
      options: The command line.
      world: With the first seed.
      arms: Keys of `ARMS`.
      seeds: How many.
    """
    selecting, afresh = measurements(world.network, options.search, options.progress.batch_size)
    of_arm = selecting + 2 * afresh  # to choose by, to choose the front by, and to judge the front by
    line, seconds = measuring_dry_run(world, options.training, options.progress, len(arms) * of_arm, measure=options.measure)
    return (
        f"{len(arms)} ways to choose vectors, at most {of_arm:,} measurements of progress each: {selecting:,} to choose by, "
        f"{afresh:,} for the front, as many to judge it.\n{line}\n"
        f"With {how_many(seeds, 'seed')} about {duration(seeds * seconds)} in all.\n{WROTE_NOTHING}"
    )


def outcomes_of(
    seed: int, arms: Sequence[str], options: Options, first: World, folder: RunFolder, bar: "tqdm[Any]"
) -> list[Outcome]:
    """All arms with one seed, from the folder where they are finished; NSGA-II first: it sets the number of evaluations.

    Args:
      seed: The seed.
      arms: Keys of `ARMS`.
      options: The command line.
      first: The world with the first seed.
      folder: Has a file for each arm and seed.
      bar: Moves on by one for each arm.
    """
    settings = dataclasses.replace(options.search, seed=seed)
    files = {arm: f"{arm}-seed{seed}.json" for arm in arms}
    stored = {arm: folder.read_part(file, PART_KIND) for arm, file in files.items()}
    outcomes = {arm: Outcome(**outcome) for arm, outcome in stored.items() if outcome is not None}
    bar.update(len(outcomes))
    if len(outcomes) == len(arms):
        return list(outcomes.values())
    world = first if seed == first.seed else World.make(options.world, seed, first.dataset)
    network, size = world.network, options.progress.batch_size
    space = SearchSpace(network, settings.max_rate, knobs=settings.knobs, batch_size=size)
    measured = proxy_in(world, options.training, options.progress, every_knob=settings.beyond_filters)
    for arm in arms:
        if arm in outcomes:
            continue
        say(f"seed {seed}: {ARMS[arm]}")
        if arm == SEARCH or arm.startswith("without_"):
            measures = describe(options.progress, options.training, world.dataset.name, world.seed)
            name = "search_checkpoint" if arm == SEARCH else f"{arm}_checkpoint"
            knobs = tuple(knob for knob in settings.knobs if arm != f"without_{knob}")
            file, own = folder.path / f"{name}-seed{seed}.json", dataclasses.replace(settings, knobs=knobs)
            found = search(network, measured, own, checkpoint=file, measures=measures, batch_size=size)
        else:
            rates = rates_of(arm, space, outcomes[SEARCH].evaluated, seed)
            found = evaluate_rates(network, measured, settings, rates)
        outcomes[arm] = Outcome.judged(arm, seed, found, space, measured)
        folder.write_part(files[arm], PART_KIND, dataclasses.asdict(outcomes[arm]))
        bar.update()
    return [outcomes[arm] for arm in arms]


def rates_of(rival: str, space: SearchSpace, count: int, seed: int) -> np.ndarray:
    """The vectors of a rival: [vectors, searched], at most `count` of different widths.

    Args:
      rival: A key of `ARMS` that takes no search.
      space: What is searched.
      count: How many.
      seed: Of random rates.
    """
    if rival == "uniform":
        return uniform_rates(space, count)
    if rival == "random":
        # in a small space many draws round to the same widths, which are evaluated once
        rates = random_rates(space, 8 * count, seed)
        different = {space.widths(row): row for row in reversed(rates)}
        return np.array(list(reversed(different.values()))[:count])
    if rival == "macs":
        return weighted_rates(space, count, macs_weights(space))
    return weighted_rates(space, count, inner_weights(space))


def drawn(folder: RunFolder, outcomes: Sequence[Outcome], arms: Sequence[str]) -> Section:
    """Writes results.json and rivals.png; returns the section of the report, a line for each arm.

    Args:
      folder: The run's.
      outcomes: Of every arm and seed.
      arms: Keys of `ARMS`, in the order of the lines.
    """
    by_arm = {arm: [outcome for outcome in outcomes if outcome.arm == arm] for arm in arms}
    rows = [["vectors", "evaluated", "area", "NSGA-II minus it", "over octaves", "NSGA-II minus it", "as chosen"]]
    summary = {}
    for arm, own in by_arm.items():
        cells, found = [f"{np.mean([outcome.evaluated for outcome in own]):.0f}"], {}
        for measure in ("area", "over_octaves"):
            values, best = ([getattr(outcome, measure) for outcome in of] for of in (own, by_arm[SEARCH]))
            found[measure], found[f"{measure}_ahead"] = mean_interval(values), paired_difference(best, values)
            cells += [level(found[measure]), "–" if arm == SEARCH else signed(found[f"{measure}_ahead"])]
        rows.append([ARMS[arm], *cells, f"{np.mean([outcome.as_chosen for outcome in own]):.3f}"])
        summary[arm] = found
    folder.write_part("results.json", RESULTS_KIND, {"outcomes": outcomes, "summary": summary})
    first = {ARMS[arm]: own[0] for arm, own in by_arm.items()}
    rivals_picture(
        folder.path / "rivals.png",
        {name: Front(outcome.costs, outcome.progress, outcome.stderr) for name, outcome in first.items()},
        {ARMS[arm]: [outcome.area for outcome in own] for arm, own in by_arm.items()},
        title=f"The fronts, as judged (seed {outcomes[0].seed})",
    )
    notes = [
        f"{how_many(len(by_arm[SEARCH]), 'seed')}; intervals of 95 % over seeds, differences within a seed. Area is that "
        "below an arm's front by measurements that did not choose it, over MACs and over octaves of MACs; `as chosen` is by "
        "those that did. A way of one parameter has fewer different vectors than evaluations."
    ]
    if "inner" not in arms:
        notes.append(
            "No groups of this network are inside blocks (it has no residual stream and no concatenation), so "
            f'"{ARMS["inner"]}" is left out.'
        )
    knobs = [front_of(by_arm[SEARCH][0])] if any(arm.startswith("without_") for arm in arms) else []
    text = "\n\n".join([*notes, markdown_table(rows), *knobs])
    return Section("NSGA-II and its rivals", text, {"rivals.png": "Fronts of one seed, areas below them of all seeds"})


def front_of(outcome: Outcome) -> str:
    """What the searched front chooses at each cost, with the first seed.

    Args:
      outcome: Of the search.
    """
    rows = [["cost", "filters kept", "examples", "frozen layers", "step factor", "progress"]]
    columns = zip(outcome.costs, outcome.widths, outcome.others, outcome.progress, strict=True)
    for cost, widths, (share, depth, factor), progress in columns:
        kept = " ".join(map(str, widths))
        rows.append([percent(cost), kept, f"{share:.0%}", str(depth), f"{factor:.2g}", f"{progress:.3f}"])
    return f"What the search over all knobs chooses at each cost (seed {outcome.seed}):\n\n{markdown_table(rows)}"
