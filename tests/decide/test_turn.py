"""Does the quick way to change a frozen dataclass give what ``dataclasses.replace`` gives, and
nothing else? And does a turn gather what was decided?
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide import machine
from orchestrator.decide.budgets import Budgets
from orchestrator.decide.causes import Cause
from orchestrator.decide.phases import Phase
from orchestrator.decide.turn import Turn, changed
from tests.simulation.world import policy


def test_changed_is_what_replace_gives_and_leaves_the_original_alone() -> None:
    run, _ = machine.begin(policy(count=2), ev.Found(3, 0), None, Budgets(50), 0, 0.0)
    for item in (run, *run.workers.values()):
        before = replace(item)  # type: ignore[type-var]
        changes = {"step": 7} if hasattr(item, "heard_s") else {"step": 7, "moved_s": 2.5}
        assert changed(item, changes) == replace(item, **changes)  # type: ignore[type-var]
        assert item == before
        assert changed(item, vars(item)) == item


def test_change_of_a_field_that_is_not_there_is_refused() -> None:
    run, _ = machine.begin(policy(count=2), ev.Found(3, 0), None, Budgets(50), 0, 0.0)
    with pytest.raises(TypeError, match="Run has no stepp"):
        Turn(run, 0.0).set(stepp=1)
    with pytest.raises(TypeError, match=r"Run has no a, b$"):
        Turn(run, 0.0).set(b=1, step=2, a=1)
    assert changed(run, vars(run)) == run
    with pytest.raises(TypeError, match="Worker has no hard_s"):
        Turn(run, 0.0).worker("w0001", hard_s=1.0)


def a_turn(**facts: Any) -> Turn:
    run, _ = machine.begin(policy(count=2), ev.Found(3, 0), None, Budgets(50), 0, 0.0)
    return Turn(replace(run, **facts), 64.0)


def test_turn_begins_with_nothing_done_and_is_no_quiet_one() -> None:
    turn = a_turn()
    assert (turn.actions, turn.quiet, turn.now_s) == ([], False, 64.0)


def test_change_of_phase_is_noted_with_its_time() -> None:
    turn = a_turn()
    turn.enter(Phase.FORMING)
    assert (turn.run.phase, turn.run.since_s) == (Phase.FORMING, 64.0)


@pytest.mark.parametrize(
    ("phase", "before", "after"),
    [
        (Phase.TRAINING, "", "lost"),
        (Phase.FORMING, "", "lost"),
        (Phase.TRAINING, "first", "first"),
        (Phase.WAITING, "", ""),
        (Phase.GATHERING, "", ""),
    ],
)
def test_members_are_asked_to_stop_once_with_the_first_reason(
    phase: Phase, before: str, after: str
) -> None:
    turn = a_turn(phase=phase, gather_for=before)
    turn.gather("lost")
    assert turn.run.gather_for == after


def test_worker_whose_end_was_asked_for_is_ending_for_a_second() -> None:
    turn = a_turn()
    assert not turn.is_ending("w0001")
    turn.end_worker("w0001", Cause.HUNG, "silent")
    assert turn.actions == [act.EndWorker("w0001", "hung", "silent")]
    assert turn.run.workers["w0001"].ended_s == 64.0
    for now_s, ending in ((64.0, True), (64.75, True), (65.0, False)):
        assert Turn(turn.run, now_s).is_ending("w0001") is ending


def test_several_workers_are_replaced_at_once() -> None:
    turn = a_turn()
    turn.workers(replace(worker, pid=7) for worker in turn.run.workers.values())
    assert [worker.pid for worker in turn.run.workers.values()] == [7, 7]


def test_change_of_fields_that_are_not_there_names_them_in_order() -> None:
    with pytest.raises(TypeError, match=r"^Run has no a, b$"):
        changed(a_turn().run, {"b": 1, "step": 2, "a": 3})
