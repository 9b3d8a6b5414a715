"""Does a run that saves changed rows go on from a chain of them, and end as if nothing had been?"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from orchestrator.store.checkpoints.reports import checkpoints_report
from orchestrator.store.objects.location import open_location
from tests.chaos.runs import kill_rank, play
from tests.chaos.supervision import Supervised
from tests.end_to_end import test_divided_tables
from tests.end_to_end.commands import plain_variables, tfresume
from tests.end_to_end.test_divided_tables import INPUTS, assert_same, config_for

pytestmark = [
    pytest.mark.tf,
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.turns(8, "what becomes of divided tables"),
]

cluster = test_divided_tables.cluster
room = test_divided_tables.room


def test_killed_worker_takes_the_run_back_to_a_chain_and_to_the_same_end(
    cluster: str, room: Path, tmp_path: Path
) -> None:
    undisturbed, _ = play(
        config_for(
            *(room, tmp_path / "undisturbed"),
            input=f"{INPUTS}:batches",
            workers=2,
            shard_tables=["none"],
        )
    )
    changes: dict[str, Any] = {"save_changed_rows": True, "save_steps": 7, "max_to_keep": 2}
    config = config_for(room, tmp_path / "out", **changes)
    result, watcher = play(config, kill_rank(1, at_step=42))

    assert watcher.fired
    assert result.status == "done", result
    # All ranks save more often than they say that they live
    assert not watcher.named("worker_hung")
    saved = {each["step"]: each["checkpoint"] for each in watcher.named("save_committed")}
    # Of the group that the loss made: a standby that is warm later may make another
    again = watcher.named("generation")[1]
    assert again["state_from"] == "checkpoint"
    assert saved[again["step"]].endswith(".changed")
    last = str(result.checkpoint)
    assert last.endswith("-100")
    pointer = (tmp_path / "out" / "checkpoint").read_text().splitlines()
    assert "-100" in pointer[0]
    assert not any(".changed" in line for line in pointer)
    assert_same(
        plain_variables(last, tmp_path), plain_variables(str(undisturbed.checkpoint), tmp_path)
    )
    # What bridged to a later full one is gone, what a live one stands on isn't
    rows = checkpoints_report(open_location(str(tmp_path / "out")), verify=True).checkpoints
    labels = {row.label for row in rows}
    assert all(row.state == "good" for row in rows if row.state != "incomplete")
    assert all(set(row.stands_on) <= labels for row in rows)
    assert len(rows) < len(saved)


def test_saves_of_changed_rows_are_refused_where_no_table_is_divided(
    room: Path, tmp_path: Path
) -> None:
    refused = tfresume(
        *("resume", room / "adagrad-ref-0.meta", "--output", tmp_path / "out", "--steps", "2"),
        *("--workers", "2", "--input", f"{INPUTS}:batches", "--save-changed-rows"),
    )

    assert refused.code == 2
    assert "tables that are divided among the workers, and none is" in refused.stderr
    assert "--shard-tables NAME" in refused.stderr
    assert not (tmp_path / "out").exists()


def test_everybody_killed_between_saves_of_changed_rows_goes_on_from_the_chain(
    cluster: str, room: Path, tmp_path: Path
) -> None:
    undisturbed, _ = play(
        config_for(
            *(room, tmp_path / "undisturbed"),
            input=f"{INPUTS}:batches",
            workers=2,
            shard_tables=["none"],
        )
    )
    slow = config_for(
        *(room, tmp_path / "out"), workers=2, save_changed_rows=True, save_steps=7, lease_s=2.0
    )
    given = slow.model_dump(mode="json", exclude={"source", "output", "address"})
    run = Supervised(slow.source, slow.output, cluster, **given)

    def chained() -> list[int]:
        saves = run.events("save_committed")
        return [each["step"] for each in saves if each["checkpoint"].endswith(".changed")]

    try:
        run.wait_for(lambda: len(chained()) >= 3)
        members = [run.pid_of(worker) for worker in run.events("generation")[-1]["workers"]]
        for pid in (run.events("attempt")[0]["pid"], *members):
            os.kill(pid, signal.SIGKILL)
        known = chained()
        assert run.end(180.0) == 0
    finally:
        if run.process.poll() is None:
            run.process.kill()
    again = run.events("generation", attempt=2)[0]
    assert again["state_from"] == "checkpoint"
    assert again["step"] >= known[-1]
    assert again["step"] in chained()
    ended = run.events("save_committed")[-1]
    assert ended["checkpoint"].endswith("-100")
    assert_same(
        plain_variables(str(tmp_path / "out" / ended["checkpoint"]), tmp_path),
        plain_variables(str(undisturbed.checkpoint), tmp_path),
    )
