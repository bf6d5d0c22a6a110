"""The quickstart notebook runs from top to bottom, and says what its text says."""

from __future__ import annotations

from pathlib import Path

import pytest
from waiting import LIMIT

nbclient = pytest.importorskip("nbclient", reason="notebooks are run by nbclient, of the extra vlad-anomaly[dev]")
nbformat = pytest.importorskip("nbformat", reason="notebooks are read by nbformat, of the extra vlad-anomaly[dev]")
pytest.importorskip("ipykernel", reason="notebooks need a kernel, of the extra vlad-anomaly[dev]")

NOTEBOOK = Path(__file__).resolve().parents[2] / "demos" / "quickstart.ipynb"


def test_the_notebook_runs_and_keeps_its_word():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # outputs are made, not kept
    where = {"metadata": {"path": str(NOTEBOOK.parent)}}
    nbclient.NotebookClient(notebook, timeout=LIMIT, startup_timeout=LIMIT, kernel_name="python3", resources=where).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    printed = "".join(output["text"] for output in outputs if output.get("name") == "stdout")
    assert "words alone:      undecided" in printed, printed
    assert "four references:  normal" in printed and "a cracked one:    anomalous" in printed
    assert "Anomalous: score" in printed and printed.count(" (mutual)") == 12
    assert [line.partition(".")[0] for line in printed.splitlines() if " anomalous: " in line and "mutual" in line] == [
        "04_missing_part",
        "09_scratch",
    ]
