"""The notebooks run from a clean kernel, with smaller numbers, and lie in git without outputs."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SECONDS = 300  # for one cell; CI machines are slow


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> nbformat.NotebookNode:
    return nbformat.read(request.param, as_version=4)


def test_there_are_notebooks() -> None:
    assert len(NOTEBOOKS) >= 4


def test_a_notebook_runs_from_a_clean_kernel_and_shows_something(notebook: nbformat.NotebookNode, tmp_path: Path) -> None:
    environment = os.environ | {"DISTREAL_FAST": "1", "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path / "ipython")}
    client = NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute(env=environment)  # raises the error of a cell that fails
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert outputs
    assert not [output for output in outputs if output.get("name") == "stderr"], "a reader would wonder about warnings"


def test_a_notebook_in_git_has_no_outputs(notebook: nbformat.NotebookNode) -> None:
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert all(cell.metadata == {} for cell in notebook.cells)


def test_the_page_of_a_notebook_has_its_text_and_its_code(
    notebook: nbformat.NotebookNode, request: pytest.FixtureRequest
) -> None:
    page = (ROOT / "docs/notebooks" / f"{request.node.callspec.params['notebook'].stem}.md").read_text()
    missing = [cell.source for cell in notebook.cells if cell.source.strip() not in page]
    assert not missing, "make notebooks writes the pages"


def test_a_notebook_tells_what_it_is_and_installs_the_package_only_where_it_is_missing(
    notebook: nbformat.NotebookNode,
) -> None:
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")
    first = next(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert 'find_spec("distreal_jax") is None' in first and "%pip install" in first
