"""Is a checkpoint looked for where nobody has a state that counts, and only there?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide.phases import Phase
from orchestrator.decide.roster import Roster, Stage
from orchestrator.decide.rules import searching
from orchestrator.decide.run import Ending, Run
from orchestrator.decide.turn import Turn
from tests.decide.situation import Driver

NOW_S = 64.0


def standing(**facts: Any) -> Run:
    """Two members that stand still and have no state; no checkpoint is known to start from."""
    run = Driver(count=2).training("w0001", "w0002").run
    workers = Roster(replace(worker, held=True, step=None) for worker in run.workers.values())
    found = replace(run, phase=Phase.GATHERING, workers=workers, origin=None)
    return replace(found, **{"bad": {"m-5": "damaged"}, **facts})


def decided(run: Run, now_s: float = NOW_S) -> Turn:
    turn = Turn(run, now_s)
    searching.search(turn)
    return turn


def told(turn: Turn) -> list[dict[str, Any]]:
    return [item.event.record() for item in turn.actions if isinstance(item, act.Note)]


@pytest.mark.parametrize("phase", [Phase.GATHERING, Phase.WAITING])
def test_checkpoint_is_looked_for_where_nobody_has_a_state(phase: Phase) -> None:
    turn = decided(standing(phase=phase, retry_s=NOW_S))
    reason = "no living worker has the state"
    assert told(turn) == [{"event": "finding_checkpoint", "reason": reason}]
    assert [item for item in turn.actions if isinstance(item, act.FindCheckpoint)] == [
        act.FindCheckpoint(reason, {"m-5": "damaged"})
    ]
    assert (turn.run.phase, turn.run.since_s, turn.run.retry_s) == (Phase.FINDING, NOW_S, None)


def with_state() -> Roster:
    run = standing()
    return run.workers.put(replace(run.workers["w0002"], step=4))


def running() -> Roster:
    run = standing()
    return run.workers.put(replace(run.workers["w0002"], held=False))


@pytest.mark.parametrize(
    "facts",
    [
        {"workers": with_state()},
        {"workers": running()},
        {"origin": ev.Found(3, 0)},
        {"phase": Phase.FORMING},
        {"phase": Phase.FINDING},
        {"phase": Phase.FINDING, "retry_s": NOW_S + 1},
        {"retry_s": NOW_S + 1},
        {"ending": Ending(act.Outcome.STOPPED, "stopped")},
    ],
    ids=["a state", "one runs", "known", "forming", "asked", "asked, later", "later", "ends"],
)
def test_nothing_is_looked_for_elsewhere(facts: dict[str, Any]) -> None:
    assert not decided(standing(**facts)).actions


def test_store_that_did_not_answer_is_asked_again_when_its_time_has_come() -> None:
    turn = decided(standing(phase=Phase.FINDING, retry_s=NOW_S))
    assert told(turn) == [{"event": "finding_checkpoint", "reason": "the store is asked again"}]
    assert turn.run.phase is Phase.FINDING
    assert turn.run.retry_s is None


def test_roll_back_takes_nobodys_state_and_tells_from_where() -> None:
    """Also not that of a member whose rank has moved on; a standby has none."""
    run = standing(rolling_back=True, rolled_back_from=7, origin=ev.Found(3, 0))
    former = replace(run.workers["w0001"], ident="w0003", rank=None, step=4)
    warm = replace(former, ident="w0004", stage=Stage.WARM, step=None)
    workers = with_state().put(former).put(warm)
    turn = decided(replace(run, workers=workers))
    assert [(worker.step, worker.tainted) for worker in turn.run.workers.values()] == [
        (None, True),
        (None, True),
        (None, True),
        (None, False),
    ]
    reason = "the newer state isn't worth keeping"
    assert told(turn) == [
        {"event": "rolling_back", "step": 7, "generation": 1},
        {"event": "finding_checkpoint", "reason": reason},
    ]
    assert act.FindCheckpoint(reason, {"m-5": "damaged"}) in turn.actions
    assert (turn.run.phase, turn.run.rolling_back) == (Phase.FINDING, False)
    assert not decided(replace(run, workers=running())).actions, "one still runs"
