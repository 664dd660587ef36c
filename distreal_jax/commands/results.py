"""Gathers finished configs into docs/results.md, with command and machine, and verdicts into docs/trial.md and README.md.

    make results DATA_DIR=../shared     # runs the configs that are not finished, then this
    python experiments/results.py       # this alone

A config's run is looked for in runs/NAME, where `make results` puts it. What the documents say of configs that are not
finished there, but were elsewhere, stays.
"""

import dataclasses
import importlib
import os
import pkgutil
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from distreal_jax.commands import evidence, verdicts
from distreal_jax.errors import InputError
from distreal_jax.experiment import DryRun
from distreal_jax.experiment.comparison import read_comparison
from distreal_jax.experiment.dry_run import WROTE_NOTHING
from distreal_jax.files import made_folder, parts_around, write_atomically
from distreal_jax.record import comparison_table
from distreal_jax.record.report import ACCURACY, COST
from distreal_jax.record.run_folder import read_config
from distreal_jax.record.summary import MEASURES

PICTURES = {
    "accuracy.png": "Test accuracy over simulated time",
    "map.png": "Best method and margin at each load",
    "rivals.png": "Fronts of one seed, areas below them of all seeds",
    "proxy.png": "Accuracy of the federation over the proxy",
    "carry_over.png": "The table and vectors of one rate under each condition",
    "sensitivity.png": "Validation accuracy over learning rate and batch size, for each method",
}
"""What a finished run leaves, by its experiment -> what is on it."""
SAID = """intervals are of 95 % over seeds, by Student's t where a section says nothing else, and differences are paired.

**Only the methods in sections that begin with `trial_`, and in maps that name trials, were tuned**, each with the same
number of trials. All others ran with one learning rate and one batch size and were scored on the full network. These choices
decide several orders below.
[Findings](findings.md#withdrawn) lists the claims that are withdrawn. Accuracy curves of comparisons before 2026-11-26 are
left out: their runs were not kept, so they can't be drawn again with labels that are right today."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Gather the results of finished configs into the documents."""

    runs: Path = Path("runs")
    """Folder of the runs, one for each config, named as it is."""
    report: Path = Path("docs/results.md")
    """Gets a section for each finished config; pictures, scores and tuned settings come beside it, into results/."""
    verdicts: Path = Path("docs/trial.md")
    """Gets, between its marks, what each config that names its setting says of DISTREAL and its rivals, with intervals."""
    rivals: Path = Path("README.md")
    """Gets, between its marks, the same as one table of settings by rivals, without intervals."""
    dry_run: DryRun = False


def section(name: str, folder: Path, place: Path) -> str:
    """A config's question, command, machine, table, scores and picture, in Markdown.

    Args:
      name: Of the config.
      folder: Of its run, which is finished.
      place: Folder that gets a copy of its picture, its scores and its settings.
    """
    text = (importlib.import_module(f"experiments.configs.{name}").__doc__ or "").strip()
    picture = finished(folder)
    shutil.copyfile(folder / picture, place / f"{name}.png")
    costs = f"{name}_costs.png" if (folder / "costs.png").exists() else ""
    if costs:
        shutil.copyfile(folder / "costs.png", place / costs)
    files = [file.relative_to(place / name) for file in evidence.put(folder, place / name)]
    links = [f"[{file}]({place.name}/{name}/{file})" for file in files]
    parts = (
        f"## {name}",
        text,
        table(folder).strip(),
        f"({machine(folder)})",
        f"Scores of each run and settings, to check and to use: {', '.join(links)}" if links else "",
        f"![{PICTURES[picture]}]({place.name}/{name}.png)",
        f"![Test accuracy over MACs, bytes, energy and time with links]({place.name}/{costs})" if costs else "",
    )
    return "\n\n".join(filter(None, parts))


