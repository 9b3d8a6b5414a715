"""What an evaluator reads, and what it keeps as the best, isn't deleted; what it left behind is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from orchestrator.errors import ConfigError, OutputError
from orchestrator.store.checkpoints import retention
from orchestrator.store.checkpoints.reports import checkpoints_report
from orchestrator.store.checkpoints.retention import deletion_note, is_taken, prune, retain
from orchestrator.store.checkpoints.run_checkpoints import Checkpoint, list_checkpoints, scan
from orchestrator.store.objects.exclusive import create_once
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.evaluations import Best, Evaluation, Evaluations, Holds
from orchestrator.store.run.lease import acquire
from orchestrator.store.run.lineage import record_takeover
from tests.fakes.clocks import FakeClock
from tests.store.runs import saved


def run_of(output: Location, *steps: int) -> dict[int, Checkpoint]:
    """Committed checkpoints by step."""
    record_takeover(output, 1, 1, 0, (0, 0))
    for step in steps:
        saved(output, step)
    return {item.step: item for item in list_checkpoints(output)}


def kept(output: Location, holds: Holds) -> list[int]:
    retain(output, max_to_keep=1, keep_every_hours=1e4, needed=holds.reasons)
    return sorted(item.step for item in list_checkpoints(output))


@pytest.fixture
def output(tmp_path: Path) -> Location:
    return open_location(str(tmp_path / "out"))


def strange(own: Evaluations) -> None:
    """The lease looks like another machine's: nobody can tell that its process is gone."""
    file = Path(own.place.child("_tfresume", "lease", "0001.json").path)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"machine": "another"}))


def test_checkpoint_that_is_read_stays_until_its_reader_has_been_silent_for_its_lease(
    output: Location,
) -> None:
    items = run_of(output, 100, 200, 300)
    own, clock = Evaluations(output, "eval"), FakeClock()
    lease = acquire(own.place, lease_s=30.0)
    strange(own)
    own.hold(items[100].label)
    holds = Holds(output, clock.now)
    assert kept(output, holds) == [100, 300]
    clock.wait(29.0)
    lease.heartbeat()
    assert kept(output, holds) == [100, 300]
    clock.wait(29.0)
    assert kept(output, holds) == [100, 300], "it has beaten since"
    clock.wait(2.0)
    assert kept(output, holds) == [300]


def test_checkpoint_that_was_read_goes_when_its_reader_says_so_or_ends(output: Location) -> None:
    items = run_of(output, 100, 200, 300)
    own = Evaluations(output, "eval")
    lease = acquire(own.place)
    own.hold(items[100].label)
    holds = Holds(output)
    assert kept(output, holds) == [100, 300]
    own.hold("")
    assert kept(output, holds) == [300]
    own.hold(list_checkpoints(output)[0].label)
    saved(output, 400)
    assert kept(output, holds) == [300, 400]
    lease.release()
    assert kept(output, holds) == [400]


def test_whoever_asks_once_watches_an_evaluator_that_may_be_dead_until_it_is_known(
    output: Location,
) -> None:
    items = run_of(output, 100)
    own, clock = Evaluations(output, "eval"), FakeClock()
    lease = acquire(own.place, lease_s=30.0)
    strange(own)
    own.hold(items[100].label)
    assert list(Holds(output, clock.now, clock.wait).reasons()) == [items[100].label]
    assert clock.waits == 0, "its heartbeat is a moment old"
    beat = Path(own.place.child("_tfresume", "lease", "0001.heartbeat").path)
    os.utime(beat, (1, 1))
    clock.meanwhile = lease.heartbeat
    assert list(Holds(output, clock.now, clock.wait).reasons()) == [items[100].label]
    assert clock.waits == 1, "it beat while it was watched"
    os.utime(beat, (1, 1))
    clock.meanwhile = lambda: None
    began_s = clock.now()
    assert Holds(output, clock.now, clock.wait).reasons() == {}
    assert clock.now() - began_s == pytest.approx(30.0, abs=3.0)


def fenced(output: Location) -> Checkpoint:
    """A checkpoint beyond the step at which the next attempt took over."""
    run_of(output, 100, 200)
    record_takeover(output, 2, 1, 150, (1, 1))
    (found,) = (item for item in scan(output) if item.fenced)
    return found


def test_prune_leaves_what_is_read_and_takes_what_a_dead_evaluator_held(output: Location) -> None:
    item = fenced(output)
    own = Evaluations(output, "eval")
    lease = acquire(own.place, lease_s=0.2)
    strange(own)
    own.hold(item.label)
    lease.heartbeat()
    os.utime(own.place.child("_tfresume", "lease", "0001.heartbeat").path, (1, 1))
    assert prune(output, held=False).checkpoints == (item.label,)


