"""Do trackers get the curves that a run has, often enough and no more often?"""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from orchestrator.driver.callbacks import curves
from orchestrator.driver.callbacks.curves import EVERY_S, Curves
from orchestrator.driver.observer import RunProgress

UNTIL = 2000


def at(step: int, loss: float | None = 0.5, steps_per_s: float = 20.0) -> RunProgress:
    return RunProgress(step, loss, steps_per_s, None, 2, UNTIL, summaries={"accuracy": 0.9})


def drawn(monkeypatch: pytest.MonkeyPatch, *points: tuple[float, RunProgress]) -> list[bool]:
    """Whether each of the points, at so many seconds, is drawn."""
    clock = SimpleNamespace(monotonic=lambda: 0.0)
    monkeypatch.setattr(curves, "time", clock)
    found, drawing = [], Curves()
    for now_s, progress in points:
        clock.monotonic = lambda now_s=now_s: now_s
        found.append(bool(drawing.due(progress)))
    return found


def test_curves_of_a_point_are_loss_speed_and_summaries() -> None:
    assert Curves().due(at(100)) == {"loss": 0.5, "steps_per_s": 20.0, "summary/accuracy": 0.9}


def test_curves_that_have_no_value_yet_are_left_out() -> None:
    assert Curves().due(at(100, loss=None, steps_per_s=0.0)) == {"summary/accuracy": 0.9}


def test_curves_get_a_point_a_second_and_the_last_one_always(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points = [(5.0, at(1)), (5.0 + EVERY_S / 2, at(2)), (5.0 + EVERY_S, at(3))]
    assert drawn(monkeypatch, *points) == [True, False, True]
    assert drawn(monkeypatch, (5.0, at(UNTIL - 1)), (5.1, at(UNTIL))) == [True, True]
