"""Is a planned re-form told, and the end of its reason; and who is let go after it?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orchestrator.decide import actions as act
from orchestrator.decide.phases import Phase
from orchestrator.decide.roster import Stage
from orchestrator.decide.rules import joining, reforming, releasing
from orchestrator.decide.run import Ending, Run
from orchestrator.decide.turn import END_AGAIN_S, Turn
from tests.decide.situation import Driver

NOW_S = 64.0


def training() -> Run:
    """Two members of which one is about to go, and a standby that can take its rank."""
    driver = Driver(count=2, standby=1).training("w0001", "w0002").warm("w0003")
    workers = driver.run.workers
    return replace(
        driver.run, workers=workers.put(replace(workers["w0002"], leaving=True)), planned=""
    )


def told(turn: Turn) -> list[dict[str, Any]]:
    return [item.event.record() for item in turn.actions if isinstance(item, act.Note)]


def planned(run: Run) -> Turn:
    turn = Turn(run, NOW_S)
    reforming.plan(turn)
    return turn


def test_reform_is_told_once_with_its_reason_and_boundary() -> None:
    run = training()
    turn = planned(run)
    why = "w0002 is about to go"
    assert told(turn) == [{"event": "reform_planned", "reason": why, "boundary": run.granted_end}]
    assert turn.run.planned == why
    assert not planned(turn.run).actions


def test_reform_whose_reason_is_gone_is_told_to_be_cancelled() -> None:
    run = replace(training(), planned="w0002 is about to go")
    staying = run.workers.put(replace(run.workers["w0002"], leaving=False))
    turn = planned(replace(run, workers=staying))
    assert told(turn) == [
        {"event": "reform_cancelled", "reason": "no longer needed: w0002 is about to go"}
    ]
    assert turn.run.planned == ""


def test_nothing_is_told_of_it_by_a_run_that_ends_or_does_not_train() -> None:
    run = replace(training(), planned="grow from 2 to 3 workers")
    assert not planned(replace(run, ending=Ending(act.Outcome.STOPPED, "stopped"))).actions
    assert not planned(replace(run, phase=Phase.GATHERING)).actions


def with_former() -> Run:
    """A member of the generation before still lives."""
    run = training()
    former = replace(run.workers["w0002"], ident="w0000", rank=None, stage=Stage.MEMBER)
    return replace(run, workers=run.workers.put(former))


def released(run: Run) -> list[act.Action]:
    turn = Turn(run, NOW_S)
    releasing.let_go(turn)
    return turn.actions


def test_member_whose_rank_has_moved_on_is_ended_once_the_group_trains() -> None:
    run = with_former()
    assert released(run) == [act.EndWorker("w0000", "released", "its rank has moved on")]
    assert not released(replace(run, phase=Phase.FORMING))
    for ago_s, asked in ((END_AGAIN_S - 0.25, 0), (END_AGAIN_S, 1)):
        former = replace(run.workers["w0000"], ended_s=NOW_S - ago_s)
        assert len(released(replace(run, workers=run.workers.put(former)))) == asked


def joined(run: Run) -> Turn:
    turn = Turn(run, NOW_S)
    joining.begin_training(turn)
    return turn


def forming(**facts: Any) -> Run:
    """All members have joined; one of them took rows."""
    driver = Driver(count=2).warm("w0001", "w0002")
    workers = driver.run.workers
    for ident, took in (("w0001", (0, 0)), ("w0002", (8, 64))):
        workers = workers.put(replace(workers[ident], joined=True, took=took))
    return replace(driver.run, workers=workers, **facts)


def test_training_begins_when_the_last_member_has_joined() -> None:
    run = forming(accused="m-3", store_down_s=1.0)
    turn = joined(run)
    assert told(turn) == [{"event": "training", "generation": 1, "step": 3, "world_size": 2}]
    after = turn.run
    assert (after.phase, after.since_s, after.moved_s) == (Phase.TRAINING, NOW_S, NOW_S)
    assert (after.started, after.origin, after.accused, after.store_down_s) == (
        True,
        None,
        "",
        None,
    )
    lacking = run.workers.put(replace(run.workers["w0002"], joined=False))
    assert joined(replace(run, workers=lacking)).run.phase is Phase.FORMING
    assert not joined(replace(run, phase=Phase.GATHERING)).actions


def test_rows_that_were_moved_are_told_with_who_gave_and_who_took() -> None:
    assert told(joined(forming(givers=("w0001",))))[0] == {
        "event": "rows_moved",
        "generation": 1,
        "givers": ["w0001"],
        "takers": ["w0002"],
        "rows": 8,
        "size_bytes": 64,
    }
    run = forming(givers=("w0001",))
    empty = run.workers.put(replace(run.workers["w0001"], took=(8, 0)))
    (moved, _) = told(joined(replace(run, workers=empty)))
    assert moved["takers"] == ["w0001", "w0002"], "rows of no bytes are rows"


def test_generation_that_only_catches_up_is_gathered_again() -> None:
    turn = joined(forming(catches_up=True))
    assert turn.run.gather_for == ("all members are as far as each other, and rows are to be moved")
    assert turn.run.phase is Phase.FORMING
