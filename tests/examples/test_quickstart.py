"""The notebook of the examples runs, and shows what it promises."""

from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"


def test_the_notebook_is_stored_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)


@pytest.mark.slow
def test_every_cell_of_the_notebook_runs_and_shows_its_result(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(
        notebook, kernel_name="python3", timeout=600, resources=resources
    ).execute()
    shown = {
        cell.source.splitlines()[-1]: {
            kind: text
            for output in cell.outputs
            if output.output_type == "execute_result"
            for kind, text in output.data.items()
        }
        for cell in notebook.cells
        if cell.cell_type == "code"
    }
    assert "curves of the training" in shown["model"]["text/html"]
    assert shown["model.predict(images[600:606])"]["text/html"].startswith("<table>")
    assert float(shown['result["accuracy"]']["text/plain"]) > 0.8
    assert shown["model.report()"]["text/html"].startswith("<iframe srcdoc=")
    assert shown["model.embed(images[:5]).shape"]["text/plain"] == "(5, 3136)"
    assert (tmp_path / "models" / "digits" / "exports" / "litert" / "model.tflite").exists()
