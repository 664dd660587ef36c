"""Gathering finished configs into the documents: what is there, and nothing that is not."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from distreal_jax.commands import verdicts
from distreal_jax.commands.results import Options, main
from distreal_jax.document import write_document
from distreal_jax.errors import InputError
from distreal_jax.record import MethodResult

SESSION = {
    "accelerators": [],
    "cpu_count": 2,
    "cpu": "a processor",
    "versions": {"jax": "0.10.2"},
    "commit": {"hash": "0123456789abcdef"},
    "date": "2026-11-23T10:00:00",
}


def finished(
    folder: Path,
    finals: dict[str, float],
    *,
    reference: str | None = None,
    seeds: int = 2,
    results_file: str = "results.json",
    picture: str = "accuracy.png",
) -> None:
    """A run folder as a finished comparison leaves it, or another experiment with its own names of files."""
    folder.mkdir(parents=True)
    axes = dict(times=(60.0, 120.0), rounds=(1.0, 2.0), macs=(1e6, 2e6), bytes_up=(1.0, 2.0), bytes_down=(1.0, 2.0))
    more = dict(delivered=1.0, round_computing=(1.0, 1.0), round_bytes=(1.0, 1.0), memory_bytes=1e6)
    counts = dict(
        macs_spent=2e6, macs_wasted=0.0, macs_idle=0.0, client_rounds=2, deadline_hits=0, clients_left_out=0, **more
    )
    results = [
        MethodResult(method, seed, accuracies=(0.5, final), full_accuracies=(0.5, final), **axes, **counts)
        for method, final in finals.items()
        for seed in range(seeds)
    ]
    content = {"identity": "0" * 10, "targets": [0.6], "device": {}, "runs": [result.to_json() for result in results]}
    content |= {} if reference is None else {"reference": reference}
    write_document(folder / results_file, "distreal_jax results", 1, content)
    write_document(folder / "config.json", "distreal_jax run", 1, {"settings": {}, "sessions": [SESSION]})
    (folder / "report.md").write_text("# Comparison\n")
    shutil.copyfile(Path(__file__).parents[1] / "docs/pictures/front.png", folder / picture)


def options_in(folder: Path) -> Options:
    readme = folder / "README.md"
    marks = [*map(verdicts.marks, ("final", "area")), verdicts.MATRIX]
    readme.write_text("".join(("before\n", *(f"{begin}\nold\n{end}\n" for begin, end in marks), "after\n")))
    return Options(runs=folder / "runs", report=folder / "docs/results.md", verdicts=readme, rivals=readme)


def verdicts_of(readme: Path, marks: tuple[str, str] = verdicts.marks("final")) -> list[list[str]]:
    """Rows of a table, of final accuracy where nothing else is said."""
    text = readme.read_text()
    begin, end = marks
    _, _, *rows = text[text.index(begin) + len(begin) : text.index(end)].strip().splitlines()
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_finished_configs_get_a_section(tmp_path: Path) -> None:
    options = options_in(tmp_path)
    finished(options.runs / "fashion_mnist_harsh", {"distreal": 0.7, "partial_work": 0.65})
    finished(options.runs / "not_a_config", {"distreal": 0.1})
    main(options)
    report, readme = options.report.read_text(), options.verdicts.read_text()
    assert "## fashion_mnist_harsh" in report and "python -m experiments.configs.fashion_mnist_harsh" in report
    assert "fashion_mnist_mild" not in report and "not_a_config" not in report
    assert "2 CPU cores, a processor, jax 0.10.2, commit 0123456789, 2026-11-23" in report
    assert (options.report.parent / "results/fashion_mnist_harsh.png").exists()
    assert "0.600 (0.600, 0.600)" in report and "`partial_work`" in report
    assert readme.startswith("before\n") and readme.endswith("after\n")
    assert not verdicts_of(options.verdicts)  # it names no setting: nothing in it was tuned
    main(options)
    assert (report, readme) == (options.report.read_text(), options.verdicts.read_text())


def test_a_tuned_trial_says_whom_it_is_ahead_of_level_with_and_behind(tmp_path: Path) -> None:
    options = options_in(tmp_path)
    finals = {
        "salf": 0.95,
        "distreal": 0.7,
        "full_resources": 0.99,
        "heterofl[idle=train]": 0.4,
        "distreal[idle=train]": 0.9,
    }
    folder = options.runs / "trial_knobs"
    finished(folder, finals | {"partial_work": 0.9}, reference="distreal[idle=train]", seeds=4)
    main(options)
    ((setting, seeds, own, ahead, level, behind),) = verdicts_of(options.verdicts)
    assert setting == "[Digits, small CNN: 2 to 20 % of a round's work](docs/results.md#trial_knobs)" and seeds == "4"
    assert own == "0.700 ± 0.000"  # of 0.5 and 0.9
    assert ahead == "`heterofl` +0.250 ± 0.000" and behind == "`salf` -0.025 ± 0.000"
    assert level == "`partial_work` +0.000 ± 0.000"  # neither a variant of the method itself nor an upper bound
    ((_, _, levels, heterofl, _, _, partial_work, _, salf, _),) = verdicts_of(options.rivals, verdicts.MATRIX)
    assert levels == "0.700 / 0.600" and heterofl == "**+0.250** / **+0.125**"
    assert (partial_work, salf) == ("+0.000 / +0.000", "**-0.025** / **-0.013**")


def test_of_a_map_the_verdict_is_on_means_over_its_cells_by_seed(tmp_path: Path) -> None:
    options = options_in(tmp_path)
    folder = options.runs / "map_of_knobs"
    finished(folder, {"distreal": 0.7}, picture="map.png")
    cells = [{"distreal": [0.9, 0.8, 0.7, 0.6], "salf": [0.5, 0.4, 0.3, 0.2]}, {"distreal": [0.5] * 4, "salf": [0.5] * 4}]
    (folder / "map.json").write_text(json.dumps([{"mean": 0.1, "rate": 1, "final": cell, "area": cell} for cell in cells]))
    main(options)
    ((_, seeds, own, ahead, *_),) = verdicts_of(options.verdicts)
    assert seeds == "4" and own.startswith("0.625 ± ") and ahead == "`salf` +0.200 ± 0.000"


def test_the_scores_of_each_run_come_beside_the_report(tmp_path: Path) -> None:
    options = options_in(tmp_path)
    finished(options.runs / "trial_knobs", {"distreal": 0.7, "salf": 0.9})
    main(options)
    place = options.report.parent / "results/trial_knobs"
    rows = list(csv.DictReader((place / "scores.csv").read_text().splitlines()))
    assert [(row["cell"], row["method"], row["seed"]) for row in rows] == [
        ("", method, seed) for method in ("distreal", "salf") for seed in "01"
    ]
    salf = rows[-1]
    assert (float(salf["final"]), float(salf["area"])) == (0.7, 0.6)  # mean of 0.5 and 0.9; 0.5 for a minute, then up to 0.9
    assert (salf["macs_spent"], salf["bytes_up"], salf["delivered"]) == ("2000000.0", "2.0", "1.0")
    assert "[scores.csv](results/trial_knobs/scores.csv)" in options.report.read_text()


def test_of_a_map_scores_and_settings_are_those_of_its_cells(tmp_path: Path) -> None:
    options = options_in(tmp_path)
    folder = options.runs / "map_of_loads"
    finished(folder, {"distreal": 0.7}, results_file="map.json", picture="map.png")
    finished(folder / "mean0.1-rate1", {"distreal": 0.7}, seeds=1)
    (folder / "mean0.1-rate1/tuning").mkdir()
    (folder / "mean0.1-rate1/tuning/tuned.json").write_text("settings")
    main(options)
    place = options.report.parent / "results/map_of_loads"
    assert [row["cell"] for row in csv.DictReader((place / "scores.csv").read_text().splitlines())] == ["mean0.1-rate1"]
    assert (place / "mean0.1-rate1/tuned.json").read_text() == "settings"
    assert "(results/map_of_loads/mean0.1-rate1/tuned.json)" in options.report.read_text()


def test_of_a_tuning_there_are_settings_alone(tmp_path: Path) -> None:
    options = options_in(tmp_path)
    folder = options.runs / "trial_tune_knobs"
    finished(folder, {"distreal": 0.7}, picture="sensitivity.png")
    (folder / "tuned.json").write_text("settings")
    main(options)
    assert [file.name for file in (options.report.parent / "results/trial_tune_knobs").iterdir()] == ["tuned.json"]


def test_variants_of_a_rival_keep_their_names() -> None:
    values = {"distreal": [0.9, 0.8], "heterofl": [0.1, 0.1], "heterofl[rescale=true]": [0.2, 0.2]}
    _, level, _ = verdicts.verdict(values, "distreal")
    assert level.startswith("*too few seeds to test:* `heterofl` +0.750 (+0.800, +0.700), `heterofl[rescale=true]` +0.650 (")


def test_few_seeds_test_nothing_and_the_verdict_says_so() -> None:
    ahead, level, behind = verdicts.verdict({"distreal": [0.9, 0.8], "salf": [0.1, 0.1]}, "distreal")
    assert (ahead, level, behind) == ("–", "*too few seeds to test:* `salf` +0.750 (+0.800, +0.700)", "–")


def test_verdicts_on_trials_that_were_run_elsewhere_stay_in_order(tmp_path: Path) -> None:
    options = options_in(tmp_path)
    finished(options.runs / "trial_tiers_digits", {"distreal": 0.8, "salf": 0.7}, seeds=4)
    main(options)
    tiers = verdicts_of(options.verdicts)
    shutil.rmtree(options.runs)
    finished(options.runs / "trial_fashion_knobs", {"distreal": 0.7, "salf": 0.9}, seeds=4)
    main(options)
    assert verdicts_of(options.verdicts)[0] == tiers[0] and len(verdicts_of(options.verdicts)) == 2
    assert [row[0] for row in verdicts_of(options.verdicts, verdicts.MATRIX)] == [
        row[0] for row in verdicts_of(options.verdicts)
    ]


def test_a_finished_map_gets_its_cells_and_its_picture(tmp_path: Path) -> None:
    options = options_in(tmp_path)
    folder = options.runs / "map_of_loads"
    finished(folder, {"distreal": 0.7}, results_file="map.json", picture="map.png")
    (folder / "report.md").write_text(
        "# Map\n\nOf this:\n\n| mean | distreal |\n|---|---|\n| 0.03 | 0.7 |\n\n![x](map.png)\n"
    )
    main(options)
    report = options.report.read_text()
    assert "\n\nOf this:\n\n| mean" in report  # what a table is of
    assert "| mean | distreal |\n|---|---|\n| 0.03 | 0.7 |\n\n(" in report
    assert (options.report.parent / "results/map_of_loads.png").exists()


def test_a_finished_study_of_searches_gets_the_tables_of_its_report(tmp_path: Path) -> None:
    options = options_in(tmp_path)
    folder = options.runs / "search_study_digits"
    finished(folder, {"distreal": 0.7}, picture="rivals.png")
    (folder / "report.md").write_text("# Study\n\nText.\n\n| a |\n|---|\n| 1 |\n\n| b |\n|---|\n| 2 |\n\n![x](rivals.png)\n")
    main(options)
    assert "| a |\n|---|\n| 1 |\n\n| b |\n|---|\n| 2 |\n\n(" in options.report.read_text()
    assert (options.report.parent / "results/search_study_digits.png").exists()


def test_what_is_said_of_configs_that_were_run_elsewhere_stays(tmp_path: Path) -> None:
    options = options_in(tmp_path)
    finished(options.runs / "fashion_mnist_mild", {"distreal": 0.8})
    main(options)
    elsewhere = options.report.read_text()
    shutil.rmtree(options.runs)
    finished(options.runs / "fashion_mnist_harsh", {"distreal": 0.7})
    main(options)
    both = options.report.read_text()
    assert both.index("## fashion_mnist_harsh\n") < both.index("## fashion_mnist_mild\n")
    assert elsewhere[elsewhere.index("## fashion_mnist_mild\n") :] == both[both.index("## fashion_mnist_mild\n") :]
    options.report.write_text(both.replace("## fashion_mnist_mild\n", "## of_a_config_that_left\n"))
    main(options)
    assert "of_a_config_that_left" not in options.report.read_text()


def test_without_a_finished_config_nothing_is_written(tmp_path: Path) -> None:
    options = options_in(tmp_path)
    with pytest.raises(InputError, match=r"no config is finished in .*; run one with --out"):
        main(options)
    assert not options.report.exists() and "old" in options.verdicts.read_text()


def test_a_readme_without_marks_is_left_alone(tmp_path: Path) -> None:
    options = options_in(tmp_path)
    options.verdicts.write_text("mine")
    finished(options.runs / "fashion_mnist_harsh", {"distreal": 0.7})
    with pytest.raises(InputError, match="has no lines"):
        main(options)
    assert options.verdicts.read_text() == "mine"
