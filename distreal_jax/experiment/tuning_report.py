"""What a tuning leaves: the settings file, a picture of how much settings matter, and its part of a report."""

import dataclasses
from collections.abc import Sequence

from distreal_jax.experiment.tuning import FINALISTS, Trial, Tuner, Tuning
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.json_values import json_value
from distreal_jax.record.pictures import sensitivity_picture
from distreal_jax.record.provenance import provenance
from distreal_jax.record.rank_correlation import rank_correlation
from distreal_jax.record.report import Section, delivered, markdown_table, write_report
from distreal_jax.record.run_folder import RunFolder
from distreal_jax.record.summary import measure_in_words
from distreal_jax.tuning import TunedSettings

TUNED_FILE = "tuned.json"
COLUMNS_SAID = (
    "`untuned`, `tuned`: validation scores of the usual settings and of the best trial. `test`: score of the best trial "
    "on the test set, by which nothing was chosen. `rank correlation with test`: of validation and test scores, over the "
    "trials that ran to the end, by the seeds that all of them have. `at the edge`: best values at the end of what was "
    "tried."
)


def write_tuning(folder: RunFolder, tuner: Tuner, tunings: Sequence[Tuning], world: WorldSettings) -> Section:
    """Writes `tuned.json`, the picture and the report into the folder; returns the report's section.

    Args:
      folder: Of the tuning.
      tuner: That made the tunings.
      tunings: One of each method.
      world: Data, network, devices and load that they were tuned in.

    Raises:
      InputError: A file can't be written.
    """
    of_world, training = (json_value(dataclasses.asdict(part)) for part in (world, tuner.training))
    seeds, final_seeds = ([world.seed for world in worlds] for worlds in (tuner.worlds, tuner.finals))
    origin = {**provenance(), "goal": tuner.goal, "seeds": seeds, "final_seeds": final_seeds}
    settings = TunedSettings([tuning.tuned() for tuning in tunings], of_world, training, origin)
    settings.save(folder.path / TUNED_FILE)
    quarter, scored = tuner.rungs[0], tuner.worlds[0].task.score_name

    def place(tuning: Tuning, index: int) -> tuple[float, int, float]:
        trial = tuning.trials[index]
        return float(trial.point["learning_rate"]), int(trial.point["batch_size"]), trial.score(quarter)

    sensitivity_picture(
        folder.path / "sensitivity.png",
        {tuning.method.name: [place(tuning, index) for index in range(len(tuning.trials))] for tuning in tunings},
        {tuning.method.name: place(tuning, tuning.trials.index(tuning.best)) for tuning in tunings},
        quarter,
        {tuning.method.name: tuning.best.delivered for tuning in tunings},
        scored,
    )
    pictures = {"sensitivity.png": f"Validation {scored} over learning rate and batch size, for each method"}
    tables = f"{tuning_table(tunings)}\n{COLUMNS_SAID}\n\n{tuned_table(settings)}"
    said = [f"Tuned for {measure_in_words(tuner.goal, scored)}."]
    if final_seeds:
        further = ", ".join(map(str, final_seeds))
        said.append(f"Seeds {further} decided between the usual settings and up to {FINALISTS} trials of each method.")
    text = f"{' '.join(said)}\n\n{tables}"
    section = Section("Tuning", text, pictures)
    write_report(folder.path / "report.md", "Tuning", section)
    return section


def tuning_table(tunings: Sequence[Tuning]) -> str:
    """For a report: each method's scores and what was chosen."""
    rows = [
        ["method", "delivered", "trials", "untuned", "tuned", "gain", "test", "rank correlation with test", "at the edge"]
    ]
    for tuning in tunings:
        tuned, ended = tuning.tuned(), [trial for trial in tuning.trials if trial.rounds >= tuning.best.rounds]
        correlation = "–"
        if len(ended) > 3:  # fewer say nothing about an order
            correlation = f"{rank_correlation_with_test(ended):+z.2f} ({len(ended)} trials)"
        rows.append(
            [
                f"`{tuned.name}`",
                delivered(tuning.best.delivered),
                str(tuned.trials),
                f"{tuned.untuned:.3f}",
                f"{tuned.score:.3f}",
                f"{tuned.score - tuned.untuned:+z.3f}",
                f"{tuning.best.of_all_seeds.tested:.3f}",
                correlation,
                ", ".join(f"{name} {value}" for name, value in tuned.at_edge.items()) or "–",
            ]
        )
    return markdown_table(rows)


def rank_correlation_with_test(trials: Sequence[Trial]) -> float:
    """Spearman's, of validation and test score; NaN where one of them is the same for all trials."""
    return float(rank_correlation([trial.score() for trial in trials], [trial.tested for trial in trials]))


def tuned_table(settings: TunedSettings) -> str:
    """The settings that each method was tuned to."""
    names = list(dict.fromkeys(name for method in settings.methods for name in method.point))
    rows = [["method", *names, "validation score"]]
    for method in settings.methods:
        cells = [str(method.point.get(name, "–")) for name in names]
        rows.append([f"`{method.name}`", *cells, f"{method.score:.3f}"])
    return markdown_table(rows)
