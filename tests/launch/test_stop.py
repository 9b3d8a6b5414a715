"""Does ``stop`` reach the driver that holds the run, and know when it's over?"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from launch.cli import run
from launch.stop import SUCCESSOR_S, stop
from launch.text.log_text import log_line
from orchestrator.errors import ClusterUnavailable, SourceError
from orchestrator.journal.parsing import parse
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run import journal as journal_module
from orchestrator.store.run.journal import Journal
from orchestrator.store.run.lease import Lease, acquire
from orchestrator.store.run.run_record import RunRecord, create_run_record, read_stop_requests
from tests.launch import journals
from tests.launch.journals import beginning, loss_of_rank_1, whole_run


@pytest.fixture
def output(tmp_path: Path) -> Location:
    found = open_location(str(tmp_path / "run"))
    create_run_record(
        found, RunRecord(source="gs://b/run", fingerprint="f", name="model.ckpt", started_step=500)
    )
    return found


@pytest.fixture
def held(output: Location) -> Lease:
    return acquire(output)


class Clock:
    """A clock that moves when it's waited for, and may do something then."""

    def __init__(self, then: object = None) -> None:
        self.at = 0.0
        self.then = then

    def now(self) -> float:
        return self.at

    def wait(self, seconds: float) -> None:
        self.at += seconds
        if callable(self.then):
            self.then()


def test_stop_of_a_living_run_asks_its_attempt_and_ends_when_the_lease_is_released(
    output: Location, held: Lease
) -> None:
    asked: list[tuple[str, int]] = []

    def end() -> None:
        asked.extend((request.mode, request.attempt) for request in read_stop_requests(output))
        held.release()

    clock = Clock(then=end)
    outcome = stop(str(output.url), now=clock.now, wait=clock.wait)
    assert (outcome.state, outcome.attempt) == ("stopped", held.attempt)
    assert asked == [("save", held.attempt)]
    assert read_stop_requests(output) == (), "what was followed is no request any more"


def test_stop_that_does_not_wait_returns_when_the_request_is_written(
    output: Location, held: Lease
) -> None:
    assert stop(str(output.url), mode="now", timeout_s=0).state == "asked"
    assert [request.mode for request in read_stop_requests(output)] == ["now"]


def test_stop_of_a_run_that_does_not_end_in_time_says_that_the_driver_has_the_request(
    output: Location, held: Lease
) -> None:
    clock = Clock(then=lambda: held.heartbeat())
    with pytest.raises(ClusterUnavailable, match="hasn't stopped within 60 s") as caught:
        stop(str(output.url), timeout_s=60, now=clock.now, wait=clock.wait)
    assert "--now" in caught.value.remedy


def test_stop_of_a_driver_that_died_on_another_machine_takes_its_lease_and_no_longer(
    output: Location, held: Lease
) -> None:
    elsewhere(output, held)
    clock = Clock()
    outcome = stop(str(output.url), timeout_s=300, now=clock.now, wait=clock.wait)
    assert outcome.state == "dead"
    assert (
        held.holder.lease_s + SUCCESSOR_S
        <= outcome.waited_s
        < held.holder.lease_s + SUCCESSOR_S + 2
    )
    assert read_stop_requests(output) == (), "the next start isn't to be stopped"


def elsewhere(output: Location, held: Lease) -> None:
    """The holder seems to be on another machine, where nobody can see its process."""
    lease = output.child("_tfresume", "lease", "0001.json")
    lease.delete()
    lease.write_bytes(
        held.holder.model_copy(update={"machine": "another"}).model_dump_json().encode()
    )


def test_stop_while_the_driver_is_started_again_waits_until_its_successor_has_followed(
    output: Location, held: Lease
) -> None:
    elsewhere(output, held)
    successor: list[Lease] = []

    def go_on() -> None:
        if clock.at > held.holder.lease_s + 5 and not successor:
            output.child("_tfresume", "lease", "0002.json").write_bytes(
                held.holder.model_copy(update={"attempt": 2, "writer": "w2"})
                .model_dump_json()
                .encode()
            )
            successor.append(held)
            followed.extend(request.attempt for request in read_stop_requests(output))
        elif clock.at > held.holder.lease_s + 20:
            output.child("_tfresume", "lease", "0002.released").write_bytes(b"")

    followed: list[int] = []
    clock = Clock(then=go_on)
    outcome = stop(str(output.url), timeout_s=300, now=clock.now, wait=clock.wait)
    assert followed == [1], "the request stood when the successor came"
    assert (outcome.state, outcome.attempt) == ("stopped", 2)


def test_stop_of_a_run_that_nobody_holds_asks_nobody(output: Location) -> None:
    assert stop(str(output.url)).state == "not running"
    assert read_stop_requests(output) == ()


def test_stop_of_a_run_that_has_ended_asks_nobody(output: Location, held: Lease) -> None:
    held.release()
    assert stop(str(output.url)).state == "not running"
    assert read_stop_requests(output) == ()


def test_stop_where_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no run at"):
        stop(str(tmp_path / "nothing"))


