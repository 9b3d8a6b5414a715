"""Does ``status`` tell the truth about runs that live, ended, or died without a word?"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launch.cli import run
from launch.runs import status as status_room
from launch.runs.history import history
from launch.runs.status import status
from launch.runs.status_model import Driver, LeaseHolder, RunStatus, SavedCheckpoint, run_status
from launch.text import status_text
from orchestrator.errors import SourceError
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.journal import Journal
from orchestrator.store.run.lease import BEATS_PER_LEASE, Lease, acquire
from orchestrator.store.run.lineage import record_takeover
from orchestrator.store.run.run_record import RunRecord, create_run_record, request_stop
from tests.launch import journals
from tests.store.chains import Run

RECORD = {"source": "gs://b/run/model.ckpt-500", "started_step": 500}
SAVED = SavedCheckpoint(
    "gs://b/more/a0001-g0002/model.ckpt-1100",
    "a0001-g0002/model.ckpt-1100",
    1100,
    480,
    journals.EPOCH + 43,
)
TRAINING = [*journals.beginning(), journals.progress(10, 580)]


def told(
    events: list[journals.Event],
    driver: Driver,
    attempt: int = 1,
    saved: SavedCheckpoint | None = SAVED,
) -> RunStatus:
    held = LeaseHolder(attempt, "ann@head pid 4711")
    return run_status(
        "gs://b/more", history(events), driver, held, RECORD, saved, now=journals.EPOCH + 100
    )


EARLIER = {"verdict": "unproved", "told": "nothing was tried"}
LATER = {"verdict": "equal", "told": "equal to one process"}


@pytest.mark.parametrize(
    ("begun", "shown"),
    [
        pytest.param({"proof": LATER}, LATER, id="the newest attempt's"),
        pytest.param({"proof": None}, None, id="nothing was tried"),
        pytest.param({}, EARLIER, id="a journal of a version without it"),
    ],
)
def test_status_shows_the_proof_of_the_newest_start(
    begun: dict[str, Any], shown: dict[str, str] | None
) -> None:
    events = [journals.event(0, "attempt", **begun)]
    held = LeaseHolder(1, "ann@head pid 4711")
    record = RECORD | {"proof": EARLIER}
    seen = run_status("out", history(events), Driver.ALIVE, held, record, None, now=journals.EPOCH)
    assert seen.proof == shown


@pytest.mark.parametrize(
    ("events", "driver", "attempt", "state"),
    [
        pytest.param([], Driver.NONE, 0, "not started", id="nobody came"),
        pytest.param([], Driver.ALIVE, 1, "starting", id="no word yet"),
        pytest.param(
            journals.beginning()[:3], Driver.ALIVE, 1, "starting", id="workers are starting"
        ),
        pytest.param(TRAINING, Driver.ALIVE, 1, "training", id="training"),
        pytest.param(
            [*TRAINING, journals.loss_of_rank_1()[0]],
            Driver.ALIVE,
            1,
            "recovering",
            id="a rank is lost",
        ),
        pytest.param(
            [*TRAINING, *journals.loss_of_rank_1()], Driver.ALIVE, 1, "training", id="recovered"
        ),
        pytest.param(
            [*TRAINING, journals.event(20, "waiting", reason="1 of 2")],
            Driver.ALIVE,
            1,
            "waiting",
            id="too few workers",
        ),
        pytest.param(
            [*TRAINING, journals.event(20, "stopping", reason="SIGTERM")],
            Driver.ALIVE,
            1,
            "stopping",
            id="SIGTERM",
        ),
        pytest.param(TRAINING, Driver.DEAD, 1, "dead", id="driver killed"),
        pytest.param(TRAINING, Driver.SILENT, 1, "silent", id="looked too briefly"),
        pytest.param(journals.whole_run(), Driver.RELEASED, 1, "done", id="done"),
        pytest.param(
            journals.whole_run(), Driver.DEAD, 1, "done", id="done, and its process is gone"
        ),
        pytest.param(
            [*TRAINING, journals.finish(20, 600, outcome="stopped")],
            Driver.RELEASED,
            1,
            "stopped",
            id="stopped",
        ),
        pytest.param(
            [*TRAINING, journals.finish(20, 600, outcome="failed")],
            Driver.RELEASED,
            1,
            "failed",
            id="failed",
        ),
        pytest.param(
            journals.whole_run(), Driver.ALIVE, 2, "starting", id="a second command has just begun"
        ),
        pytest.param(
            journals.whole_run(),
            Driver.DEAD,
            2,
            "dead",
            id="a second driver died before its first word",
        ),
    ],
)
def test_state_of_a_run_follows_from_journal_and_heartbeat(
    events: list[journals.Event], driver: Driver, attempt: int, state: str
) -> None:
    assert told(events, driver, attempt).state == state


def test_status_tells_how_many_batches_make_a_step() -> None:
    events = [*journals.beginning(batches_per_step=4), journals.progress(10, 600)]
    found = told(events, Driver.ALIVE)
    assert found.batches_per_step == 4
    assert "4 batches make a step, on any number of workers" in dict.fromkeys(
        text for _, text in status_text._lines(found.as_dict())
    )
    assert told(TRAINING, Driver.ALIVE).batches_per_step is None, (
        "journals of older versions say nothing of it"
    )


def test_status_of_a_living_run_tells_workers_rate_next_save_and_the_time_left() -> None:
    events = [
        *TRAINING,
        *journals.loss_of_rank_1(),
        journals.progress(35, 1000, next_save_step=1100),
    ]
    found = told(events, Driver.ALIVE)
    assert [(worker.rank, worker.worker, worker.pid) for worker in found.workers] == [
        (0, "w0001", 100),
        (1, "w0003", 102),
    ]
    assert (found.world_size, found.generation, found.step, found.next_save_step) == (
        2,
        2,
        1000,
        1100,
    )
    assert (found.steps_per_s, found.eta_s, found.checkpoint_age_s) == (20.0, 50.0, 57.0)
    assert found.incidents[0]["recovered_s"] == 0.41
    assert 0 < found.goodput < 1


def test_status_tells_up_to_which_step_changed_rows_were_saved_over_the_checkpoint(
    output: Location, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = replace(SAVED, changes_step=1150)
    found = told(TRAINING, Driver.ALIVE, saved=saved)
    assert (found.checkpoint_step, found.changed_rows_step) == (1100, 1150)
    assert told(TRAINING, Driver.ALIVE).changed_rows_step is None

    monkeypatch.setenv("COLUMNS", "400")
    started(output).release()
    record_takeover(output, 1, 1, 0)
    chain = Run()
    chain.train()
    chain.saved(output)
    assert run(["status", output.url]) == 0
    assert "changed rows" not in capsys.readouterr().out
    chain.train()
    chain.saved_changes(output)
    assert run(["status", output.url]) == 0
    assert "m-1 (saved" in (shown := capsys.readouterr().out)
    assert "changed rows up to step 2)" in shown


def test_status_counts_incidents_that_are_too_many_to_be_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orchestrator.decide.standing.MOST_INCIDENTS", 10)
    over = [
        journals.event(30.0 + n, "incident", kind="died", recovered_s=float(n), steps_redone=n)
        for n in range(25)
    ]
    found = told([*TRAINING, *over], Driver.ALIVE)
    assert [incident["recovered_s"] for incident in found.incidents] == list(range(15, 25))
    assert (found.earlier_incidents, found.steps_redone) == (15, sum(range(25)))
    lines = dict(status_text._lines(found.as_dict()))
    assert lines["incidents"].startswith("25, 300 steps redone")


def test_status_of_a_living_run_lists_standbys_without_a_rank() -> None:
    assert [(worker.rank, worker.worker) for worker in told(TRAINING, Driver.ALIVE).workers] == [
        (0, "w0001"),
        (1, "w0002"),
        (None, "w0003"),
    ]


def test_status_of_a_dead_run_claims_no_workers_rate_or_next_save() -> None:
    found = told(TRAINING, Driver.DEAD)
    assert (
        found.workers,
        found.world_size,
        found.steps_per_s,
        found.next_save_step,
        found.eta_s,
    ) == ((), 0, None, None, None)
    assert found.step == 580
    assert found.checkpoint == SAVED.prefix


def test_status_before_the_first_event_tells_the_checkpoints_step() -> None:
    assert told([], Driver.DEAD).step == 1100
    assert told([], Driver.DEAD, saved=None).step == 500


class Clock:
    """A clock that only waiting moves; ``while_waiting`` is what others do meanwhile."""

    def __init__(self, while_waiting: Any = lambda: None) -> None:
        self.now_s = 0.0
        self.while_waiting = while_waiting

    def now(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.while_waiting()


@pytest.fixture
def output(tmp_path: Path) -> Location:
    return open_location(str(tmp_path / "more"))


def started(output: Location, lease_s: float = 30.0) -> Lease:
    lease = acquire(output, "bob@elsewhere pid 12", lease_s=lease_s)
    create_run_record(
        output, RunRecord(source="gs://b/run", fingerprint="f", name="model.ckpt", started_step=500)
    )
    journal = Journal(output, lease.attempt)
    for event in TRAINING:
        journal.append(event)
    journal.flush()
    return lease


def long_after() -> float:
    """Our wall clock, by which no heartbeat of a test is young."""
    return time.time() + 1000.0


def on_another_machine(output: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "orchestrator.store.objects.processes.this_machine", lambda: "another machine"
    )


def test_status_of_a_run_whose_heart_beats_is_alive_as_soon_as_it_beats(output: Location) -> None:
    lease = started(output)
    clock = Clock(while_waiting=lease.heartbeat)
    found = status(output.url, now=clock.now, wait=clock.wait, wall=long_after)
    assert (found.state, found.driver, found.holder) == (
        "training",
        "alive",
        "bob@elsewhere pid 12",
    )
    assert clock.now_s <= 30.0 / BEATS_PER_LEASE


def test_status_of_a_silent_driver_elsewhere_is_dead_after_its_lease_and_not_before(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(output)
    on_another_machine(output, monkeypatch)
    clock = Clock()
    found = status(output.url, now=clock.now, wait=clock.wait, wall=long_after)
    assert found.state == "dead"
    assert clock.now_s >= 30.0
    clock = Clock()
    found = status(output.url, patience_s=5.0, now=clock.now, wait=clock.wait, wall=long_after)
    assert found.state == "silent"


def test_status_of_a_run_whose_heartbeat_is_young_needs_no_waiting(output: Location) -> None:
    started(output)
    clock = Clock()
    found = status(output.url, now=clock.now, wait=clock.wait)
    assert (found.state, found.driver) == ("training", "alive")
    assert clock.now_s == 0


def test_status_asks_for_what_does_not_depend_on_each_other_side_by_side(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a store far away, a dozen answers one after the other take longer than a second."""
    started(output)
    for together in (
        ("read_run_record", "newest"),
        ("read_folds", "read_stop_requests"),
    ):
        met = threading.Barrier(len(together))
        for name in together:
            monkeypatch.setattr(status_room, name, _after(met, getattr(status_room, name)))
    assert status(output.url).state == "training"


