"""An output that would write into its source is refused before anything is written, by every
command that plans a run.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launch.cli import run
from orchestrator.config import parse_config
from orchestrator.driver.startup import start_point
from orchestrator.errors import OutputError
from orchestrator.store.objects.location import open_location
from tests.fakes.bundles import model, write_checkpoint, write_pointer


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory with one checkpoint, and a symbolic link to it beside it."""
    path = tmp_path / "run"
    write_checkpoint(path, "m-5", model(5))
    write_pointer(path, "m-5")
    (tmp_path / "link").symlink_to(path)
    return path


@pytest.mark.parametrize("output", ["run", "run/", "link", "run/resumed", "link/resumed"])
@pytest.mark.parametrize("command", ["resume", "resume --dry-run"])
def test_resume_into_the_source_is_refused_and_writes_nothing(
    source: Path, output: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in source.rglob("*")}
    config = parse_config(
        {"source": str(source), "output": f"{source.parent}/{output}", "steps": 5}
    )
    if command == "resume":
        with pytest.raises(OutputError, match="source"):
            start_point(config, open_location(config.output), None)
    else:
        assert run([*command.split(), str(source), "--output", config.output, "--steps", "5"]) == 2
        assert "the output" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in source.rglob("*")} == before


def test_check_says_that_the_output_is_the_source(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check", str(source), "--output", str(source.parent / "link"), "--json"]) == 2
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert "output-in-source" in {problem["code"] for problem in problems}
