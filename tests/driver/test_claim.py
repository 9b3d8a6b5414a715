"""Who has the lease when a driver takes a run up, and from when on does it read what others wrote?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import RunConfig, parse_config
from orchestrator.driver import claim as room
from orchestrator.driver.claim import Claim
from orchestrator.driver.past import Past
from orchestrator.errors import OutputError
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.journal import Journal
from orchestrator.store.run.lease import acquire, observe
from orchestrator.store.run.lineage import record_takeover
from orchestrator.workers.scheduling import Threads
from tests.fakes.clocks import FakeClock
from tests.launch import journals
from tests.store.runs import saved


class Clocks(Threads):
    """A driver's clocks, which move when it waits."""

    def __init__(self) -> None:
        self.clock = FakeClock()

    def monotonic(self) -> float:
        return self.clock.now()

    def sleep(self, seconds: float) -> None:
        self.clock.wait(seconds)
        assert self.clock.waits < 100, "nobody looks at this clock"


@pytest.fixture
def output(tmp_path: Path) -> Location:
    return open_location(str(tmp_path / "out"))


def config_of(output: Location, **given: Any) -> RunConfig:
    return parse_config({"source": "none", "output": output.url, "until_step": 9, **given})


def told(output: Location, number: int, *events: dict[str, Any]) -> None:
    """An attempt that ended in order, and what its journal says."""
    lease = acquire(output, f"driver {number}")
    assert lease.attempt == number
    journal = Journal(output, number)
    for event in events:
        journal.append(event)
    journal.flush()
    lease.release()


def test_first_driver_of_an_output_has_no_past_and_holds_it_for_as_long_as_it_was_asked_to(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unasked(*_: Any) -> Any:
        raise AssertionError("nobody has written a journal here")

    monkeypatch.setattr(room, "read_folds", unasked)
    config = config_of(output, lease_s=12.0)
    with Claim.take(config, output) as claim:
        assert (claim.attempt, claim.config, claim.output) == (1, config, output)
        assert claim.past == Past()
        assert claim.lease.holder.lease_s == 12.0
        assert not observe(output).released
    assert observe(output).released


def test_claim_that_came_to_nothing_is_given_up_and_one_that_was_passed_on_is_kept(
    output: Location,
) -> None:
    config = config_of(output)
    with pytest.raises(OutputError), Claim.take(config, output):
        raise OutputError("the source is gone")
    assert observe(output).released
    with Claim.take(config, output) as claim:
        claim.pass_on()
    assert not observe(output).released
    claim.lease.check()


def test_driver_waits_for_a_silent_holder_by_the_clocks_that_it_was_given(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire(output, "silent", lease_s=30.0)
    monkeypatch.setattr("orchestrator.store.objects.processes.this_machine", lambda: "elsewhere")
    scheduler = Clocks()
    claim = Claim.take(config_of(output), output, scheduler)
    assert (claim.attempt, claim.scheduler) == (2, scheduler)
    assert scheduler.clock.now_s == 1030.0
    assert claim.lease.now == scheduler.monotonic
    assert claim.lease.is_fresh


def test_later_driver_knows_what_the_journal_says(output: Location) -> None:
    told(output, 1, *journals.beginning())
    claim = Claim.take(config_of(output), output)
    assert claim.past.last_generation == 1
    assert claim.past.next_worker(()) == 4
    assert (claim.past.damaged, claim.past.newest_label) == ((), None)


def test_newest_checkpoint_of_a_journal_that_is_whole_is_not_looked_for(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the store holds beyond it isn't this run's any more, or its driver died before it told."""
    told(output, 1, *journals.beginning())
    record_takeover(output, 1, 1, 500)
    saved(output, 600)
    assert Claim.take(config_of(output), output).past.newest_label is None


def test_checkpoint_that_a_damaged_journal_tells_of_is_the_one_of_the_store_where_they_differ(
    output: Location,
) -> None:
    record_takeover(output, 1, 3, 500)
    item = saved(output, 600, generation=3)
    old = {"step": 550, "generation": 2, "checkpoint": "a0001-g0002/model.ckpt-550"}
    told(output, 1, *journals.beginning(), journals.event(40, "save_committed", **old))
    damage(output)
    newest = Claim.take(config_of(output), output).past.traces.newest
    assert newest is not None
    assert (newest.step, newest.generation, newest.checkpoint) == (600, 3, item.label)
    assert newest.size_bytes == item.size_bytes
    assert (newest.stall_s, newest.commit_s) == (None, None)


def test_checkpoint_of_which_both_tell_keeps_what_the_journal_says_of_it(output: Location) -> None:
    record_takeover(output, 1, 1, 500)
    item = saved(output, 600)
    save = {"step": 600, "generation": 1, "checkpoint": item.label, "stall_s": 0.5}
    told(output, 1, *journals.beginning(), journals.event(40, "save_committed", **save))
    damage(output)
    newest = Claim.take(config_of(output), output).past.traces.newest
    assert newest is not None
    assert newest.stall_s == 0.5


def test_damaged_journal_of_a_run_without_checkpoints_tells_of_none(output: Location) -> None:
    told(output, 1, *journals.beginning())
    damage(output)
    past = Claim.take(config_of(output), output).past
    assert past.newest_label is None
    assert len(past.damaged) == 1


def damage(output: Location) -> None:
    """One more part, which was cut off."""
    output.child("_tfresume", "journal", "a0001-000002.jsonl").write_bytes(b'{"event": "cut')


@pytest.mark.parametrize("parts", [1, 5])
def test_driver_leaves_a_snapshot_of_a_long_journal_to_the_next_one(
    output: Location, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "LONG", 5)
    lease = acquire(output)
    journal = Journal(output, 1)
    for event in journals.beginning()[:parts]:
        journal.append(event, durable=True)
    lease.release()
    Claim.take(config_of(output), output)
    names = [entry.name for entry in output.child("_tfresume", "journal").list()]
    assert any(name.endswith(".snapshot.json") for name in names) == (parts >= 5)


@pytest.mark.parametrize(("damaged", "last"), [(3, None), (4, "1 more parts are damaged")])
def test_few_damaged_parts_are_told_one_by_one_and_of_many_how_many_there_are(
    output: Location, damaged: int, last: str | None
) -> None:
    told(output, 1, *journals.beginning())
    for number in range(2, 2 + damaged):
        output.child("_tfresume", "journal", f"a0001-{number:06d}.jsonl").write_bytes(b"")
    words = Claim.take(config_of(output), output).past.damaged
    assert all(
        word.endswith("losses that stood there no longer count against the retry budgets")
        for word in words[:3]
    )
    assert words[3:] == (() if last is None else (last,))
