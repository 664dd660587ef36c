"""What README.md and docs/extending.md show is true: their programs run, their commands parse, their names exist."""

import ast
import contextlib
import importlib
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tyro
import yaml
from test_datasets import write_prepared

from distreal_jax.availability.specification import KINDS
from distreal_jax.commands import COMMANDS
from distreal_jax.data import load_dataset
from distreal_jax.errors import InputError
from distreal_jax.experiment.command_line import PARSING
from distreal_jax.methods import METHODS
from distreal_jax.networks import NETWORKS
from distreal_jax.own import is_own
from distreal_jax.tracing import rules

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/index.md", "docs/extending.md")
PATIENCE = 300.0  # seconds for one process; CI machines are slow


def blocks_of(page: str, language: str) -> list[str]:
    """The fenced blocks of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)


PROGRAMS = {
    f"{page} {index}: {(ast.get_docstring(ast.parse(text)) or 'no title').rstrip('.')}": text
    for page in PAGES
    for index, text in enumerate(blocks_of(page, "python"))
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a prepared set of tensorflow-datasets in `data`; what a program adds to the registries leaves again."""
    write_prepared(tmp_path / "data", name="cifar10", sizes=((32, 32, 3),), classes=10)
    monkeypatch.setenv("DISTREAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("distreal_jax.networks.NETWORKS", dict(NETWORKS))
    monkeypatch.setattr("distreal_jax.availability.specification.KINDS", dict(KINDS))
    monkeypatch.setattr("distreal_jax.tracing.rules._RULES", dict(rules._RULES))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_runs_as_it_stands_and_what_it_asserts_holds(program: str, place: Path) -> None:
    (place / "program.py").write_text(program)
    runpy.run_path(str(place / "program.py"), run_name="__main__")
    assert isinstance(ast.parse(program).body[-1], ast.Assert), "a reader should see what comes out"


def command_of(script: Path) -> str:
    """The command that a script of `experiments/` runs."""
    (command,) = re.findall(r'^ +run\("(\w+)"\)$', script.read_text(), flags=re.MULTILINE)
    return command


def commands() -> list[list[str]]:
    """The command lines of pages and scripts that run a script, as a shell splits them; each once, patterns left out."""
    found: dict[tuple[str, ...], None] = {}
    programs = (*sorted((ROOT / "distreal_jax/commands").glob("*.py")), *sorted((ROOT / "experiments").rglob("*.py")))
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *programs]:
        text = re.sub(r"\\\n\s*", " ", page.read_text())
        lines = re.findall(r"^ {4,}((?:python (?:experiments/|-m experiments\.)|distreal ).*)$", text, flags=re.MULTILINE)
        inline = re.findall(r"`(python -m experiments[^`]*)`", text)
        whole = [line for line in [*lines, *inline] if not re.search(r"\.\.\.|\{|configs\.NAME", line)]
        found.update((tuple(shlex.split(line, comments=True)), None) for line in whole)
    found.update((tuple(shlex.split(line, comments=True)), None) for line in cluster_commands())
    return [list(command) for command in found]


CLUSTERS = "docs/several_machines.md"


def jobs() -> list[dict[str, Any]]:
    """The objects of Kubernetes that a page shows."""
    return [document for block in blocks_of(CLUSTERS, "yaml") for document in yaml.safe_load_all(block)]


def cluster_commands() -> list[str]:
    """What the files for SLURM and Kubernetes run, without what starts it."""
    lines = re.sub(r"\\\n\s*", " ", "\n".join(blocks_of(CLUSTERS, "bash"))).splitlines()
    specs = [job["spec"]["template"]["spec"] for job in jobs() if job["kind"] == "Job"]
    lines += [" ".join(container["command"]) for spec in specs for container in spec["containers"]]
    found = [re.search(r"(?:distreal [a-z_]+|python experiments/\S+) --.*?(?= && |$)", line) for line in lines]
    return [match[0].replace('"$JOB_COMPLETION_INDEX"', "0") for match in found if match]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_a_command_is_one_that_its_script_takes(command: list[str]) -> None:
    if command[:2] == ["python", "-m"]:
        module, options = command[2], command[3:]
    else:
        name = command[1] if command[0] == "distreal" else command_of(ROOT / command[1])
        module, options = f"distreal_jax.commands.{name}", command[2:]
    given = getattr(importlib.import_module(module), "CONFIG", None)
    kind = type(given) if given else importlib.import_module(module).Options
    parsed = tyro.cli(kind, args=options, config=PARSING, **({"default": given} if given else {}))
    assert not hasattr(parsed, "world") or parsed.world.model in NETWORKS or is_own(parsed.world.model)


