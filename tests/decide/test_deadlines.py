"""Does what follows from time having passed come at its bound, not before, and is it told as what
it is?
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide.actions import Outcome
from orchestrator.decide.doing import Doing
from orchestrator.decide.hang_bounds import COMPUTING_S, hang_bound_s, silence_bound_s
from orchestrator.decide.phases import Phase
from orchestrator.decide.progress import SAVE_STILL_S
from orchestrator.decide.roster import Stage
from orchestrator.decide.rules import deadlines
from orchestrator.decide.rules.deadlines import (
    GATHER_S,
    INPUT_S,
    REMEDY,
    STANDING_S,
    START_S,
    TICK_S,
    is_overdue,
)
from orchestrator.decide.run import Ending, Run
from orchestrator.decide.turn import Turn
from tests.decide.situation import Driver

NOW_S = 4096.0


@pytest.fixture
def run() -> Run:
    """Two members that train, in the midst of a grant, and a worker that starts. All were heard of
    now, and have moved now.
    """
    driver = Driver(count=2, standby=1).training("w0001", "w0002")
    driver.step(4, "w0001", "w0002")
    found = replace(driver.run, moved_s=NOW_S, since_s=NOW_S, counted_s=NOW_S, step_time_s=0.25)
    for ident in found.workers:
        found = with_worker(
            found, ident, since_s=NOW_S, heard_s=NOW_S, moved_s=NOW_S, turned_s=NOW_S
        )
    return found


def with_worker(run: Run, ident: str, **facts: Any) -> Run:
    return replace(run, workers=run.workers.put(replace(run.workers[ident], **facts)))


def looked(run: Run, now_s: float = NOW_S) -> Turn:
    """What a look at the clock leads to."""
    turn = Turn(replace(run, ticked_s=now_s), now_s)
    deadlines.look(turn)
    return turn


def ended(turn: Turn) -> list[tuple[str, str, str]]:
    """Who is ended, and why."""
    return [
        (item.worker, item.cause, item.detail)
        for item in turn.actions
        if isinstance(item, act.EndWorker)
    ]


def noted(turn: Turn, word: str) -> list[dict[str, Any]]:
    return [
        item.event.record()
        for item in turn.actions
        if isinstance(item, act.Note) and item.event.word == word
    ]


def test_nothing_is_late_while_all_move(run: Run) -> None:
    assert not looked(run).actions


def test_worker_that_is_silent_for_its_bound_is_ended_with_how_long_it_was(run: Run) -> None:
    """A look too early rather than one too late, so that the bound is kept."""
    bound_s = silence_bound_s(run) - TICK_S
    assert not ended(looked(with_worker(run, "w0002", heard_s=NOW_S - bound_s)))
    turn = looked(with_worker(run, "w0002", heard_s=NOW_S - bound_s - 0.25))
    detail = f"no sign of life for {bound_s + 0.25:.1f} s"
    assert ended(turn) == [("w0002", "hung", detail)]
    (told,) = noted(turn, "worker_hung")
    assert (told["worker"], told["rank"], told["node"]) == ("w0002", 1, "node-w0002")
    assert told["reason"] == detail
    assert turn.run.workers["w0002"].heard_s == NOW_S, "it'd be told again at each look"


def test_worker_whose_process_is_being_made_says_nothing_yet(run: Run) -> None:
    assert not ended(looked(with_worker(run, "w0003", heard_s=0.0)))


def test_worker_that_loads_for_too_long_is_ended_as_hung(run: Run) -> None:
    loading = with_worker(run, "w0003", doing=Doing.LOADING, since_s=NOW_S - START_S)
    assert not ended(looked(loading))
    turn = looked(with_worker(loading, "w0003", since_s=NOW_S - START_S - 1))
    told = "it hasn't loaded TensorFlow and the graph within 601 s"
    assert ended(turn) == [("w0003", "hung", told)]
    assert noted(turn, "worker_hung")[0]["rank"] is None
    assert turn.run.workers["w0003"].since_s == NOW_S


def test_worker_that_finds_no_room_is_asked_for_anew_unless_the_run_waits_for_it(run: Run) -> None:
    wait_s = run.policy.wait_s
    assert not ended(looked(with_worker(run, "w0003", since_s=NOW_S - wait_s)))
    late = with_worker(run, "w0003", since_s=NOW_S - wait_s - 1)
    turn = looked(late)
    assert ended(turn) == [("w0003", "released", "it hasn't started within 601 s")]
    assert turn.run.workers["w0003"].since_s == NOW_S
    assert not noted(turn, "worker_hung"), "it's nobody's fault"
    assert not ended(looked(replace(late, phase=Phase.WAITING)))


def test_counter_that_stands_still_is_told_once_with_where_it_stands(run: Run) -> None:
    """The members step on; only the graph's own number doesn't."""
    still = replace(run, counted_s=NOW_S - STANDING_S, step=4, position=6)
    (told,) = noted(looked(still), "counter_stands")
    assert (told["step"], told["position"], told["seconds"]) == (4, 6, STANDING_S)
    longer = looked(replace(still, counted_s=NOW_S - 63.26))
    assert noted(longer, "counter_stands")[0]["seconds"] == 63.3
    assert longer.run.standing
    assert not noted(looked(longer.run), "counter_stands")
    for facts in (
        {"counted_s": NOW_S - STANDING_S + 0.25},
        {"stepped": False},
        {"phase": Phase.GATHERING},
    ):
        assert not noted(looked(replace(still, **facts)), "counter_stands")


def test_run_that_waits_for_workers_gives_up_after_its_time_and_says_what_to_do(run: Run) -> None:
    waiting = replace(run, phase=Phase.WAITING, since_s=NOW_S - run.policy.wait_s)
    assert looked(waiting).run.ending is None
    late = replace(waiting, since_s=waiting.since_s - 1, last_cause="w0002 was lost")
    ending = looked(late).run.ending
    assert ending is not None
    assert ending.reason == "no room for 2 workers within 600 s; the last time: w0002 was lost"
    assert ending.error is not None
    assert ending.error["kind"] == "PlacementError"
    assert ending.error["message"] == ending.reason
    assert ending.error["remedy"] == (
        "Add nodes, lower --workers, or raise wait_s; the same command goes on from here"
    )
    assert looked(replace(late, ending=ending)).run.ending == ending, "told once"


def test_members_that_wait_for_each_other_are_given_their_bound_from_the_last_step(
    run: Run,
) -> None:
    for ident in run.members:
        run = with_worker(run, ident, doing=Doing.STEP, turned_s=0.0)
    bound_s = hang_bound_s(run) - TICK_S
    assert not looked(replace(run, moved_s=NOW_S - bound_s)).actions
    turn = looked(replace(run, moved_s=NOW_S - bound_s - 0.25))
    (broken,) = [item for item in turn.actions if isinstance(item, act.BreakStep)]
    assert (broken.worker, broken.generation) == ("w0001", 1)
    detail = f"step 5 hasn't ended for {bound_s + 0.25:.1f} s; all members are inside it"
    assert noted(turn, "step_broken")[0]["reason"] == detail
    assert (turn.run.suspicions, turn.run.suspected) == (1, run.place)
    again = looked(replace(turn.run, suspicions=0, workers=run.workers))
    assert [worker for worker, _, _ in ended(again)] == ["w0001", "w0002"]
    assert ended(again)[0][2].endswith(f"s; breaking it off didn't help. {REMEDY}")


def test_member_outside_of_the_step_is_what_the_others_wait_for(run: Run) -> None:
    late = replace(with_worker(run, "w0001", doing=Doing.STEP), moved_s=NOW_S - 20.0)
    late = with_worker(late, "w0002", turned_s=0.0, doing=Doing.IDLE)
    turn = looked(with_worker(late, "w0001", turned_s=0.0))
    told = "step 5 hasn't ended for 20.0 s; the others wait for it"
    assert ended(turn) == [("w0002", "hung", told)]
    # Who has come to the end of what is granted waits, and is waited for by nobody
    end = late.granted_end
    there = with_worker(with_worker(late, "w0001", turned_s=0.0), "w0002", step=end)
    assert [worker for worker, _, _ in ended(looked(there))] == []


def test_member_that_has_not_begun_its_first_step_is_waited_for_as_well(run: Run) -> None:
    late = replace(run, step=0, granted_end=1, moved_s=NOW_S - 20.0)
    for ident, doing in (("w0001", Doing.STEP), ("w0002", Doing.IDLE)):
        late = with_worker(late, ident, step=0, doing=doing, turned_s=0.0)
    assert [worker for worker, _, _ in ended(looked(late))] == ["w0002"]


def test_input_may_take_its_time_before_its_reader_is_ended(run: Run) -> None:
    for ident in run.members:
        run = with_worker(run, ident, doing=Doing.INPUT, turned_s=0.0)
    run = with_worker(run, "w0001", doing=Doing.STEP)
    assert not looked(replace(run, moved_s=NOW_S - INPUT_S + 0.25)).actions
    turn = looked(replace(run, moved_s=NOW_S - INPUT_S))
    assert [worker for worker, _, _ in ended(turn)] == ["w0002"]


def test_one_that_stands_in_the_graph_is_ended_with_what_a_user_can_do(run: Run) -> None:
    since_s = NOW_S - COMPUTING_S - 1
    run = replace(run, moved_s=since_s)
    run = with_worker(run, "w0001", doing=Doing.STEP, turned_s=0.0)
    run = with_worker(run, "w0002", doing=Doing.COMPUTING, turned_s=0.0)
    told = f"step 5 hasn't ended for 121.0 s; it stands in the graph, and the others wait. {REMEDY}"
    assert ended(looked(run)) == [("w0002", "hung", told)]


def test_member_that_copies_its_state_is_no_hang_and_the_step_begins_when_it_is_through(
    run: Run,
) -> None:
    late = replace(run, moved_s=NOW_S - 300.0)
    for ident in late.members:
        late = with_worker(late, ident, doing=Doing.STEP, turned_s=0.0)
    assert looked(late).actions
    turn = looked(with_worker(late, "w0002", doing=Doing.COPYING))
    assert not turn.actions
    assert turn.run.moved_s == NOW_S


def gathering(run: Run, since_s: float) -> Run:
    run = replace(run, phase=Phase.GATHERING, since_s=since_s, gather_for="lost")
    return with_worker(with_worker(run, "w0001", held=True), "w0002", doing=Doing.STEP)


def test_member_that_does_not_stop_is_ended_after_its_bound_and_the_rest_gets_it_anew(
    run: Run,
) -> None:
    assert not looked(gathering(run, NOW_S - GATHER_S)).actions
    turn = looked(gathering(run, NOW_S - GATHER_S - 1))
    assert ended(turn) == [("w0002", "hung", "didn't stop at a step boundary")]
    assert turn.run.since_s == NOW_S
    assert turn.run.workers["w0002"].moved_s == NOW_S
    assert turn.run.suspicions == 1
    again = looked(replace(turn.run, since_s=NOW_S - GATHER_S - 1))
    assert not ended(again), "its end was asked for"
    assert again.run.suspicions == 1
    assert ended(looked(replace(gathering(run, NOW_S - GATHER_S - 1), stepped=False))), (
        "a first step is slow, and not the way out of it"
    )
    slow = replace(run, step_time_s=20.0)
    assert not looked(gathering(slow, NOW_S - 60.0)).actions, "three steps"
    assert ended(looked(gathering(slow, NOW_S - 61.0)))


def test_member_that_computes_while_its_group_gathers_gets_the_time_of_a_slow_step(
    run: Run,
) -> None:
    for since_s, late in ((COMPUTING_S - TICK_S, []), (COMPUTING_S, ["w0002"])):
        slow = with_worker(gathering(run, NOW_S - since_s), "w0002", doing=Doing.COMPUTING)
        assert [worker for worker, _, _ in ended(looked(slow))] == late


def test_member_that_does_not_join_is_ended_for_that(run: Run) -> None:
    forming = replace(run, phase=Phase.FORMING, since_s=0.0)
    for ident in run.members:
        forming = with_worker(forming, ident, joined=ident == "w0001", moved_s=0.0)
    turn = looked(forming)
    assert ended(turn) == [("w0002", "hung", "didn't join, and nothing moves")]


def saving(run: Run, since_s: float, *expected: str, writer: str = "w0001") -> Run:
    """A save of the step where the group is, that these are to tell of."""
    driver = Driver(count=2, save_steps=4).training("w0001", "w0002")
    driver.step(4, "w0001", "w0002")
    flight = driver.run.saves.in_flight
    assert flight is not None
    saves = replace(run.saves, in_flight=replace(flight, since_s=since_s, writer=writer))
    found = replace(run, saves=saves, expected=driver.run.expected)
    for ident in driver.run.expected:
        if ident not in expected:
            found = replace(found, expected=found.expected.delete(ident))
    return found


def test_save_that_nobody_moves_any_more_fails_with_the_names_of_those_it_waits_for(
    run: Run,
) -> None:
    still = saving(run, 0.0, "w0001", "w0002")
    since_s = NOW_S - SAVE_STILL_S
    for ident in run.members:
        still = with_worker(still, ident, moved_s=since_s)
    assert not noted(looked(still), "save_failed")
    for ident in run.members:
        still = with_worker(still, ident, moved_s=since_s - 1)
    (told,) = noted(looked(still), "save_failed")
    assert told["reason"] == "nothing has moved in w0001, w0002 for 601 s"
    later = with_worker(still, "w0002", moved_s=NOW_S - 1)
    assert not noted(looked(later), "save_failed"), "one of them still moves"
    begun = saving(still, since_s, "w0001", "w0002")
    assert not noted(looked(begun), "save_failed"), "it was agreed only then"


def test_save_that_fails_names_a_few_of_those_it_waited_for(run: Run) -> None:
    still = saving(run, 0.0, "w0001", "w0002")
    for ident in ("w0001", "w0002", "w0003", "w0004"):
        worker = replace(run.workers["w0003"], ident=ident, moved_s=0.0)
        expected = still.expected.set(ident, None)
        still = replace(still, workers=still.workers.put(worker), expected=expected)
    (told,) = noted(looked(still), "save_failed")
    assert "in w0001, w0002, w0003 for" in told["reason"]


def test_save_that_the_group_trains_towards_has_not_begun(run: Run) -> None:
    still = saving(run, 0.0, "w0001", "w0002")
    assert still.saves.in_flight is not None
    ahead = replace(still.saves, in_flight=replace(still.saves.in_flight, step=5))
    turn = looked(replace(still, saves=ahead))
    assert turn.run.saves.in_flight is not None
    assert turn.run.saves.in_flight.since_s == NOW_S


def ending(run: Run) -> Run:
    """The run is to end, and no save is under way yet; it has time until now."""
    return replace(run, ending=Ending(Outcome.STOPPED, "stopped", NOW_S))


def test_run_ends_unsaved_at_its_deadline_and_not_before(run: Run) -> None:
    assert not is_overdue(run, NOW_S)
    assert not is_overdue(ending(run), NOW_S - 0.25)
    assert is_overdue(ending(run), NOW_S)


def test_last_save_that_still_moves_gets_its_time_beyond_the_deadline(run: Run) -> None:
    late = ending(saving(run, 0.0, "w0001"))
    for still_s, over in ((SAVE_STILL_S, False), (SAVE_STILL_S + 1, True)):
        assert is_overdue(with_worker(late, "w0001", moved_s=NOW_S - still_s), NOW_S) is over


def test_member_that_still_copies_or_fetches_gets_its_time_beyond_the_deadline(run: Run) -> None:
    copying = with_worker(ending(run), "w0002", doing=Doing.COPYING)
    assert not is_overdue(copying, NOW_S)
    assert is_overdue(with_worker(copying, "w0002", moved_s=0.0), NOW_S)
    # It waits at its node's lock, for one that is no member yet and that fetches
    waiting = with_worker(ending(run), "w0002", doing=Doing.STAGING, moved_s=0.0, node="node")
    assert is_overdue(waiting, NOW_S)
    assert not is_overdue(with_worker(waiting, "w0003", doing=Doing.STAGING, node="node"), NOW_S)


def test_worker_of_another_stage_is_not_taken_for_one_that_starts(run: Run) -> None:
    assert run.workers["w0001"].stage is Stage.MEMBER
    assert not ended(looked(with_worker(run, "w0001", since_s=0.0, doing=Doing.LOADING)))
