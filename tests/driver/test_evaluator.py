"""What does an evaluator skip, keep and bear, and what ends it? In this process, without
TensorFlow: what a checkpoint gives is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.config import parse_config
from orchestrator.decide.evaluating import Goal
from orchestrator.driver import evaluator
from orchestrator.driver.evaluate import Evaluated
from orchestrator.driver.evaluator import follow
from orchestrator.driver.following import Followed, Following
from orchestrator.errors import LeaseLost, Preempted, SourceError, StorageUnavailable
from orchestrator.store.checkpoints.retention import delete_checkpoint
from orchestrator.store.checkpoints.run_checkpoints import Checkpoint, list_checkpoints
from orchestrator.store.checkpoints.source import Source
from orchestrator.store.objects.exclusive import create_once
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.objects.records import encode
from orchestrator.store.run.evaluations import Best, Evaluation, Evaluations
from orchestrator.store.run.holder import Holder
from tests.fakes.clocks import FakeClock
from tests.fakes.event_files import events_in
from tests.store.test_evaluations import run_of

PATIENCE_S = 60.0
MISSING = SourceError("heldout.npy doesn't exist", details={"missing": True, "action": "read"})


class Told:
    """Stands for TensorFlow: of each step a loss, or what happens instead."""

    def __init__(self, losses: Mapping[int, float], clock: FakeClock) -> None:
        self.losses, self.clock = losses, clock
        self.asked: list[int] = []
        self.more: dict[str, float] = {}
        self.meanwhile: Callable[[Source], None] = lambda source: None

    def measured(self, source: Source, *_: Any, **__: Any) -> Evaluated:
        assert source.step is not None
        self.asked.append(source.step)
        self.meanwhile(source)
        metrics = {"loss:0": self.losses.get(source.step, 1.0)} | self.more
        return Evaluated(source.url, source.step, metrics, 8, 1, 0.1)


@pytest.fixture
def output(tmp_path: Path) -> Location:
    return open_location(str(tmp_path / "out"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """The evaluator's own; its heartbeat keeps the real one."""
    found = FakeClock()
    own = SimpleNamespace(monotonic=found.now, sleep=found.wait, time=time.time)
    monkeypatch.setattr(evaluator, "time", own)
    return found


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> Told:
    found = Told({}, clock)
    monkeypatch.setattr(evaluator, "measured", found.measured)
    return found


def followed(output: Location, keep_best: str = "", *, tensorboard: bool = False) -> Followed:
    goal = Goal.parse(keep_best) if keep_best else None
    asked = Following(("loss",), keep_best=goal, every_s=10.0, patience_s=PATIENCE_S)
    return follow(parse_config({"source": output.url, "tensorboard": tensorboard}), asked)


def steps(found: Followed) -> list[int]:
    return [each.step for each in found.evaluations]


def result_of(item: Checkpoint, loss: float) -> Evaluation:
    return Evaluation(
        label=item.label, step=item.step, metrics={"loss:0": loss}, rows=8, batches=1, seconds=0.1,
        at=1.0,
    )  # fmt: skip


def best_of(item: Checkpoint, loss: float) -> Best:
    return Best(label=item.label, step=item.step, metric="loss:0", better="min", value=loss)


def test_input_that_cannot_be_read_ends_it_and_a_checkpoint_that_cannot_is_passed_over(
    output: Location, told: Told
) -> None:
    items = run_of(output, 100, 200)

    def gone(source: Source) -> None:
        if source.step == 100:
            delete_checkpoint(items[100])
            raise SourceError("the file has vanished", details={"missing": True, "action": "read"})

    told.meanwhile = gone
    found = followed(output)
    assert steps(found) == [200]
    assert list(found.skipped) == [items[100].label]

    def unreadable(_: Source) -> None:
        raise MISSING

    told.meanwhile = unreadable
    run_of(output, 300)
    with pytest.raises(SourceError, match=r"heldout\.npy"):
        followed(output)
    assert Evaluations(output, "eval").held() == ""


def test_evaluator_that_was_taken_over_leaves_its_successors_hold_alone(
    output: Location, told: Told
) -> None:
    run_of(output, 100)
    own = Evaluations(output, "eval")

    def taken_over(_: Source) -> None:
        lease = own.place.child("_tfresume", "lease", "0002.json")
        create_once(lease, encode(Holder(attempt=2, name="another", writer="w2")))
        own.hold("what the other one reads")

    told.meanwhile = taken_over
    with pytest.raises(LeaseLost):
        followed(output)
    assert own.held() == "what the other one reads"
    assert own.results() == {}