def test_the_files_for_clusters_are_read_by_those_who_read_them_and_agree_with_themselves() -> None:
    scripts = [block for block in blocks_of(CLUSTERS, "bash") if block.startswith("#!")]
    assert len(scripts) == 2 and len(cluster_commands()) >= 6
    for script in scripts:
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
        (asked,) = set(re.findall(r"--cpus-per-task=(\d+)", script))  # what sbatch is asked for, srun has to be told
        assert script.count(f"--cpus-per-task={asked}") == 2
    service, indexed, independent = jobs()
    spec = indexed["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert indexed["kind"] == independent["kind"] == "Job" and service["kind"] == "Service"
    assert spec["template"]["spec"]["subdomain"] == service["metadata"]["name"] and service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": indexed["metadata"]["name"]}
    first = f"{indexed['metadata']['name']}-0.{service['metadata']['name']}:"
    assert f"--coordinator-address {first}" in container["command"][-1]
    assert f"--num-processes {spec['completions']} " in container["command"][-1]
    assert spec["completionMode"] == "Indexed" and spec["parallelism"] == spec["completions"]


def test_the_pages_name_all_methods_loads_commands_and_scripts_that_there_are() -> None:
    pages = [(ROOT / "docs" / name).read_text() for name in ("commands.md", "data.md", "methods.md")]
    words = set(re.findall(r"[`\"]([\w/.]+)[`:\[\"]", "\n".join(pages)))
    assert words >= set(METHODS) | set(KINDS) | {command for command in COMMANDS if command not in ("results", "account")}
    table, *_ = re.findall(r"^\| method \|.*?\n\n", pages[2], flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"^\| `(\w+)` ", table, flags=re.MULTILINE) == list(METHODS)
    scripts = {word for word in words if re.fullmatch(r"(experiments/)?[a-z_]+\.py", word)}
    assert len(scripts) >= 5 and all((ROOT / "experiments" / Path(script).name).is_file() for script in scripts)


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))]
)
def test_a_link_leads_somewhere(page: str) -> None:
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]*))?\)", (ROOT / page).read_text()):
        file = (ROOT / page).parent / target
        assert file.exists(), target
        if anchor:
            text = (file if target else ROOT / page).read_text().lower()
            headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
            assert anchor in [re.sub(r"[^\w-]", "", heading.replace(" ", "-")) for heading in headings], anchor