def test_stop_command_prints_one_json_object(
    output: Location, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["stop", str(output.url), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "not running"


def test_stop_command_where_no_run_is_exits_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["stop", str(tmp_path / "nothing")]) == 2
    assert "there is no run" in capsys.readouterr().err


def write(output: Location, events: list[dict[str, object]]) -> None:
    journal = Journal(output, 1)
    for event in events:
        journal.append(event)
    journal.flush()


def test_log_line_holds_time_attempt_event_and_every_field() -> None:
    line = log_line(parse({**loss_of_rank_1()[0], "reason": "killed by hand"}))
    assert line[19:].startswith(" a0001 worker_lost worker=w0002 rank=1 node=node-b")
    assert 'reason="killed by hand"' in line


def test_log_line_hides_credentials() -> None:
    record = {"event": "attempt", "at": 1.0, "attempt": 1, "source": "s3://AKIA1:geheim123@b/x"}
    assert "geheim123" not in log_line(parse(record))


def test_logs_prints_the_journal_in_order(
    output: Location, capsys: pytest.CaptureFixture[str]
) -> None:
    write(output, whole_run())
    assert run(["logs", str(output.url)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(whole_run())
    assert " attempt " in lines[0]
    assert " finish " in lines[-1]


def test_logs_of_the_last_events_only(output: Location, capsys: pytest.CaptureFixture[str]) -> None:
    write(output, whole_run())
    assert run(["logs", str(output.url), "-n", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_logs_where_no_run_is_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["logs", str(tmp_path / "nothing")]) == 2
    assert "there is no run" in capsys.readouterr().err


def test_logs_follow_shows_what_comes_and_ends_with_the_run(
    output: Location, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launch.commands.logs.FOLLOW_EVERY_S", 0.01)
    events = whole_run()
    journal = Journal(output, 1)
    for event in events[:5]:
        journal.append(event)
    journal.flush()
    follower = threading.Thread(target=lambda: run(["logs", str(output.url), "--follow"]))
    follower.start()
    for event in events[5:]:
        journal.append(event)
    journal.flush()
    follower.join(timeout=30)
    assert not follower.is_alive()
    assert len(capsys.readouterr().out.splitlines()) == len(events)


def told_while_asleep(
    monkeypatch: pytest.MonkeyPatch, output: Location, events: list[dict[str, object]]
) -> list[float]:
    """The followed run tells its next event whenever its follower sleeps; the sleeps."""
    journal = Journal(output, 3)
    sleeps: list[float] = []

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        assert events, "follows a run that has ended"
        journal.append(events.pop(0), durable=True)

    monkeypatch.setattr("launch.commands.logs.time", SimpleNamespace(sleep=sleep))
    return sleeps


def test_logs_follow_goes_on_when_the_run_was_started_again_after_its_end(
    output: Location, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, again = whole_run(), beginning(2, 100.0)
    write(output, [*first, again[0]])
    rest = [*again[1:], journals.event(120.0, "finish", 2, outcome="done", step=2000)]
    expected = len(first) + 1 + len(rest)
    sleeps = told_while_asleep(monkeypatch, output, rest)
    assert run(["logs", str(output.url), "--follow"]) == 0
    assert sleeps
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == expected
    assert " a0002 finish " in lines[-1]


@pytest.mark.parametrize("words", [["-n", "2"], ["--worker", "w0002"]])
def test_logs_follow_of_a_selection_misses_nothing_that_comes_while_it_begins(
    words: list[str],
    output: Location,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(output, beginning())
    meanwhile = Journal(output, 2)
    lost = journals.event(20.0, "worker_lost", worker="w0002", rank=1, reason="came meanwhile")
    reads: list[int] = []

    def then_more(read: Callable[..., list[dict[str, object]]]) -> Callable[..., object]:
        def reading(*arguments: object) -> list[dict[str, object]]:
            found = read(*arguments)
            if not reads:
                meanwhile.append(lost, durable=True)
            reads.append(len(found))
            return found

        return reading

    for name in ("read_journal", "read_journal_tail"):
        place = f"orchestrator.store.run.journal.{name}"
        monkeypatch.setattr(place, then_more(getattr(journal_module, name)))
    told_while_asleep(
        monkeypatch, output, [journals.event(30.0, "finish", 1, outcome="done", step=2000)]
    )
    assert run(["logs", str(output.url), "--follow", *words]) == 0
    assert len(reads) > 1
    assert capsys.readouterr().out.count("came meanwhile") == 1


def test_logs_that_show_nothing_say_why(
    output: Location, capsys: pytest.CaptureFixture[str]
) -> None:
    write(output, beginning())
    assert run(["logs", output.url, "--worker", "w9999"]) == 0
    assert f"nothing in the journal of {output.url} names w9999" in capsys.readouterr().err
    assert run(["logs", output.url, "-n", "-1"]) == 2
    assert "Must be >= 0" in capsys.readouterr().err


def test_logs_of_a_job_nobody_submitted_needs_a_reachable_server(
    capsys: pytest.CaptureFixture[str],
) -> None:
    begun = time.monotonic()
    assert run(["logs", "gs://b/out", "--address", "http://127.0.0.1:1"]) == 2
    assert "no job server answers" in capsys.readouterr().err
    assert time.monotonic() - begun < 60