def test_prune_gives_way_to_a_reader_that_comes_between_note_and_deletion(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = fenced(output)
    own = Evaluations(output, "eval")
    acquire(own.place)

    def note_and_come(location: Location, data: bytes) -> None:
        create_once(location, data)
        own.hold(item.label)

    monkeypatch.setattr(retention, "create_once", note_and_come)
    pruned = prune(output, held=False)
    assert (pruned.checkpoints, pruned.freed_bytes) == ((), 0)
    assert is_taken(item)


def test_best_stays_also_when_its_evaluator_is_gone_and_checkpoints_shows_it(
    output: Location,
) -> None:
    items = run_of(output, 100, 200, 300)
    own = Evaluations(output, "eval")
    own.keep(Best(label=items[200].label, step=200, metric="loss:0", better="min", value=0.25))
    assert kept(output, Holds(output)) == [200, 300]
    shown = {row.step: row.kept_for for row in checkpoints_report(output).checkpoints}
    assert shown == {300: "", 200: "best loss:0 of eval: 0.25"}


def test_infinite_best_comes_back_and_a_damaged_record_stops_no_retention(
    output: Location, caplog: pytest.LogCaptureFixture
) -> None:
    items = run_of(output, 100, 200, 300)
    own = Evaluations(output, "eval")
    best = Best(label=items[200].label, step=200, metric="loss:0", better="max", value=float("inf"))
    own.keep(best)
    assert own.best() == best
    assert kept(output, Holds(output)) == [200, 300]
    file = Path(own.place.child("best.json").path)
    file.write_text(json.dumps(best.model_dump() | {"value": None}))
    assert own.best() is None
    (told,) = (record.getMessage() for record in caplog.records)
    assert told.startswith(f"{file} is damaged: value: ")
    assert told.endswith(": it's taken as if no best one had been chosen")
    assert kept(output, Holds(output)) == [300]


def test_damaged_word_of_what_is_read_stops_deletions_only_while_its_reader_lives(
    output: Location,
) -> None:
    """That of a dead one stopped them for good: the disk filled up with checkpoints."""
    run_of(output, 100, 200, 300)
    own, clock = Evaluations(output, "eval"), FakeClock()
    acquire(own.place, lease_s=30.0)
    strange(own)
    own.place.child("holding.json").write_bytes(b"{")
    holds = Holds(output, clock.now)
    with pytest.raises(OutputError, match=r"holding\.json is damaged"):
        kept(output, holds)
    clock.wait(29.0)
    with pytest.raises(OutputError):
        holds.reasons()
    assert [item.step for item in list_checkpoints(output)] == [300, 200, 100]
    clock.wait(2.0)
    assert kept(output, holds) == [300]


def test_reader_that_comes_between_note_and_deletion_keeps_its_checkpoint(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The note is there, the manifest isn't deleted yet: the deleter has to see the hold."""
    items = run_of(output, 100, 200)
    own = Evaluations(output, "eval")
    acquire(own.place)
    came: list[bool] = []

    def note_and_come(location: Location, data: bytes) -> None:
        create_once(location, data)
        own.hold(items[100].label)
        came.append(is_taken(items[100]))

    monkeypatch.setattr(retention, "create_once", note_and_come)
    assert kept(output, Holds(output)) == [100, 200]
    assert came == [False], "it gives way: it can't know who is faster"
    assert is_taken(items[100])


def test_deletion_that_a_crash_interrupted_gives_way_to_a_reader_and_else_is_finished(
    output: Location,
) -> None:
    items = run_of(output, 100, 200, 300)
    own = Evaluations(output, "eval")
    acquire(own.place)
    for step in (100, 200):
        create_once(deletion_note(items[step]), items[step].manifest().to_bytes())
    own.hold(items[100].label)
    assert kept(output, Holds(output)) == [100, 300]


def test_results_are_there_for_the_next_life_and_the_first_of_a_label_stays(
    output: Location,
) -> None:
    own = Evaluations(output, "eval")
    assert own.results() == {}
    first = Evaluation(
        label="a0001-g0001/m-1", step=1, metrics={"loss:0": float("nan"), "acc:0": 0.5},
        rows=8, batches=1, seconds=0.1, at=1.0,
    )  # fmt: skip
    own.add(first)
    own.add(first.model_copy(update={"rows": 9, "token": "other"}))
    (found,) = Evaluations(output, "eval").results().values()
    assert (found.rows, found.metrics["acc:0"]) == (8, 0.5)
    assert found.metrics["loss:0"] != found.metrics["loss:0"]


def test_name_that_is_no_directorys_is_refused(output: Location) -> None:
    for name in ("", "../run", "a/b", ".hidden"):
        with pytest.raises(ConfigError, match="can't be called"):
            Evaluations(output, name)


def test_evaluation_is_written_anew_in_its_own_file(output: Location) -> None:
    own = Evaluations(output, "eval")
    first = Evaluation(
        label="a0001-g0001/m-5",
        step=5,
        metrics={"auc": 0.5},
        rows=1,
        batches=1,
        seconds=1.0,
        at=0.0,
    )
    own.add(first)
    more = first.model_copy(update={"metrics": {"auc": 0.5, "loss": 0.25}})
    own.add(more)
    assert own.results() == {first.label: first}, "what is there stays"
    own.replace(more)
    assert own.results() == {first.label: more}
    (file,) = own.place.child("results").list()
    assert file.name == "a0001-g0001.m-5.json"


def test_reason_of_a_hold_names_who_evaluates(output: Location) -> None:
    own = Evaluations(output, "eval")
    acquire(own.place)
    assert own.held() == ""
    assert Holds(output).reasons() == {}
    own.hold("a0001-g0001/m-5")
    assert Holds(output).reasons() == {"a0001-g0001/m-5": "eval is evaluating it"}
    with pytest.raises(ConfigError) as refused:
        Evaluations(output, "../eval")
    assert refused.value.remedy == "Use letters, digits, dots, dashes and underscores"
