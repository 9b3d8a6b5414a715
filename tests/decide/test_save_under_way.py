"""What exactly does each turn of a save leave behind, and whom does it wait for?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import immutables
import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide import save_under_way
from orchestrator.decide.actions import Outcome
from orchestrator.decide.progress import SAVE_STILL_S
from orchestrator.decide.run import Ending, Run
from orchestrator.decide.save_parts import SavedPart
from orchestrator.decide.save_policy import InFlight, SaveLog
from orchestrator.decide.save_under_way import BUSY_S, LONGEST_AGAIN_S
from orchestrator.decide.turn import Turn
from orchestrator.journal.event import JournalEvent
from orchestrator.journal.save_events import (
    SaveAgreed,
    SaveCancelled,
    SaveFailure,
    SaveLost,
    SavePostponed,
)
from tests.decide.situation import Driver

NOW_S = 50.0
WORKERS = ("w0001", "w0002", "w0003")
NOTHING: immutables.Map[Any, Any] = immutables.Map()
EXPECTED = immutables.Map(dict.fromkeys(WORKERS))
WRITTEN = ev.SaveWritten("w0001", 1, 4, 8, "d", "p", (), {})
FLIGHT = InFlight(1, 6, "w0001", 40.0, position=12)


def turn_of(log: dict[str, Any] | None = None, saving: Any = None, **fields: Any) -> Turn:
    """Three members that train, with what is known of saves and of the one under way."""
    run = Driver(count=3).training(*WORKERS).run
    policy = replace(run.policy, saving=replace(run.policy.saving, **(saving or {})))
    run = replace(run, policy=policy)
    run = replace(run, saves=replace(run.saves, **(log or {})), **fields)
    return Turn(run, NOW_S)


def untidy() -> dict[str, Any]:
    """What an earlier save has left."""
    part = SavedPart(0, 4, 8, 1, None, ())
    return {
        "written": WRITTEN,
        "digests": immutables.Map({"w0001": {"v": 1}}),
        "parts": immutables.Map({0: part}),
    }


def told(turn: Turn) -> list[JournalEvent]:
    return [action.event for action in turn.actions if isinstance(action, act.Note)]


def assert_nothing_told(run: Run, expected: immutables.Map[str, None] = NOTHING) -> None:
    assert (run.written, run.digests, run.parts) == (None, NOTHING, NOTHING)
    assert run.expected == expected


def test_save_that_is_agreed_is_the_newest_and_forgets_what_was_told_of_the_one_before() -> None:
    turn = turn_of({"owed": True, "ground": 5, "links": 1, "agreed": 2}, **untidy())
    before = turn.run.saves
    save_under_way.agree(turn, 6, "w0001", WORKERS, 12)
    flight = InFlight(1, 6, "w0001", NOW_S, position=12)
    assert turn.run.saves == replace(
        before,
        last_step=6,
        last_s=NOW_S,
        owed=False,
        in_flight=flight,
        agreed=3,
        ground=0,
        links=0,
    )
    assert_nothing_told(turn.run, EXPECTED)
    assert told(turn) == [SaveAgreed(step=6, generation=1, writer="w0001")]


@pytest.mark.parametrize("last", [False, True])
def test_save_of_changed_rows_keeps_its_ground_unless_no_other_comes_after_it(last: bool) -> None:
    turn = turn_of({"ground": 5, "links": 1}, {"in_parts": True, "most_links": 3})
    if last:
        save_under_way.agree(turn, 6, "w0001", WORKERS, last=True)
    else:
        save_under_way.agree(turn, 6, "w0001", WORKERS)
    log = turn.run.saves
    assert log.in_flight == InFlight(1, 6, "w0001", NOW_S, parts=3, over=0 if last else 5)
    assert (log.ground, log.links) == ((0, 0) if last else (5, 1))


def sent(turn: Turn) -> act.Grant:
    save_under_way.send(turn, WORKERS[1:], 9, 18)
    (grant,) = turn.actions
    assert isinstance(grant, act.Grant)
    return grant


def test_grant_without_a_save_names_the_first_of_whom_it_goes_to() -> None:
    log = {"agreed": 4, "committed": 3}
    bare = act.Grant(1, WORKERS[1:], 9, (), "w0002", 18, None, 3, 4, 0, 0)
    assert sent(turn_of(log)) == bare
    of_another = replace(FLIGHT, generation=2)
    assert sent(turn_of({**log, "in_flight": of_another})) == bare
    assert sent(turn_of({**log, "in_flight": FLIGHT}, written=WRITTEN)) == bare


def test_grant_with_a_save_says_where_who_and_over_what() -> None:
    log = {"agreed": 4, "committed": 3, "in_flight": FLIGHT}
    assert sent(turn_of(log)) == act.Grant(1, WORKERS[1:], 9, (6,), "w0001", 18, 12, 3, 4, 0, 0)
    log["in_flight"] = replace(FLIGHT, parts=3, over=2)
    turn = turn_of({**log, "changes": True, "before": 1}, expected=EXPECTED, written=WRITTEN)
    assert sent(turn) == act.Grant(1, WORKERS[1:], 9, (6,), "w0001", 18, 12, 3, 4, 3, 2)


def test_full_save_is_named_beside_full_ones_only() -> None:
    log = {"committed": 3, "changes": True, "before": 1}
    assert sent(turn_of(log)).saved == 1
    assert sent(turn_of({**log, "in_flight": FLIGHT})).saved == 1
    assert sent(turn_of({**log, "in_flight": replace(FLIGHT, over=2)})).saved == 3


@pytest.mark.parametrize(
    ("flight", "fields", "waits_for"),
    [
        (None, {}, ()),
        (None, {"expected": EXPECTED}, ()),
        (FLIGHT, {}, ("w0001",)),
        (FLIGHT, {"expected": EXPECTED}, WORKERS),
        (FLIGHT, {"expected": immutables.Map({"w0003": None, "w0002": None})}, WORKERS),
        (FLIGHT, {"written": WRITTEN}, ()),
        (FLIGHT, {"written": WRITTEN, "expected": immutables.Map({"w0003": None})}, ("w0003",)),
        (replace(FLIGHT, writer="gone"), {"expected": EXPECTED}, WORKERS),
        (replace(FLIGHT, writer="gone"), {"expected": immutables.Map({"lost": None})}, ()),
        (replace(FLIGHT, committing=True), {"expected": EXPECTED}, ()),
        (replace(FLIGHT, parts=3), {}, ()),
        (replace(FLIGHT, parts=3), {"expected": immutables.Map({"w0002": None})}, ("w0002",)),
    ],
)
def test_save_waits_for_its_writer_and_for_those_that_are_there_and_have_not_told(
    flight: InFlight | None, fields: dict[str, Any], waits_for: tuple[str, ...]
) -> None:
    run = turn_of({"in_flight": flight}, **fields).run
    assert save_under_way.awaited(run) == waits_for
    assert save_under_way.is_awaited(run) is bool(waits_for)
    for worker in (*WORKERS, "gone", "lost"):
        assert save_under_way.counts_on(run, worker) is (worker in waits_for)


def test_group_that_is_formed_anew_has_no_ground_and_saves_from_where_it_is() -> None:
    log = {"ground": 5, "links": 2, "last_step": 9, "committed": 7, "committed_position": 14}
    turn = turn_of({**log, "changes": True})
    save_under_way.start_anew(turn, 7, 14)
    kept = turn.run.saves
    assert (kept.ground, kept.links, kept.last_step) == (0, 0, 7)
    assert (kept.committed, kept.committed_position, kept.changes) == (7, 14, True)
    turn = turn_of({**log, "changes": True})
    save_under_way.start_anew(turn, 6, 12)
    left = turn.run.saves
    assert (left.ground, left.links, left.last_step) == (0, 0, 6)
    assert (left.committed, left.committed_position, left.changes) == (None, None, False)
    turn = turn_of({**log, "last_step": 3})
    save_under_way.start_anew(turn, 8, 16)
    assert turn.run.saves.last_step == 3
    assert turn.actions == []


def test_commit_under_way_goes_on_where_the_new_group_has_its_step_and_else_is_left() -> None:
    flight = replace(FLIGHT, committing=True)
    turn = turn_of({"in_flight": flight, "last_step": 6}, **untidy())
    before = turn.run
    save_under_way.start_anew(turn, 6, 12)
    assert (turn.run, turn.actions) == (before, [])
    save_under_way.start_anew(turn, 5, 10)
    assert (turn.run.saves.in_flight, turn.run.saves.last_step) == (None, 5)
    assert_nothing_told(turn.run)
    assert told(turn) == [SaveCancelled(step=6, reason="the group is formed anew before that step")]


def test_save_that_the_group_had_not_reached_is_cancelled_with_the_commit_beyond_it() -> None:
    turn = turn_of({"in_flight": FLIGHT, "last_step": 6, "committed": 6, "ground": 2})
    save_under_way.start_anew(turn, 5, 10)
    log = turn.run.saves
    assert (log.in_flight, log.committed, log.last_step, log.ground) == (None, None, 5, 0)


def at(turn: Turn, **steps: tuple[int | None, int]) -> Turn:
    """How far each worker is: step and position."""
    for worker, (step, position) in steps.items():
        turn.worker(worker, step=step, position=position)
    return turn


@pytest.mark.parametrize("place", [(6, 0), (7, 0), (5, 12)])
def test_save_is_waited_for_by_those_who_had_copied_their_state(place: tuple[int, int]) -> None:
    fields = {"expected": EXPECTED}
    turn = at(turn_of({"in_flight": FLIGHT}, **fields), w0001=place, w0002=(5, 11), w0003=(None, 0))
    save_under_way.start_anew(turn, 6, 12)
    assert turn.run.expected == immutables.Map({"w0001": None})
    assert (turn.run.saves.in_flight, turn.actions) == (FLIGHT, [])


def test_worker_without_a_state_has_not_copied_it_for_a_save_of_the_very_first_step() -> None:
    flight = replace(FLIGHT, step=1, position=None)
    turn = turn_of({"in_flight": flight}, expected=EXPECTED)
    at(turn, w0001=(1, 2), w0002=(None, 0), w0003=(0, 0))
    save_under_way.start_anew(turn, 1, 2)
    assert turn.run.expected == immutables.Map({"w0001": None})


def test_save_whose_writer_had_not_reached_its_step_is_lost_unless_it_has_written() -> None:
    places: dict[str, tuple[int, int]] = {"w0001": (5, 10), "w0002": (6, 12), "w0003": (6, 12)}
    turn = at(turn_of({"in_flight": FLIGHT}, expected=EXPECTED), **places)
    save_under_way.start_anew(turn, 6, 12)
    assert told(turn) == [SaveLost(step=6, reason="its writer had not reached the step")]
    assert (turn.run.saves.in_flight, turn.run.saves.owed) == (None, True)
    turn = at(turn_of({"in_flight": FLIGHT}, expected=EXPECTED, written=WRITTEN), **places)
    save_under_way.start_anew(turn, 6, 12)
    assert (turn.run.saves.in_flight, turn.actions) == (FLIGHT, [])
    assert set(turn.run.expected) == {"w0002", "w0003"}


def test_save_in_parts_is_lost_with_the_first_that_had_not_reached_its_step() -> None:
    flight = replace(FLIGHT, parts=3)
    expected = immutables.Map(dict.fromkeys(("w0003", "w0002", "gone")))
    turn = at(turn_of({"in_flight": flight}, expected=expected), w0002=(5, 10), w0003=(6, 12))
    save_under_way.start_anew(turn, 6, 12)
    (lost,) = told(turn)
    assert lost == SaveLost(
        step=6, reason="gone, which has a part in it, is gone or had not reached the step"
    )
    all_there = immutables.Map(dict.fromkeys(WORKERS[1:]))
    turn = at(turn_of({"in_flight": flight}, expected=all_there), w0002=(6, 12), w0003=(6, 12))
    save_under_way.start_anew(turn, 6, 12)
    assert (turn.run.saves.in_flight, turn.actions) == (flight, [])


def test_save_that_is_cancelled_is_not_owed_and_one_that_is_lost_is() -> None:
    turn = turn_of({"in_flight": FLIGHT}, expected=EXPECTED, **untidy())
    save_under_way.cancel(turn, "the run ends")
    assert (turn.run.saves.in_flight, turn.run.saves.owed) == (None, False)
    assert_nothing_told(turn.run)
    assert told(turn) == [SaveCancelled(step=6, reason="the run ends")]
    turn = turn_of({"in_flight": FLIGHT}, expected=EXPECTED, **untidy())
    save_under_way.lose(turn, "its writer is gone")
    assert (turn.run.saves.in_flight, turn.run.saves.owed) == (None, True)
    assert_nothing_told(turn.run)
    assert told(turn) == [SaveLost(step=6, reason="its writer is gone")]


@pytest.mark.parametrize(
    ("before", "again_s"), [(0, BUSY_S), (1, 2.0), (2, 4.0), (4, 16.0), (5, LONGEST_AGAIN_S)]
)
def test_save_that_failed_is_tried_again_after_longer_and_longer(
    before: int, again_s: float
) -> None:
    log = {"in_flight": FLIGHT, "failed": before, "ground": 5, "links": 1}
    turn = turn_of(log, {"max_failed": 9}, expected=EXPECTED, **untidy())
    known = turn.run.saves
    save_under_way.fail(turn, "503")
    assert turn.run.saves == replace(
        known, in_flight=None, failed=before + 1, again_s=NOW_S + again_s
    )
    assert_nothing_told(turn.run)
    assert told(turn) == [SaveFailure(step=6, generation=1, reason="503", in_a_row=before + 1)]
    assert turn.run.ending is None


def test_commit_that_failed_leaves_no_ground() -> None:
    log = {"in_flight": replace(FLIGHT, committing=True), "ground": 5, "links": 1}
    turn = turn_of(log)
    save_under_way.fail(turn, "what it stands on isn't there")
    assert (turn.run.saves.ground, turn.run.saves.links) == (0, 0)


@pytest.mark.parametrize(
    ("moved_s", "postponed"), [(NOW_S - SAVE_STILL_S, True), (NOW_S - SAVE_STILL_S - 1.0, False)]
)
def test_writer_that_is_busy_has_not_failed_while_it_moves(moved_s: float, postponed: bool) -> None:
    turn = turn_of({"in_flight": FLIGHT, "failed": 1}, expected=EXPECTED, **untidy())
    turn.worker("w0002", moved_s=moved_s)
    save_under_way.fail(turn, "busy", busy="w0002")
    log = turn.run.saves
    assert_nothing_told(turn.run)
    if postponed:
        assert (log.in_flight, log.failed, log.owed) == (None, 1, True)
        assert log.again_s == NOW_S + BUSY_S
        assert told(turn) == [SavePostponed(step=6, generation=1, reason="busy")]
    else:
        assert (log.in_flight, log.failed, log.owed) == (None, 2, False)
        assert told(turn) == [SaveFailure(step=6, generation=1, reason="busy", in_a_row=2)]


def test_worker_that_was_busy_and_is_gone_has_not_stood_still() -> None:
    turn = turn_of({"in_flight": FLIGHT})
    save_under_way.fail(turn, "busy", busy="gone")
    assert told(turn) == [SavePostponed(step=6, generation=1, reason="busy")]


def test_run_ends_as_failed_with_so_many_saves_in_a_row_and_says_what_to_do() -> None:
    turn = turn_of({"in_flight": FLIGHT, "failed": 2}, {"max_failed": 3})
    save_under_way.fail(turn, "503")
    ending = turn.run.ending
    assert ending is not None
    assert (ending.outcome, ending.at_once) == (Outcome.FAILED, True)
    assert ending.reason == "3 saves failed in a row, the last one: 503"
    assert ending.error is not None
    assert ending.error["message"] == ending.reason
    assert ending.error["remedy"] == (
        "Check the output; the same command goes on from the last good checkpoint"
    )


def test_run_that_is_failing_already_keeps_its_own_reason() -> None:
    failing = Ending(Outcome.FAILED, "the loss is nan")
    log = {"in_flight": FLIGHT, "failed": 2}
    turn = turn_of(log, {"max_failed": 3}, ending=failing)
    save_under_way.fail(turn, "503")
    assert turn.run.ending is failing
    turn = turn_of(log, {"max_failed": 3}, ending=Ending(Outcome.DONE, "all steps are done"))
    save_under_way.fail(turn, "503")
    assert turn.run.ending is not None
    assert turn.run.ending.outcome is Outcome.FAILED


def test_log_of_a_new_run_knows_of_no_save() -> None:
    assert Driver(count=1).run.saves == SaveLog(3, 0.0)
