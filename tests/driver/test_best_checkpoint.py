"""Which checkpoint does an evaluator keep as the best, and when is that written down?"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.decide.evaluating import Goal
from orchestrator.driver import best_checkpoint
from orchestrator.driver.best_checkpoint import BestCheckpoint
from orchestrator.errors import LeaseLost
from orchestrator.store.run.evaluations import Best, Evaluation


class Own:
    """Stands for the evaluator's directory, its lease and the run's checkpoints."""

    def __init__(self, kept: Best | None = None) -> None:
        self.kept, self.gone = kept, set[str]()
        self.written: list[str] = []
        self.lost = False

    def best(self) -> Best | None:
        return self.kept

    def keep(self, best: Best) -> None:
        self.written.append(best.label)

    def check(self) -> None:
        if self.lost:
            raise LeaseLost("taken over")

    def is_taken(self, item: Any) -> bool:
        return item.label not in self.gone


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Own:
    found = Own()
    monkeypatch.setattr(best_checkpoint, "is_taken", found.is_taken)
    return found


def keeper(own: Any, goal: str | None = "loss:min") -> BestCheckpoint:
    return BestCheckpoint(own, Goal.parse(goal) if goal else None, own)


def results(**losses: float | None) -> dict[str, Evaluation]:
    return {
        label: Evaluation(
            label=label,
            step=int(label[1:]),
            metrics={"auc:0": 1.0} if loss is None else {"loss:0": loss},
            rows=8,
            batches=1,
            seconds=0.1,
            at=1.0,
        )
        for label, loss in losses.items()
    }


def items(*labels: str) -> dict[str, Any]:
    return {label: SimpleNamespace(label=label) for label in labels}


def best(label: str, loss: float) -> Best:
    return Best(label=label, step=int(label[1:]), metric="loss:0", better="min", value=loss)


def test_best_is_written_down_once_and_again_only_when_it_is_another(own: Own) -> None:
    kept = keeper(own)
    found = results(m1=0.5, m2=0.4, m3=None, m4=math.nan)
    there = items("m1", "m2", "m3", "m4")
    assert kept.chosen(found, there) == best("m2", 0.4)
    assert kept.chosen(found, there) == best("m2", 0.4)
    assert own.written == ["m2"]
    found |= results(m5=0.3)
    assert kept.chosen(found, there | items("m5")) == best("m5", 0.3)
    assert own.written == ["m2", "m5"]


def test_best_of_an_earlier_life_is_not_written_again(own: Own) -> None:
    own.kept = best("m1", 0.5)
    assert keeper(own).chosen(results(m1=0.5), items("m1")) == own.kept
    assert own.written == []
    own.kept = best("m1", 0.5).model_copy(update={"better": "max"})
    assert keeper(own).chosen(results(m1=0.5), items("m1")) == best("m1", 0.5)
    assert own.written == ["m1"], "it was the best by something else"


def test_best_is_never_what_is_being_deleted(own: Own) -> None:
    own.gone.add("m2")
    kept = keeper(own)
    assert kept.chosen(results(m1=0.5, m2=0.4), items("m1", "m2")) == best("m1", 0.5)
    assert own.written == ["m1"]
    own.gone.add("m1")
    assert keeper(own).chosen(results(m1=0.5, m2=0.4), items("m1", "m2")) is None


def test_nothing_is_kept_where_no_best_is_asked_for(
    own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "best", lambda: pytest.fail("an earlier life's isn't asked for"))
    assert keeper(own, None).chosen(results(m1=0.5), items("m1")) is None
    assert own.written == []


def test_best_is_not_written_by_whoever_was_taken_over(own: Own) -> None:
    own.lost = True
    with pytest.raises(LeaseLost):
        keeper(own).chosen(results(m1=0.5), items("m1"))
    assert own.written == []
