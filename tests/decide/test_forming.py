"""What does a group begin with that is formed anew, and what is told of it?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide.phases import Phase
from orchestrator.decide.recovery import FRUITLESS_LIMIT
from orchestrator.decide.roster import Stage
from orchestrator.decide.rules import forming
from orchestrator.decide.run import Run
from orchestrator.decide.turn import Turn
from tests.decide.situation import Driver

NOW_S = 512.0


def lost(**shape: Any) -> Run:
    """Of three members one is gone; the others stand still, one a step ahead of the other, and a
    standby is there.
    """
    driver = Driver(count=3, standby=1, **shape).training("w0001", "w0002", "w0003").warm("w0004")
    driver.step(5, "w0001", "w0002", "w0003")
    driver.tell(ev.Gone("w0003", ev.Cause.DIED))
    workers = driver.run.workers
    for ident, step in (("w0001", 5), ("w0002", 6)):
        workers = workers.put(replace(workers[ident], held=True, step=step, position=3 * step))
    return replace(driver.run, phase=Phase.GATHERING, workers=workers, gather_for="", highest=7)


def decided(run: Run) -> Turn:
    turn = Turn(run, NOW_S)
    forming.form(turn)
    return turn


def noted(turn: Turn, word: str) -> list[dict[str, Any]]:
    return [
        item.event.record()
        for item in turn.actions
        if isinstance(item, act.Note) and item.event.word == word
    ]


def test_run_that_waits_tells_whom_it_has_and_whom_it_wants_once() -> None:
    run = lost()
    few = replace(run, workers=run.workers.without("w0004"))
    few = replace(few, workers=few.workers.without("w0002"), members=("w0001",))
    turn = decided(few)
    assert noted(turn, "waiting") == [
        {
            "event": "waiting",
            "reason": "too few workers: 1 with a rank, 0 warm, 3 wanted, 3 at least",
            "longest_s": few.policy.wait_s,
        }
    ]
    assert (turn.run.phase, turn.run.since_s) == (Phase.WAITING, NOW_S)
    assert not decided(turn.run).actions


def test_generation_is_told_with_whom_it_has_and_where_it_goes_on() -> None:
    (told,) = noted(decided(lost(batch_size=8)), "generation")
    assert told == {
        "event": "generation",
        "generation": 2,
        "step": 6,
        "position": 18,
        "world_size": 3,
        "workers": ["w0001", "w0002", "w0004"],
        "donor": "w0002",
        "state_from": "donor",
        "catching_up": [],
        "redone": 1,
        "effective_batch": 24,
        "reason": "died",
    }


def test_each_seat_has_its_rank_and_where_its_worker_is_reached() -> None:
    (form,) = [item for item in decided(lost()).actions if isinstance(item, act.Form)]
    assert [(seat.worker, seat.rank, seat.address) for seat in form.seats] == [
        ("w0001", 0, "w0001:1"),
        ("w0002", 1, "w0002:1"),
        ("w0004", 2, "w0004:1"),
    ]


def test_group_whose_donor_has_not_stepped_begins_at_its_step() -> None:
    run = lost()
    workers = run.workers
    for ident in run.members:
        workers = workers.put(replace(workers[ident], step=0, position=0))
    assert decided(replace(run, workers=workers)).run.place == (0, 0)


def test_group_begins_where_its_donor_stands_with_nothing_granted() -> None:
    run = replace(lost(), broke_step=True, pieced=True, retry_s=1.0, planned="grow", fruitless=1)
    after = decided(run).run
    assert (after.phase, after.since_s, after.moved_s) == (Phase.FORMING, NOW_S, NOW_S)
    assert (after.generation, after.members, after.seats) == (2, after.seats, after.members)
    assert after.place == (after.fastest, after.fastest_position) == (6, 18)
    assert (after.granted_end, after.granted_position) == (6, 18)
    assert after.highest == 6, "what is done again is told once"
    assert (after.laggards, after.fruitless) == (3, 2)
    assert (after.stepped, after.broke_step, after.pieced, after.planned) == (
        False,
        False,
        False,
        "",
    )
    assert after.retry_s is None
    assert decided(replace(run, divergence=True)).run.divergence is False
    for rank, ident in enumerate(after.seats):
        worker = after.workers[ident]
        assert (worker.rank, worker.stage, worker.generation) == (rank, Stage.MEMBER, 2)
        assert (worker.held, worker.joined, worker.took) == (False, False, (0, 0))
        assert worker.moved_s == NOW_S


def test_members_of_a_group_that_is_formed_keep_what_they_were_told_before() -> None:
    """A notice holds; who has no seat any more is to go."""
    run = lost(smallest=1)
    leaving = replace(run.workers["w0001"], leaving=True)
    warm = replace(run.workers["w0004"], ident="w0005")
    run = replace(run, workers=run.workers.put(leaving).put(warm))
    after = decided(run).run
    assert after.seats == ("w0004", "w0002", "w0005")
    gone = after.workers["w0001"]
    assert (gone.rank, gone.stage, gone.generation, gone.leaving) == (None, Stage.MEMBER, 1, True)
    assert not after.workers["w0002"].leaving


def test_run_that_shrinks_wants_no_more_than_it_has_from_then_on() -> None:
    for on_loss, target in (("shrink", 2), ("replace", 3)):
        run = lost(smallest=1, on_loss=on_loss)
        few = replace(run, workers=run.workers.without("w0004"))
        assert decided(few).run.target == target


def test_number_that_an_earlier_driver_may_have_spent_is_not_used() -> None:
    for used, number in ((0, 2), (7, 8)):
        turn = decided(replace(lost(), used_generation=used))
        assert turn.run.generation == number
        (form,) = [item for item in turn.actions if isinstance(item, act.Form)]
        assert form.generation == number


def test_incident_tells_with_how_many_and_from_what_the_run_went_on() -> None:
    run = lost()
    incident = decided(run).run.incident
    assert incident is not None
    assert incident.done == "went on with 3 workers from the live state"
    assert (incident.resumed_from, incident.highest) == (6, 7)


def test_counter_that_stands_is_judged_from_when_it_stood_through_a_group_that_is_formed_anew() -> (
    None
):
    run = replace(lost(), counted_s=100.0, step=6)
    assert decided(run).run.counted_s == 100.0
    assert decided(replace(run, step=5)).run.counted_s == NOW_S, "the group has got on"
    assert decided(replace(run, started=False)).run.counted_s == NOW_S


def from_the_checkpoint() -> Run:
    """Two workers are there, and none has a state."""
    driver = Driver(count=2).warm("w0001")
    worker = replace(driver.run.workers["w0001"], ident="w0002", address="w0002:1")
    run = replace(driver.run, workers=driver.run.workers.put(worker))
    return replace(run, origin=ev.Found(3, 12))


def test_first_group_begins_where_the_checkpoint_is() -> None:
    turn = decided(from_the_checkpoint())
    (form,) = [item for item in turn.actions if isinstance(item, act.Form)]
    assert (form.donor, form.step, form.position, form.release) == (None, 3, 12, ())
    assert [(seat.worker, seat.rank, seat.address) for seat in form.seats] == [
        ("w0001", 0, "w0001:1"),
        ("w0002", 1, "w0002:1"),
    ]
    (told,) = noted(turn, "generation")
    assert (told["state_from"], told["donor"], told["reason"], told["redone"]) == (
        "checkpoint",
        None,
        "start",
        0,
    )
    assert turn.run.catches_up is False


def test_incident_after_which_nobody_has_a_state_went_on_from_a_checkpoint() -> None:
    run = replace(from_the_checkpoint(), incident=lost().incident)
    incident = decided(run).run.incident
    assert incident is not None
    assert incident.done == "went on with 2 workers from a checkpoint"


def test_member_for_whom_there_is_no_seat_is_to_go() -> None:
    run = lost()
    sizes = replace(run.policy.sizes, count=1, smallest=1, largest=1)
    took = run.workers.put(replace(run.workers["w0001"], took=(8, 64)))
    run = replace(run, policy=replace(run.policy, sizes=sizes), target=1, workers=took)
    after = decided(run).run
    assert after.seats == ("w0001",)
    assert [after.workers[ident].leaving for ident in run.members] == [False, True]
    assert after.workers["w0001"].took == (0, 0)


def test_group_that_never_gets_a_step_done_gives_up_with_how_often_it_was_tried() -> None:
    run = replace(lost(), fruitless=FRUITLESS_LIMIT, last_cause="w0003 was lost")
    ending = decided(run).run.ending
    assert ending is not None
    assert ending.reason == (
        f"the group was formed {FRUITLESS_LIMIT} times in a row without finishing a step; "
        "the last time: w0003 was lost"
    )
