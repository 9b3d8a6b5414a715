"""When does following a run end, and what is told until then? In this process, without TensorFlow:
what a checkpoint gives is told.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from itertools import groupby
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from orchestrator.config import RunConfig, parse_config
from orchestrator.decide.evaluating import Goal
from orchestrator.driver import evaluator
from orchestrator.driver.evaluate import Evaluated
from orchestrator.driver.evaluator import follow
from orchestrator.driver.following import Followed, Following
from orchestrator.driver.inference import NodeWish
from orchestrator.errors import ConfigError, OutputError, SourceError, StorageUnavailable
from orchestrator.store.checkpoints.retention import delete_checkpoint
from orchestrator.store.checkpoints.run_checkpoints import Checkpoint, list_checkpoints
from orchestrator.store.checkpoints.source import Source
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.evaluations import Best, Evaluation, Evaluations
from orchestrator.store.run.journal import Journal, read_journal_tail
from orchestrator.store.run.journal_parts import DamagedPart
from orchestrator.store.run.lease import acquire
from tests.driver.test_evaluator import PATIENCE_S, Told, best_of, result_of
from tests.fakes.clocks import FakeClock
from tests.fakes.event_files import events_in
from tests.launch import journals
from tests.store.damage import cut
from tests.store.test_evaluations import run_of

Checkpoints = dict[int, Checkpoint]
Saved = Callable[..., Checkpoints]
ENDED = "the run has ended, and each of its checkpoints was evaluated"
SILENT = f"nobody has trained for {PATIENCE_S:.0f} s"
EVERY_S = 20.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Location]:
    """Runs with committed checkpoints of some steps, each made once."""

    @cache
    def of(*steps: int) -> Location:
        output = open_location(str(tmp_path_factory.mktemp("made")))
        run_of(output, *steps)
        return output

    return of


@pytest.fixture
def output(tmp_path: Path) -> Location:
    return open_location(str(tmp_path / "out"))


@pytest.fixture
def saved(output: Location, made: Callable[..., Location]) -> Saved:
    """Puts such a run's checkpoints into the output; by step."""

    def copied(*steps: int) -> Checkpoints:
        shutil.copytree(made(*steps).path, output.path, dirs_exist_ok=True)
        return {item.step: item for item in list_checkpoints(output)}

    return copied


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    found = FakeClock()
    own = SimpleNamespace(monotonic=found.now, sleep=found.wait, time=lambda: 5.0)
    monkeypatch.setattr(evaluator, "time", own)
    return found


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> Told:
    found = Told({}, clock)
    monkeypatch.setattr(evaluator, "measured", found.measured)
    return found


def followed(output: Location, **asked: Any) -> Followed:
    config = asked.pop("config", parse_config({"source": output.url, "tensorboard": False}))
    telling = asked.pop("told", lambda result, best: None)
    wanted: Any = {"fetches": ("loss",), "every_s": EVERY_S, "patience_s": PATIENCE_S} | asked
    return follow(config, Following(**wanted), told=telling)


def journaled(output: Location, *events: Mapping[str, Any]) -> None:
    for attempt, told in groupby(events, lambda event: int(event["attempt"])):
        journal = Journal(output, attempt)
        for event in told:
            journal.append(event)
        journal.flush()


def finish(attempt: int = 1) -> Mapping[str, Any]:
    return journals.finish(89, 2000, attempt)


def progress(attempt: int = 1) -> Mapping[str, Any]:
    return journals.progress(90, 2000, attempt)