def test_sigterm_while_the_hold_is_given_up_ends_it(
    output: Location, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_of(output, 100, 200)
    real = Evaluations.hold

    def interrupted(own: Evaluations, label: str) -> None:
        if not label:
            raise Preempted("ended by SIGTERM")
        real(own, label)

    monkeypatch.setattr(Evaluations, "hold", interrupted)
    with pytest.raises(Preempted):
        followed(output)
    assert told.asked == [100], "it went on to the next"


def test_best_is_chosen_also_where_nothing_new_is_evaluated(output: Location, told: Told) -> None:
    """Its record is damaged, or the command asks for it only now."""
    items = run_of(output, 100, 200)
    own = Evaluations(output, "eval")
    for step, loss in ((100, 0.2), (200, 0.3)):
        own.add(result_of(items[step], loss))
    found = followed(output, "loss:min")
    assert told.asked == []
    assert found.best == own.best() == best_of(items[100], 0.2)


def test_checkpoint_whose_result_lacks_what_is_asked_for_now_is_evaluated_for_it_once(
    output: Location, told: Told
) -> None:
    """It was taken for evaluated, and could never be the best by a metric that an earlier life of
    the evaluator hadn't fetched.
    """
    items = run_of(output, 100, 200)
    told.losses = {100: 0.2, 200: 0.3}
    assert steps(followed(output, tensorboard=True)) == [100, 200]
    told.asked, told.more = [], {"auc:0": 0.9}
    found = followed(output, "auc:max", tensorboard=True)
    assert told.asked == [100, 200]
    assert found.best is not None
    assert found.best.label == items[200].label, "of equals the newer"
    results = Evaluations(output, "eval").results()
    assert [results[items[step].label].metrics for step in (100, 200)] == [
        {"loss:0": loss, "auc:0": 0.9} for loss in (0.2, 0.3)
    ]
    assert curves(output) == {
        (step, f"evaluate/{name}") for step in (100, 200) for name in ("loss:0", "auc:0")
    }
    told.asked = []
    assert followed(output, "auc:max").best == found.best
    assert told.asked == [], "it has all by now"


def curves(output: Location) -> set[tuple[int, str]]:
    """What TensorBoard shows of the evaluator, each number once."""
    found = [
        (event.step, value.tag)
        for event in events_in(output.child("_tfresume", "events", "eval"))
        for value in event.summary.value
    ]
    assert len(found) == len(set(found))
    return set(found)


def test_best_is_never_one_that_was_deleted_since_it_was_listed(
    output: Location, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = run_of(output, 100, 200, 300)
    own = Evaluations(output, "eval")
    own.add(result_of(items[100], 0.1))
    own.add(result_of(items[200], 0.2))
    told.losses = {300: 0.3}
    monkeypatch.setattr(own.__class__, "keep", keep_and_lose(items[200], Evaluations.keep))

    def listed_once(place: Location) -> tuple[Checkpoint, ...]:
        found = list_checkpoints(place)
        if any(item.step == 100 for item in found):
            delete_checkpoint(items[100])
        return found

    monkeypatch.setattr(evaluator, "list_checkpoints", listed_once)
    found = followed(output, "loss:min")
    assert found.best == own.best() == best_of(items[300], 0.3)
    assert [item.step for item in list_checkpoints(output)] == [300]


def keep_and_lose(
    item: Checkpoint, keep: Callable[[Evaluations, Best], None]
) -> Callable[[Evaluations, Best], None]:
    """Whoever deletes was about to when it was written down as the best, and has looked before."""

    def both(own: Evaluations, best: Best) -> None:
        keep(own, best)
        if best.label == item.label:
            delete_checkpoint(item)

    return both


@pytest.mark.parametrize("outage_s", [PATIENCE_S - 15.0, PATIENCE_S + 5.0, PATIENCE_S + 15.0])
def test_store_that_fails_after_a_long_evaluation_is_borne_as_long_as_any_time(
    output: Location, told: Told, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, outage_s: float
) -> None:
    run_of(output, 100)
    back_s: list[float] = []

    def long(_: Source) -> None:
        clock.wait(10 * PATIENCE_S)
        back_s.append(clock.now() + outage_s)

    told.meanwhile = long

    def listed(place: Location) -> tuple[Checkpoint, ...]:
        if back_s and clock.now() < back_s[0]:
            raise StorageUnavailable("the store doesn't answer")
        return list_checkpoints(place)

    monkeypatch.setattr(evaluator, "list_checkpoints", listed)
    if outage_s > PATIENCE_S + 10.0:  # its last look that is borne comes after just that time
        with pytest.raises(StorageUnavailable):
            followed(output)
        return
    assert steps(followed(output)) == [100]
    assert clock.now() > back_s[0]
