"""Gathering finished configs into the documents: what is there, and nothing that is not."""

import shutil
from pathlib import Path

import pytest

from distreal_jax.commands.results import MARKS, Options, main
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


def finished(folder: Path, finals: dict[str, float]) -> None:
    """A run folder as a finished comparison leaves it."""
    folder.mkdir(parents=True)
    axes = dict(times=(60.0, 120.0), rounds=(1.0, 2.0), macs=(1e6, 2e6), bytes_up=(1.0, 2.0), bytes_down=(1.0, 2.0))
    more = dict(delivered=1.0, round_computing=(1.0, 1.0), round_bytes=(1.0, 1.0), memory_bytes=1e6)
    counts = dict(
        macs_spent=2e6, macs_wasted=0.0, macs_idle=0.0, client_rounds=2, deadline_hits=0, clients_left_out=0, **more
    )
    results = [
        MethodResult(method, seed, accuracies=(0.5, final), full_accuracies=(0.5, final), **axes, **counts)
        for method, final in finals.items()
        for seed in (0, 1)
    ]
    content = {"identity": "0" * 10, "targets": [0.6], "device": {}, "runs": [result.to_json() for result in results]}
    write_document(folder / "results.json", "distreal_jax results", 1, content)
    write_document(folder / "config.json", "distreal_jax run", 1, {"settings": {}, "sessions": [SESSION]})
    (folder / "report.md").write_text("# Comparison\n")
    shutil.copyfile(Path(__file__).parents[1] / "docs/pictures/front.png", folder / "accuracy.png")


def options_in(folder: Path) -> Options:
    readme = folder / "README.md"
    readme.write_text(f"before\n{MARKS[0]}\nold\n{MARKS[1]}\nafter\n")
    return Options(runs=folder / "runs", report=folder / "docs/results.md", readme=readme, main="fashion_mnist_harsh")


def test_finished_configs_get_a_section_and_the_main_one_a_table_in_the_readme(tmp_path: Path) -> None:
    options = options_in(tmp_path)
    finished(options.runs / "fashion_mnist_harsh", {"distreal": 0.7, "partial_work": 0.65})
    finished(options.runs / "not_a_config", {"distreal": 0.1})
    main(options)
    report, readme = options.report.read_text(), options.readme.read_text()
    assert "## fashion_mnist_harsh" in report and "python -m experiments.configs.fashion_mnist_harsh" in report
    assert "fashion_mnist_mild" not in report and "not_a_config" not in report
    assert "2 CPU cores, a processor, jax 0.10.2, commit 0123456789, 2026-11-23" in report
    assert (options.report.parent / "results/fashion_mnist_harsh.png").exists()
    assert readme.startswith(f"before\n{MARKS[0]}\n| method ") and readme.endswith(f"{MARKS[1]}\nafter\n")
    assert "old" not in readme and "0.600 (0.600, 0.600)" in readme and "`partial_work`" in readme
    main(options)
    assert (report, readme) == (options.report.read_text(), options.readme.read_text())


def test_a_finished_map_gets_its_cells_and_its_picture(tmp_path: Path) -> None:
    options = options_in(tmp_path)
    folder = options.runs / "map_of_loads"
    finished(folder, {"distreal": 0.7})
    shutil.move(folder / "accuracy.png", folder / "map.png")
    shutil.move(folder / "results.json", folder / "map.json")
    (folder / "report.md").write_text("# Map\n\n| mean | distreal |\n|---|---|\n| 0.03 | 0.7 |\n\n![x](map.png)\n")
    main(options)
    report = options.report.read_text()
    assert "| mean | distreal |\n|---|---|\n| 0.03 | 0.7 |\n\n(" in report
    assert (options.report.parent / "results/map_of_loads.png").exists() and "old" in options.readme.read_text()


def test_a_finished_study_of_searches_gets_the_tables_of_its_report(tmp_path: Path) -> None:
    options = options_in(tmp_path)
    folder = options.runs / "search_study_digits"
    finished(folder, {"distreal": 0.7})
    shutil.move(folder / "accuracy.png", folder / "rivals.png")
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
    assert not options.report.exists() and "old" in options.readme.read_text()


def test_a_readme_without_marks_is_left_alone(tmp_path: Path) -> None:
    options = options_in(tmp_path)
    options.readme.write_text("mine")
    finished(options.runs / "fashion_mnist_harsh", {"distreal": 0.7})
    with pytest.raises(InputError, match="has no lines"):
        main(options)
    assert options.readme.read_text() == "mine"