def test_run_that_is_not_there_is_waited_for_and_then_given_up(
    output: Location, told: Told, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    assert followed(output, name="other") == Followed("other", (), None, {}, False, SILENT)
    assert caplog.messages == [f"there is no run at {output.shown} yet; it's waited for"]
    assert clock.waits == PATIENCE_S / EVERY_S


@pytest.mark.parametrize(
    ("tail", "ended"),
    [
        ([finish()], True),
        ([finish(), progress()], True),
        ([progress(), progress(), progress(), finish()], True),
        ([finish(1), journals.event(95, "attempt", 2)], False),
        ([finish(1), finish(2)], True),
        ([progress()], False),
        ([], False),
    ],
)
def test_run_has_ended_where_its_last_driver_said_so_and_gave_it_up(
    output: Location,
    told: Told,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
    tail: list[Mapping[str, Any]],
    ended: bool,
) -> None:
    lease = acquire(output)
    journaled(output, *tail)
    lease.release()
    found = followed(output)
    assert (found.well, found.reason) == ((True, ENDED) if ended else (False, SILENT))
    assert (clock.waits == 0) is ended
    assert caplog.messages == []


def test_checkpoints_of_a_run_that_has_ended_are_evaluated_before_that_is_the_end(
    output: Location, saved: Saved, told: Told, clock: FakeClock
) -> None:
    lease = acquire(output)
    saved(100, 200)
    journaled(output, finish())
    lease.release()
    found = followed(output)
    assert [each.step for each in found.evaluations] == [100, 200]
    assert (found.well, clock.waits) == (True, 0)


def test_run_that_somebody_goes_on_with_has_not_ended(
    output: Location, told: Told, clock: FakeClock
) -> None:
    first = acquire(output)
    journaled(output, finish())
    first.release()
    acquire(output)
    found = followed(output)
    assert (found.well, found.reason) == (False, SILENT), "its driver says nothing more"


def test_run_is_followed_as_long_as_its_driver_lives(
    output: Location, saved: Saved, told: Told, clock: FakeClock
) -> None:
    lease = acquire(output, lease_s=30.0)
    saved(100)
    began_s = clock.now()

    def beat() -> None:
        if clock.waits <= 5:
            lease.heartbeat()

    clock.meanwhile = beat
    found = followed(output)
    assert (found.well, found.reason) == (False, SILENT)
    assert clock.now() - began_s == 5 * EVERY_S + PATIENCE_S


def test_damaged_end_of_the_journal_is_told_once(
    output: Location, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    lease = acquire(output)
    journaled(output, progress())
    lease.release()
    (part,) = output.child("_tfresume", "journal").list()
    cut(Path(part.location.path), 20)
    found = followed(output)
    assert (found.well, found.reason) == (False, SILENT)
    damaged: list[DamagedPart] = []
    read_journal_tail(output, 1, damaged.append)
    assert caplog.messages == [str(damaged[0])]


def test_checkpoint_that_is_deleted_or_bad_is_passed_over_with_the_reason(
    output: Location,
    saved: Saved,
    told: Told,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    acquire(output)
    items = saved(100, 200, 300)
    cut(Path(output.path, f"{items[200].label}.index"), 20)

    def listed(place: Location) -> tuple[Checkpoint, ...]:
        found = list_checkpoints(place)
        if any(item.step == 100 for item in found):
            delete_checkpoint(items[100])
        return found

    monkeypatch.setattr(evaluator, "list_checkpoints", listed)
    found = followed(output)
    assert told.asked == [300]
    assert found.skipped.keys() == {items[100].label, items[200].label}
    assert found.skipped[items[100].label] == "it was deleted before its turn"
    assert "m" in found.skipped[items[200].label]
    assert "model.ckpt-200.index has 20 bytes" in found.skipped[items[200].label]
    assert caplog.messages == [
        f"{label} isn't evaluated: {reason}" for label, reason in found.skipped.items()
    ]


def test_checkpoint_that_vanished_while_it_was_read_is_passed_over_with_the_reason(
    output: Location, saved: Saved, told: Told
) -> None:
    items = saved(100)

    def gone(_: Source) -> None:
        delete_checkpoint(items[100])
        raise SourceError("the file has vanished", details={"missing": True, "action": "read"})

    told.meanwhile = gone
    (reason,) = followed(output).skipped.values()
    assert reason.startswith(f"{items[100].prefix.shown} doesn't exist")


@pytest.mark.parametrize("error", [OutputError("read-only"), StorageUnavailable("503")])
def test_hold_that_cannot_be_given_up_ends_nothing(
    output: Location,
    saved: Saved,
    told: Told,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    saved(100, 200)
    hold = Evaluations.hold

    def holding(own: Evaluations, label: str) -> None:
        if not label:
            raise error
        hold(own, label)

    monkeypatch.setattr(Evaluations, "hold", holding)
    acquire(output)
    assert [each.step for each in followed(output).evaluations] == [100, 200]
    assert caplog.messages == []


def test_store_that_is_silent_for_a_while_is_borne_and_told(
    output: Location,
    saved: Saved,
    told: Told,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Two outages, each shorter than the patience: the second one's begins anew."""
    lease = acquire(output)
    saved(100)
    began_s = clock.now()
    clock.meanwhile = lease.heartbeat

    def listed(place: Location) -> tuple[Checkpoint, ...]:
        passed = clock.now() - began_s
        if passed >= 90.0:
            clock.meanwhile = lambda: None
        if passed < 30.0 or 50.0 < passed < 90.0:
            raise StorageUnavailable("503")
        return list_checkpoints(place)

    monkeypatch.setattr(evaluator, "list_checkpoints", listed)
    assert [each.step for each in followed(output).evaluations] == [100]
    assert caplog.messages == ["the output is looked at again soon: 503"] * 4


def test_engine_is_asked_for_what_the_evaluator_was_asked_for(
    output: Location, saved: Saved, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(100)
    asked: list[Any] = []

    def measured(source: Source, *words: Any, **how: Any) -> Any:
        asked.append((*words, how))
        return told.measured(source)

    monkeypatch.setattr(evaluator, "measured", measured)
    config = parse_config({"source": output.url, "tensorboard": False})
    place = NodeWish(labels={"gpu": "yes"})
    goal = Goal.parse("loss:min")
    followed(output, config=config, batches=3, place=place, keep_best=goal)
    how = {"besides": ("loss:0",), "batches": 3, "place": place}
    assert asked == [(config, ("loss",), how)]


def test_results_are_told_with_the_best_so_far_and_stay(
    output: Location, saved: Saved, told: Told
) -> None:
    items = saved(100, 200, 300)
    told.losses = {100: 0.2, 200: 0.1, 300: 0.3}
    heard: list[tuple[int, float | None]] = []

    def telling(result: Evaluation, best: Best | None) -> None:
        heard.append((result.step, best.value if best else None))

    found = followed(output, keep_best=Goal.parse("loss:min"), told=telling)
    assert heard == [(100, 0.2), (200, 0.1), (300, 0.1)]
    assert found.best == best_of(items[200], 0.1)
    results = Evaluations(output, "eval").results()
    assert tuple(results[items[step].label] for step in (100, 200, 300)) == found.evaluations
    assert not output.child("_tfresume", "events").exists()
    first = found.evaluations[0]
    assert first == Evaluation(
        label=items[100].label, step=100, metrics={"loss:0": 0.2}, rows=8, batches=1, seconds=0.1,
        at=5.0, token=first.token,
    )  # fmt: skip


def test_results_of_checkpoints_that_are_gone_are_told_too_in_their_order(
    output: Location, saved: Saved, told: Told
) -> None:
    items = saved(100, 200, 300)
    own = Evaluations(output, "eval")
    for step in (300, 100):
        own.add(result_of(items[step], 0.5))
        delete_checkpoint(items[step])
    found = followed(output)
    assert told.asked == [200]
    assert [each.step for each in found.evaluations] == [100, 200, 300]


def test_result_of_an_earlier_life_keeps_what_it_has_and_gets_what_it_lacks(
    output: Location, saved: Saved, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Evaluations(output, "eval")
    own.add(result_of(saved(100)[100], 0.5))
    given = Evaluated("m-100", 100, {"auc:0": 0.75}, 8, 1, 0.1)
    monkeypatch.setattr(evaluator, "measured", lambda *_, **__: given)
    config = parse_config({"source": output.url})
    (found,) = followed(output, config=config, fetches=("auc",)).evaluations
    assert found.metrics == {"loss:0": 0.5, "auc:0": 0.75}
    assert [*own.results().values()] == [found]
    (file,) = output.child("_tfresume", "events", "eval").list()
    assert file.name.endswith("model.ckpt-100.2"), "beside those that were written before"


def test_best_by_what_the_engine_does_not_give_is_refused_with_what_it_gives(
    output: Location, saved: Saved, told: Told
) -> None:
    saved(100)
    told.more = {"auc:0": 0.9}
    with pytest.raises(ConfigError) as refused:
        followed(output, keep_best=Goal.parse("f1:max"))
    assert refused.value.message == "--keep-best names f1:0, which isn't what was fetched"
    assert refused.value.remedy == "Name one of loss:0, auc:0"


def test_events_are_written_once_under_a_name_that_sorts_by_step(
    output: Location, saved: Saved, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = saved(5, 100)
    told.losses = {5: 0.25, 100: 0.5}
    config = parse_config({"source": output.url})
    followed(output, config=config)
    place = output.child("_tfresume", "events", "eval")
    names = [file.name for file in place.list()]
    assert names == [
        f"events.out.tfevents.{step:012d}.{items[step].label.replace('/', '.')}"
        for step in (5, 100)
    ]
    points = [event for event in events_in(place) if event.summary.value]
    assert [
        (point.wall_time, point.step, value.tag, value.simple_value)
        for point in points
        for value in point.summary.value
    ] == [(5.0, 5, "evaluate/loss:0", 0.25), (5.0, 100, "evaluate/loss:0", 0.5)]
    assert [event.wall_time for event in events_in(place)] == [5.0] * 4
    # A loss between events and result: they are there already
    for file in Evaluations(output, "eval").place.child("results").list():
        file.location.delete()
    monkeypatch.setattr("orchestrator.driver.evaluator.time.time", lambda: 6.0)
    found = followed(output, config=config)
    assert [each.step for each in found.evaluations] == [5, 100]
    assert [file.name for file in place.list()] == names


def test_workers_on_ray_are_there_as_long_as_the_run_is_followed(
    output: Location, saved: Saved, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []

    @contextmanager
    def connected(config: RunConfig) -> Iterator[None]:
        seen.append(config)
        yield
        seen.append("gone")

    fetching: Any = ModuleType("fetch_workers")
    fetching.connected = connected
    monkeypatch.setitem(sys.modules, "orchestrator.driver.fetch_workers", fetching)
    saved(100)
    told.meanwhile = lambda _: seen.append("measured")
    config = parse_config({"source": output.url, "workers": 2, "tensorboard": False})
    followed(output, config=config)
    assert seen == [config, "measured", "gone"]