def test_every_page_of_the_docs_has_its_place_in_the_site() -> None:
    def pages(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in pages(part)]

    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert sorted(pages(nav)) == sorted(str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md"))


def test_a_set_of_the_hub_is_read_by_the_name_of_its_folder(place: Path) -> None:
    """As tensorflow-datasets prepares it: images of no stated size, which are all of one."""
    write_prepared(place / "data", name="ylecun__mnist", sizes=((28, 28, 3), (28, 28, 3)))
    assert load_dataset("ylecun__mnist", place / "data").image_shape == (28, 28, 3)


def test_a_set_of_the_hub_that_is_not_prepared_says_what_to_install(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("datasets", "huggingface_hub"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=r"^data set 'huggingface:ylecun__mnist' .*pip install datasets.*$"):
        load_dataset("huggingface:ylecun__mnist", place / "data")


def test_the_tab_key_completes_options_and_values_as_the_page_of_commands_says(tmp_path: Path) -> None:
    said = re.search(r"^ +(alias .*)\n +(source .*)$", (ROOT / "docs/commands.md").read_text(), flags=re.MULTILINE)
    assert said
    ask = """
        completed=$(complete -p train.py | sed 's/.* -F \\([^ ]*\\) .*/\\1/')
        for words in "--avail" "--wandb off"; do
            COMP_WORDS=(train.py $words) COMP_CWORD=$(wc -w <<< "$words") COMPREPLY=()
            $completed
            echo "${COMPREPLY[@]}"
        done
    """
    # Aliases are expanded where a person types, or where a script asks for it.
    script = "shopt -s expand_aliases\n" + "\n".join(said.groups()).replace("python ", f"{sys.executable} ") + "\n" + ask
    (tmp_path / "asked.sh").write_text(script)
    done = subprocess.run(["bash", tmp_path / "asked.sh"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["--availability", "offline"], done


@contextlib.contextmanager
def started(*command: str) -> Iterator["subprocess.Popen[str]"]:
    """A script in a process of its own, on the devices that it chooses."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment |= {"PYTHONPATH": str(ROOT), "JAX_ENABLE_COMPILATION_CACHE": "false"}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def has_loaded(process: "subprocess.Popen[str]", library: str) -> bool:
    with contextlib.suppress(OSError):
        return library in Path(f"/proc/{process.pid}/maps").read_text()
    return False


MOMENTS = [  # numpy's, JAX's, matplotlib's
    *(("train", library) for library in ("_multiarray_umath", "libjax_common", "ft2font")),
]


@pytest.mark.parametrize(("script", "library"), MOMENTS)
def test_ctrl_c_ends_a_script_that_imports_without_a_word(script: str, library: str) -> None:
    with started(f"experiments/{script}.py") as process:
        deadline = time.monotonic() + PATIENCE
        while not has_loaded(process, library):
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        # The signal itself ends it, which a shell reports as status 130.
        assert (*process.communicate(timeout=PATIENCE), process.returncode) == ("", "", -signal.SIGINT)


STOPPED = """
import dataclasses, signal, time
import jax, jax.numpy as jnp
from distreal_jax.experiment import run_command

@dataclasses.dataclass(frozen=True)
class Options:
    pass

class Collected:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def main(options):
    print("what was printed before", end="")
    computed = jax.jit(lambda x: jax.lax.fori_loop(0, 10**8, lambda _, x: x @ x, x))(jnp.eye(100))
    Collected()
    time.sleep(PATIENCE)

run_command(main, Options)
"""


def test_ctrl_c_ends_what_is_being_computed_also_if_a_callback_drops_it() -> None:
    with started("-c", STOPPED.replace("PATIENCE", str(PATIENCE))) as process:
        printed, error = process.communicate(timeout=PATIENCE)
    assert (process.returncode, printed) == (130, "what was printed before")
    assert error.startswith("\nstopped; to go on from the last checkpoint: ") and "Traceback" not in error


PIPED = """
import dataclasses
from distreal_jax.experiment import run_command

@dataclasses.dataclass(frozen=True)
class Options:
    pass

def main(options):
    print("first", flush=True)
    input()
    BROKEN

run_command(main, Options)
"""


@pytest.mark.parametrize(
    ("broken", "status", "said"),
    [
        ("print('more')", 141, ""),  # waits in a buffer until the end
        ("print('more ' * 100_000)", 141, ""),
        ("raise BrokenPipeError('of something else')", 1, "BrokenPipeError: of something else\n"),
    ],
)
def test_output_that_nobody_reads_any_more_ends_a_script_without_a_word(broken: str, status: int, said: str) -> None:
    with started("-c", PIPED.replace("BROKEN", broken)) as process:
        assert process.stdout.readline() == "first\n"
        if not said:
            process.stdout.close()
        process.stdin.write("go on\n")
        process.stdin.close()
        error = process.stderr.read()
        assert process.wait(timeout=PATIENCE) == status
        assert error.endswith(said) and bool(error) == bool(said)
