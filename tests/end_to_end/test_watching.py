"""Can a run be understood from its output alone, once its processes and its Ray are gone?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launch.runs.history import history
from orchestrator.journal.event import UnknownEvent
from orchestrator.journal.parsing import parse_all
from orchestrator.journal.run_events import AttemptBegan, ProgressMade, RunEnded
from orchestrator.journal.save_events import SaveCommitted
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.journal import read_journal
from tests.end_to_end.commands import resumed, tfresume
from tests.graphs.library import CheckpointLibrary

pytestmark = [pytest.mark.tf, pytest.mark.ray, pytest.mark.turns(32, "whole runs")]
STEPS = 600


@pytest.fixture(scope="module")
def output(tf1_checkpoint: CheckpointLibrary, tmp_path_factory: pytest.TempPathFactory) -> Location:
    """A finished run of two workers."""
    target = tmp_path_factory.mktemp("watched") / "more"
    resumed(
        tf1_checkpoint("mlp", optimizer="adam"),
        "--output",
        target,
        "--steps",
        str(STEPS),
        "--save-steps",
        "200",
        "--workers",
        "2",
        "--workers.cpus",
        "0.5",
        "--input",
        "tests/end_to_end/inputs.py:mlp",
    )
    return open_location(str(target))


def test_status_of_a_finished_run_tells_its_end(output: Location) -> None:
    found = tfresume("status", output.url, "--json").json
    assert (found["state"], found["driver"], found["workers"], found["incidents"]) == (
        "done",
        "released",
        [],
        [],
    )
    assert (
        found["step"]
        == found["until_step"]
        == found["checkpoint_step"]
        == found["start_step"] + STEPS
    )
    assert found["checkpoint"].endswith(f"-{found['step']}")
    assert 0 < found["goodput"] < 1
    assert found["trouble"] == []


def test_goodput_of_a_real_run_has_a_start_and_adds_up(output: Location) -> None:
    parts = tfresume("status", output.url, "--json").json["goodput_s"]
    assert parts["start_s"] > 0.5  # two processes imported TensorFlow
    spent = sum(value for name, value in parts.items() if name not in ("fraction", "wall_s"))
    assert spent == pytest.approx(parts["wall_s"], abs=0.02)


def test_checkpoints_of_a_finished_run_are_good_to_the_last_byte(output: Location) -> None:
    rows = tfresume("checkpoints", output.url, "--verify", "--json").json["checkpoints"]
    assert len(rows) >= 2
    assert {(row["state"], row["verified"]) for row in rows} == {("good", "deep")}


def test_report_of_a_finished_run_shows_both_ranks_and_every_save(
    output: Location, tmp_path: Path
) -> None:
    assert tfresume("report", output.url, "-o", tmp_path / "report.html").code == 0
    text = (tmp_path / "report.html").read_text()
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    assert {stretch["rank"] for stretch in data["lanes"]} == {0, 1}
    assert all(stretch["pid"] > 0 for stretch in data["lanes"])
    assert {save["state"] for save in data["saves"]} == {"committed"}
    assert data["series"][-1]["step"] <= STEPS + data["start_step"]
    assert any(point["loss"] is not None for point in data["series"])


def test_journal_of_a_real_run_speaks_the_words_that_its_readers_know(output: Location) -> None:
    events = parse_all(read_journal(output))
    assert {AttemptBegan, ProgressMade, SaveCommitted, RunEnded} <= {type(item) for item in events}
    assert [item for item in events if isinstance(item, UnknownEvent)] == []
    assert [item for item in events if item.absent or item.other] == []
    finish = history(read_journal(output)).finish
    assert finish is not None
    assert finish.outcome == "done"


def test_events_of_a_real_run_reach_tensorboard(output: Location) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(output.child("_tfresume", "events").path)
    reader.Reload()
    assert "tfresume/loss" in reader.Tags()["scalars"]
