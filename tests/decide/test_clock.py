"""Is a driver's own pause told apart from the silence of others?"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.decide import actions as act
from orchestrator.decide.events import Tick
from orchestrator.decide.facts import clock
from orchestrator.decide.facts.clock import PAUSE_S
from orchestrator.decide.run import Run
from orchestrator.decide.turn import Turn
from tests.decide.situation import Driver

NOW_S = 64.0


def ticked(gap_s: float | None) -> tuple[Run, Turn]:
    run = Driver(count=2).training("w0001", "w0002").run
    run = replace(run, ticked_s=None if gap_s is None else NOW_S - gap_s)
    turn = Turn(run, NOW_S)
    clock.on_tick(turn, Tick())
    return run, turn


def test_tick_changes_nothing_but_when_the_clock_was_looked_at() -> None:
    for gap_s in (None, 0.25, PAUSE_S):
        run, turn = ticked(gap_s)
        assert turn.run == replace(run, ticked_s=NOW_S)
        assert not turn.actions
        assert not turn.quiet


def test_driver_that_stood_still_says_for_how_long_and_judges_nobody_by_that_time() -> None:
    _, turn = ticked(PAUSE_S + 0.25)
    (note,) = turn.actions
    assert isinstance(note, act.Note)
    assert note.event.record() == {"event": "driver_paused", "seconds": 1.75}
    assert (turn.run.moved_s, turn.run.since_s, turn.run.ticked_s) == (NOW_S, NOW_S, NOW_S)
    for worker in turn.run.workers.values():
        assert (worker.heard_s, worker.moved_s) == (NOW_S, NOW_S)
    (note,) = ticked(2.34567)[1].actions
    assert isinstance(note, act.Note)
    assert note.event.record()["seconds"] == 2.346