def sections_of(report: Path, names: Sequence[str]) -> dict[str, str]:
    """The sections that a report has of configs, by name.

    Args:
      report: The document; it may be absent.
      names: Of configs; sections of others are left out.
    """
    if not report.exists():
        return {}
    _, *parts = re.split(r"^## (\w+)\n", report.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = dict(zip(parts[::2], parts[1::2], strict=True))
    return {name: f"## {name}\n{text.rstrip()}" for name, text in found.items() if name in names}


def finished(folder: Path) -> str:
    """The picture of a finished run, which it leaves before its report; empty for one that is not finished, or not there.

    Args:
      folder: Of a run.
    """
    there = (folder / "report.md").exists()
    return next((name for name in PICTURES if there and (folder / name).exists()), "")


def table(folder: Path) -> str:
    """A comparison's tables of accuracies and of costs, a map's with what they show, or another report's, in Markdown.

    Args:
      folder: Of a finished run.
    """
    if (picture := finished(folder)) != "accuracy.png":
        text = (folder / "report.md").read_text(encoding="utf-8")
        if picture == "map.png":  # what its tables are of stands between them
            return re.sub(r"^(?:#|!\[).*\n?", "", text, flags=re.MULTILINE).strip()
        return "\n".join(re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE))
    results, how = read_comparison(folder)
    return "\n".join(comparison_table(results, columns=names, **how) for names in (ACCURACY, COST))


def setting_of(name: str) -> str:
    """Under what a config judges DISTREAL, in words; empty for one that does not.

    Args:
      name: Of the config.
    """
    return str(getattr(importlib.import_module(f"experiments.configs.{name}"), "SETTING", ""))


def machine(folder: Path) -> str:
    """On what, with what and when a run was begun; the commits of all its parts.

    Args:
      folder: Of a run.
    """
    sessions = read_config(folder)["sessions"]
    first, commits = sessions[0], dict.fromkeys(session["commit"]["hash"][:10] for session in sessions)
    accelerators = ", ".join(sorted(set(first["accelerators"])))
    device = accelerators or f"{first['cpu_count']} CPU cores, {first['cpu']}"
    return f"{device}, jax {first['versions']['jax']}, commit {', '.join(commits)}, {first['date'][:10]}"


def main(options: Options) -> None:
    """Writes the documents.

    Args:
      options: The command line.

    Raises:
      InputError: There are no configs here, or none of them is finished.
    """
    try:
        configs = importlib.import_module("experiments.configs")
    except ModuleNotFoundError:
        raise InputError("results gathers what the configs of a checkout left; run it in the root of one") from None
    names = [module.name for module in pkgutil.iter_modules(configs.__path__)]
    done = [name for name in names if finished(options.runs / name)]
    if not done:
        raise InputError(f"no config is finished in {options.runs} (there are: {', '.join(names)}); run one with --out")
    if options.dry_run:
        missing = ", ".join(name for name in names if name not in done) or "none"
        shown = f"{', '.join(done)}, and verdicts in {options.verdicts} and {options.rivals}"
        print(f"Would be written anew in {options.report}: {shown}.")
        print(f"Not finished in {options.runs}: {missing}.")
        print(WROTE_NOTHING)
        return
    rows = {measure: verdicts.rows_in(options.verdicts, measure) for measure in MEASURES}  # of trials finished elsewhere
    parts_around(options.rivals, verdicts.MATRIX)  # bad input ends here, before anything is written
    place = made_folder(options.report.parent / "results")
    sections = sections_of(options.report, names)
    sections |= {name: section(name, options.runs / name, place) for name in done}
    head = f"# Results\n\nMade by `python experiments/results.py`; {SAID}"
    write_atomically(options.report, ("\n\n".join((head, *(sections[name] for name in sorted(sections)))) + "\n").encode())
    settings = {name: setting for name in names if (setting := setting_of(name))}
    judged = verdicts.rows({name: options.runs / name for name in done if name in settings})
    rows = {measure: rows[measure] | judged[measure] for measure in MEASURES}
    for measure in MEASURES:
        link = os.path.relpath(options.report, options.verdicts.parent)
        write_atomically(options.verdicts, verdicts.put(options.verdicts, measure, settings, rows[measure], link))
    link = os.path.relpath(options.report, options.rivals.parent)
    write_atomically(options.rivals, verdicts.put_matrix(options.rivals, settings, rows, link))
    print(f"{options.report}: {', '.join(done)}")
