"""Does the quick way to change a frozen dataclass give what ``dataclasses.replace`` gives, and
nothing else?
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.decide import events as ev
from orchestrator.decide import machine
from orchestrator.decide.actions import EndWorker
from orchestrator.decide.budgets import Budgets
from orchestrator.decide.causes import Cause
from orchestrator.decide.phases import Phase
from orchestrator.decide.turn import END_AGAIN_S, Turn, changed
from tests.simulation.world import policy


def test_changed_is_what_replace_gives_and_leaves_the_original_alone() -> None:
    run, _ = machine.begin(policy(count=2), ev.Found(3, 0), None, Budgets(50), 0, 0.0)
    for item in (run, *run.workers.values()):
        before = replace(item)  # type: ignore[type-var]
        changes = {"step": 7} if hasattr(item, "heard_s") else {"step": 7, "moved_s": 2.5}
        assert changed(item, changes) == replace(item, **changes)  # type: ignore[type-var]
        assert item == before


def test_change_of_a_field_that_is_not_there_is_refused() -> None:
    run, _ = machine.begin(policy(count=2), ev.Found(3, 0), None, Budgets(50), 0, 0.0)
    with pytest.raises(TypeError, match="Run has no stepp"):
        Turn(run, 0.0).set(stepp=1)
    with pytest.raises(TypeError, match=r"Run has no a, b$"):
        Turn(run, 0.0).set(b=1, step=2, a=1)
    assert changed(run, vars(run)) == run
    with pytest.raises(TypeError, match="Worker has no hard_s"):
        Turn(run, 0.0).worker("w0001", hard_s=1.0)


def test_phase_that_is_entered_begins_now() -> None:
    run, _ = machine.begin(policy(count=2), ev.Found(3, 0), None, Budgets(50), 0, 0.0)
    turn = Turn(run, 7.5)
    turn.enter(Phase.FORMING)
    assert (turn.run.phase, turn.run.since_s) == (Phase.FORMING, 7.5)


def test_worker_whose_end_was_asked_for_is_ending_until_it_is_asked_for_again() -> None:
    run, _ = machine.begin(policy(count=2), ev.Found(3, 0), None, Budgets(50), 0, 0.0)
    turn = Turn(run, 7.5)
    assert not turn.is_ending("w0001")
    turn.end_worker("w0001", Cause.HUNG, "silent")
    assert turn.actions == [EndWorker("w0001", "hung", "silent")]
    turn.now_s += END_AGAIN_S - 0.25
    assert turn.is_ending("w0001")
    turn.now_s += 0.25
    assert not turn.is_ending("w0001")
