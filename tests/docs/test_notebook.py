"""Does the notebook do what it says, cell by cell, and is it kept without outputs?"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import ROOT
from tests.launch.conftest import ray_environment

pytestmark = pytest.mark.turns(32, "whole runs")

NOTEBOOK = ROOT / "docs" / "resuming.ipynb"


def cells(kind: str) -> list[str]:
    notebook: dict[str, Any] = json.loads(NOTEBOOK.read_text())
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_notebook_is_kept_without_outputs_and_compiles() -> None:
    notebook = json.loads(NOTEBOOK.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    idents = [cell["id"] for cell in notebook["cells"]]
    assert len(idents) == len(set(idents))
    for cell in notebook["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    for source in cells("code"):
        compile(source, "a cell", "exec")


CHECKED = """
assert report.state == "done", report.reason
assert [incident.rank for incident in report.incidents] == [1]
assert len(points) >= 5, "a short run has a curve, too"
assert points[-1].smooth < points[0].smooth
figure.savefig("loss.png")
__import__("shutil").rmtree(directory)
"""


@pytest.mark.tf
@pytest.mark.ray
@pytest.mark.chaos
def test_notebook_resumes_the_demo_and_plots_its_loss() -> None:
    pytest.importorskip(
        "matplotlib", reason="matplotlib isn't installed: it draws the notebook's plot"
    )
    # Not below tmp_path: Ray's sockets lie below it, and a socket's path has 107 bytes at most
    with tempfile.TemporaryDirectory(prefix="nb-") as directory:
        runs_as_told(Path(directory))


def runs_as_told(home: Path) -> None:
    """Run all cells with ``home`` as the home directory."""
    program = home / "notebook.py"
    program.write_text("\n\n".join([*cells("code"), CHECKED]))
    done = subprocess.run(
        [sys.executable, str(program)],
        env=ray_environment(home) | {"MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (home / "loss.png").stat().st_size > 5_000
    assert "done at step 2,550" in done.stdout
    assert "0 steps redone" in done.stdout