def _after(met: threading.Barrier, read: Callable[..., Any]) -> Callable[..., Any]:
    """``read`` once the others that meet there have begun as well."""

    def reading(*arguments: Any) -> Any:
        met.wait(60)
        return read(*arguments)

    return reading


def test_status_of_a_run_that_was_asked_to_stop_says_so(output: Location) -> None:
    lease = started(output)
    request_stop(output, attempt=lease.attempt)
    clock = Clock(while_waiting=lease.heartbeat)
    assert status(output.url, now=clock.now, wait=clock.wait).stop_requested


def test_status_of_a_released_run_needs_no_waiting(output: Location) -> None:
    started(output).release()
    clock = Clock()
    assert status(output.url, now=clock.now, wait=clock.wait).state == "stopped"
    assert clock.now_s == 0


def test_status_of_a_place_without_a_run_is_refused_by_name(output: Location) -> None:
    with pytest.raises(SourceError, match=r"there is no run at .*more"):
        status(output.url)


def test_status_of_a_run_with_a_damaged_journal_tells_the_rest_and_the_trouble(
    output: Location,
) -> None:
    started(output).release()
    output.child("_tfresume", "journal", "a0001-000001.jsonl").write_bytes(b"{half")
    found = status(output.url)
    assert (found.state, found.step, found.source) == ("stopped", 500, "gs://b/run")
    assert "a0001-000001.jsonl is damaged" in found.trouble[0]


