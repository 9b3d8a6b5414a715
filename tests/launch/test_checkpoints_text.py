"""Does ``tfresume checkpoints`` show every checkpoint with its state, and delete only what the run
can't use?
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launch.cli import run
from orchestrator.store.checkpoints.commits import commit
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.objects.manifest import Manifest
from orchestrator.store.run.lineage import record_takeover
from orchestrator.store.transfer.part_files import send_index
from tests.launch.runs import recorded_run, unfinished_save, unreadable_checkpoint
from tests.store.runs import uploaded_parts


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    monkeypatch.setenv("COLUMNS", "160")
    return open_location(str(tmp_path / "more"))


def test_command_checkpoints_shows_what_is_wrong_with_each(
    output: Location, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded_run(output).release()
    unreadable_checkpoint(output, 1100)
    unfinished_save(output, 1200)
    assert run(["checkpoints", output.url]) == 0
    shown = capsys.readouterr().out
    assert "1,200" in shown
    assert "incomplete" in shown
    assert "corrupt" in shown
    assert "model.ckpt-1100.index is missing" in shown
    assert "lineage: a1-g1 from step 0" in shown
    assert [line for line in shown.splitlines() if line != line.rstrip()] == [], "padding in a pipe"


def test_command_checkpoints_with_json_prints_one_object(
    output: Location, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded_run(output).release()
    unreadable_checkpoint(output, 1100)
    assert run(["checkpoints", output.url, "--verify", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["checkpoints"]
    assert (row["label"], row["step"], row["state"]) == (
        "a0001-g0001/model.ckpt-1100",
        1100,
        "corrupt",
    )


def test_command_checkpoints_of_a_run_without_any_says_so(
    output: Location, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded_run(output).release()
    assert run(["checkpoints", output.url]) == 0
    assert capsys.readouterr().out.strip() == "none yet"


def test_command_checkpoints_of_no_run_is_refused(
    output: Location, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["checkpoints", output.url]) == 2
    assert run(["checkpoints", output.url, "--prune"]) == 2
    assert "run" in capsys.readouterr().err


def test_prune_of_a_released_run_deletes_unfinished_saves_and_keeps_foreign_files(
    output: Location, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded_run(output).release()
    unfinished_save(output, 1200)
    output.child("notes.txt").write_bytes(b"mine")
    assert run(["checkpoints", output.url, "--prune"]) == 0
    assert "1 file of unfinished saves, 4 B freed" in capsys.readouterr().out
    assert output.child("notes.txt").exists()
    assert run(["checkpoints", output.url, "--prune"]) == 0
    assert "nothing to prune" in capsys.readouterr().out


def test_save_in_parts_is_good_to_verify_and_inspect_and_one_without_an_index_is_pruned(
    output: Location, capsys: pytest.CaptureFixture[str]
) -> None:
    lease = recorded_run(output)
    record_takeover(output, 1, 1, 0)
    reports, records = uploaded_parts(output, 1000)
    index = send_index("model.ckpt-1000", reports, output.child("a0001-g0001"))
    files = (*records, *index)
    manifest = Manifest(
        name="model.ckpt", step=1000, attempt=1, generation=1, files=files, step_key="global_step"
    )
    commit(output, manifest, lease=lease)
    uploaded_parts(output, 1200)
    lease.release()
    assert run(["checkpoints", output.url, "--verify", "--json"]) == 0
    rows = {row["step"]: row["state"] for row in json.loads(capsys.readouterr().out)["checkpoints"]}
    assert rows == {1200: "incomplete", 1000: "good"}
    assert run(["inspect", output.child("a0001-g0001", "model.ckpt-1000").url, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["checkpoint"] == {"tensors": 2, "missing": [], "unused": [], "different": []}
    assert run(["checkpoints", output.url, "--prune"]) == 0
    assert "4 files of unfinished saves" in capsys.readouterr().out


def test_prune_beside_a_living_driver_leaves_its_save_alone(
    output: Location, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded_run(output)
    unfinished_save(output, 1200)
    assert run(["checkpoints", output.url, "--prune"]) == 0
    assert output.child("a0001-g0001", "model.ckpt-1200.index").exists()


def test_prune_that_only_asks_names_what_it_would_delete_and_deletes_nothing(
    output: Location, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded_run(output).release()
    unfinished_save(output, 1200)
    assert run(["checkpoints", output.url, "--prune", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "would delete 0 fenced checkpoints and 1 file of unfinished saves and free 4 B" in shown
    assert "model.ckpt-1200.index" in shown
    assert output.child("a0001-g0001", "model.ckpt-1200.index").exists()
    assert run(["checkpoints", output.url, "--prune", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["would_prune"]["freed_bytes"] == 4
    assert run(["checkpoints", output.url, "--dry-run"]) == 2, "it says what --prune would do"
