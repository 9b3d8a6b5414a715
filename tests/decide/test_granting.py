"""Does a grant reach as far as it may, and is a save agreed with it where one is due?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orchestrator.decide import actions as act
from orchestrator.decide.doing import Doing
from orchestrator.decide.phases import Phase
from orchestrator.decide.roster import Stage
from orchestrator.decide.rules import granting
from orchestrator.decide.rules.granting import LATE_S, PATIENCE_S
from orchestrator.decide.run import Run
from orchestrator.decide.save_policy import InFlight
from orchestrator.decide.turn import Turn
from tests.decide.situation import Driver

NOW_S = 256.0


def training(**shape: Any) -> Run:
    """Two members of which all that was granted is used up; eight steps a second are taken."""
    run = Driver(count=2, **shape).training("w0001", "w0002").run
    end, position = run.granted_end, run.granted_position
    return replace(
        run,
        step=end,
        fastest=end,
        position=position,
        fastest_position=position,
        step_time_s=0.125,
    )


def decided(run: Run) -> Turn:
    turn = Turn(run, NOW_S)
    granting.grant(turn)
    return turn


def grants(turn: Turn) -> list[act.Grant]:
    return [item for item in turn.actions if isinstance(item, act.Grant)]


def noted(turn: Turn, word: str) -> list[dict[str, Any]]:
    return [
        item.event.record()
        for item in turn.actions
        if isinstance(item, act.Note) and item.event.word == word
    ]


def test_grant_reaches_a_second_of_steps_and_of_batches_beyond_the_fastest_member() -> None:
    run = training()
    turn = decided(run)
    (grant,) = grants(turn)
    assert (grant.end, grant.position) == (run.fastest + 8, run.fastest_position + 16)
    assert (turn.run.granted_end, turn.run.granted_position) == (grant.end, grant.position)
    assert (grant.workers, grant.saves, grant.save_position) == (("w0001", "w0002"), (), None)


def test_group_that_stood_at_its_boundary_begins_to_move_with_the_grant() -> None:
    run = training()
    assert decided(run).run.moved_s == NOW_S
    before = replace(run, granted_end=run.granted_end + 1, granted_position=run.position + 2)
    turn = decided(before)
    assert grants(turn)
    assert turn.run.moved_s == run.moved_s, "it moves already"


def test_nothing_is_granted_beyond_the_end_nor_while_the_group_is_to_stop() -> None:
    run = training()
    for facts in (
        {"phase": Phase.GATHERING},
        {"policy": replace(run.policy, until=run.fastest)},
        {"granted_end": run.fastest + 100, "granted_position": run.fastest_position + 200},
    ):
        owed = replace(run.saves, owed=True)
        assert not decided(replace(run, saves=owed, **facts)).actions
    leaving = replace(run.workers["w0002"], leaving=True)
    warm = replace(run.workers["w0002"], ident="w0003", rank=None, leaving=False)
    reforms = run.workers.put(leaving).put(replace(warm, stage=Stage.WARM))
    again = replace(run, workers=reforms)
    assert again.reforms
    assert not decided(again).actions


def test_position_alone_is_granted_on_where_the_counter_stands() -> None:
    run = training()
    far = replace(run, granted_end=run.fastest + 100)
    (grant,) = grants(decided(far))
    assert (grant.end, grant.position) == (far.granted_end, run.fastest_position + 16)


def test_save_by_steps_is_agreed_with_the_grant_that_reaches_its_step() -> None:
    run = training(save_steps=7)
    turn = decided(run)
    (grant,) = grants(turn)
    assert (grant.saves, grant.writer) == ((7,), "w0001")
    # A counter that stands still comes to it by position, long after it's due
    steps = LATE_S / 0.125
    assert grant.save_position == run.granted_position + steps * run.batches_taken
    assert turn.run.saves.in_flight is not None
    assert turn.run.saves.in_flight.step == 7


def test_save_that_is_due_anywhere_is_made_at_the_end_of_the_grant() -> None:
    run = training()
    (grant,) = grants(decided(replace(run, saves=replace(run.saves, owed=True))))
    assert grant.saves == (grant.end,)
    assert grant.save_position == grant.position


def under_way(run: Run, since_s: float) -> Run:
    """A save of an earlier step is under way since then."""
    flight = InFlight(run.generation, 3, "w0001", since_s)
    return replace(run, saves=replace(run.saves, in_flight=flight))


def test_save_that_comes_due_beside_an_older_one_is_skipped_and_told() -> None:
    run = training(save_steps=7)
    busy = under_way(run, NOW_S - PATIENCE_S - 0.25)
    turn = decided(replace(busy, saves=replace(busy.saves, owed=True)))
    (told,) = noted(turn, "save_skipped")
    assert (told["step"], told["reason"]) == (7, "the save of step 3 is still under way")
    assert grants(turn)[0].end == run.fastest + 8, "nobody stands still for it"
    saves = turn.run.saves
    assert (saves.last_step, saves.last_s, saves.owed) == (7, NOW_S, False)
    assert saves.in_flight is not None


def test_save_that_comes_due_beside_a_young_one_is_waited_for_at_the_step_before() -> None:
    run = training(save_steps=7)
    turn = decided(under_way(run, NOW_S - PATIENCE_S))
    assert not noted(turn, "save_skipped")
    assert [grant.end for grant in grants(turn)] == [6]
    waits = training(save_steps=7, when_busy="wait")
    turn = decided(under_way(waits, 0.0))
    assert [grant.end for grant in grants(turn)] == [6]
    stands = run.workers.put(replace(run.workers["w0002"], doing=Doing.SAVING))
    turn = decided(under_way(replace(run, workers=stands), 0.0))
    assert [grant.end for grant in grants(turn)] == [6]


def test_group_that_stands_before_a_save_is_granted_the_batches_to_there() -> None:
    """It may be that its counter stands still; the step isn't passed."""
    run = training(save_steps=1 + 5, when_busy="wait")
    turn = decided(under_way(run, 0.0))
    assert {grant.end for grant in grants(turn)} == {run.granted_end}


def test_save_of_the_last_step_is_a_full_one() -> None:
    run = training(until=8, save_steps=8, most_links=4)
    saves = replace(run.saves, ground=1, links=1, committed=4)
    assert [(grant.saves, grant.over) for grant in grants(decided(replace(run, saves=saves)))] == [
        ((8,), 0)
    ]
    before = replace(run, policy=replace(run.policy, until=9), saves=saves)
    assert [grant.over for grant in grants(decided(before))] == [1]


def test_grant_reaches_less_far_while_one_is_on_its_way_whom_the_group_waits_for() -> None:
    run = training(largest=3)
    worker = Driver(count=1).run.workers["w0001"]
    starting = run.workers.put(replace(worker, ident="w0003"))
    for target, steps in ((3, 3), (2, 8)):
        (grant,) = grants(decided(replace(run, workers=starting, target=target)))
        assert grant.end == run.fastest + steps
        assert grant.position == run.fastest_position + 2 * steps
    (grant,) = grants(decided(replace(run, target=3)))
    assert grant.end == run.fastest + 8, "nobody is on his way"