def test_command_status_prints_one_object_with_the_promised_keys(
    output: Location, capsys: pytest.CaptureFixture[str]
) -> None:
    started(output).release()
    assert run(["status", output.url, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    promised = {
        "state",
        "step",
        "world_size",
        "generation",
        "workers",
        "checkpoint",
        "incidents",
        "goodput",
    }
    assert promised <= set(found)


@pytest.mark.slow
def test_status_and_report_work_where_neither_tensorflow_nor_ray_can_be_imported(
    output: Location, tmp_path: Path
) -> None:
    started(output).release()
    code = f"""
        import sys
        sys.modules["tensorflow"] = sys.modules["ray"] = None
        from launch.cli import run
        assert run(["status", {output.url!r}]) == 0
        assert run(["checkpoints", {output.url!r}]) == 0
        assert run(["report", {output.url!r}, "-o", {str(tmp_path / "report.html")!r}]) == 0
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_command_status_prints_step_incident_and_goodput_for_people(
    output: Location, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    lease = started(output)
    journal = Journal(output, lease.attempt + 1)
    for event in [
        *journals.loss_of_rank_1(),
        journals.progress(40, 1000),
        journals.finish(41, 1000),
    ]:
        journal.append({**event, "attempt": 1}, durable=True)
    lease.release()
    assert run(["status", output.url]) == 0
    shown = capsys.readouterr().out
    assert "1,000 of 2,000" in shown
    assert (
        "died rank 1 on node-b (SIGKILL): first useful step after 0.41 s, 0 steps redone; went on with 2 workers from the live state; "
        f"loss 2 of 60 within an hour, 58 left; more: `tfresume logs {output.shown} --worker w0002`"
        in shown
    )
    assert "goodput" in shown


def test_command_status_never_shows_a_credential(
    output: Location, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE_TOKEN", "s3cr3t-value-of-the-store")
    lease = acquire(output, "bob s3cr3t-value-of-the-store")
    create_run_record(
        output,
        RunRecord(
            source="s3://k:AKIAABCDEFGHIJKLMNOP@b/run", fingerprint="f", name="m", started_step=0
        ),
    )
    lease.release()
    assert run(["status", output.url]) == 0
    assert run(["status", output.url, "--json"]) == 0
    shown = capsys.readouterr().out
    assert "s3cr3t-value" not in shown
    assert "AKIAABCDEFGHIJKLMNOP" not in shown


def test_standby_that_was_adopted_with_the_group_is_no_member() -> None:
    workers = ["w0001", "w0002", "w0003"]
    adopted = journals.event(
        61,
        "adopted",
        2,
        workers=workers,
        members=["w0001", "w0002"],
        generation=1,
        complete=True,
        step=900,
    )
    found = told([*TRAINING, journals.event(60, "attempt", 2), adopted], Driver.ALIVE, 2)
    assert found.world_size == 2
    assert {worker.worker: worker.rank for worker in found.workers} == {
        "w0001": 0,
        "w0002": 1,
        "w0003": None,
    }


def test_command_that_an_incident_names_shows_what_is_known_of_its_worker(
    output: Location, capsys: pytest.CaptureFixture[str]
) -> None:
    lease = started(output)
    journal = Journal(output, lease.attempt + 1)
    for event in journals.loss_of_rank_1():
        journal.append({**event, "attempt": 1}, durable=True)
    lease.release()
    (incident,) = status(output.url).incidents
    assert (incident["exit_code"], incident["losses"], incident["losses_allowed"]) == (-9, 2, 60)
    assert run(shlex.split(incident["logs"])[1:]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all("w0002" in line for line in lines)
    assert any("worker_lost" in line for line in lines)
    assert run(["logs", output.url, "--worker", "w0002", "-n", "1", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["events"]) == 1
