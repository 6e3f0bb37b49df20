"""The notebooks are executed, and what is committed was executed."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[2] / "examples"
SAYS = {  # what an output of each notebook holds
    "quickstart": "pretrained · small",
    "own_method": "Grey pictures",
    "paper_tables": "imagenet normalisation",
    "reading_critically": "suite version: 0 instead of 1",
}
NOTEBOOKS = [EXAMPLES / f"{name}.ipynb" for name in SAYS]


def test_every_notebook_is_here() -> None:
    assert sorted(EXAMPLES.glob("*.ipynb")) == sorted(NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=list(SAYS))
def test_a_notebook_runs_as_it_is(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(path, as_version=4)
    done = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [out for cell in done.cells if cell.cell_type == "code" for out in cell.outputs]
    assert not [out for out in shown if out.output_type == "error"]
    figures = [out.data for out in shown if "data" in out]
    assert any("image/png" in data for data in figures)
    assert any(SAYS[path.stem] in data.get("text/html", "") for data in figures)
    assert not list(tmp_path.glob("reports"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=list(SAYS))
def test_a_committed_notebook_shows_its_figures(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert sum(bool(cell.outputs) for cell in code) >= 5
    assert "/tmp" not in path.read_text()
    assert "site-packages" not in path.read_text()
