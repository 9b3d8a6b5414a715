"""Does what a member tells change what it may, by as much as it says?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide.causes import Obstacle
from orchestrator.decide.doing import Doing
from orchestrator.decide.facts import members
from orchestrator.decide.facts.members import LONGEST_LEARNT_S, WORK_SHARE, WORK_WINDOW_S
from orchestrator.decide.phases import Phase
from orchestrator.decide.run import Run
from orchestrator.decide.turn import Turn
from tests.decide.situation import Driver

NOW_S = 64.0


def training(**facts: Any) -> Run:
    """Two members that have finished a step, the second 32 s ago, and one that starts."""
    driver = Driver(count=2, standby=1).training("w0001", "w0002")
    driver.step(4, "w0001", "w0002")
    found = replace(driver.run, position=2, fastest_position=2, moved_s=32.0, step_time_s=0.5)
    workers = found.workers
    for ident in found.members:
        workers = workers.put(replace(workers[ident], position=2, moved_s=1.0, turned_s=1.0))
    return replace(found, workers=workers, laggards=2, **facts)


def pulse(worker: str = "w0001", step: int = 4, doing: Doing = Doing.STEP, **more: Any) -> Any:
    return ev.Progress(worker, more.pop("generation", 1), step, doing, **{"position": 2, **more})


def told(run: Run, *events: Any, handler: Any = members.on_progress) -> Turn:
    turn = Turn(run, NOW_S)
    for event in events:
        handler(turn, event)
    return turn


def noted(turn: Turn) -> list[dict[str, Any]]:
    return [item.event.record() for item in turn.actions if isinstance(item, act.Note)]


def test_sign_of_life_is_heard_and_moves_nothing_by_itself() -> None:
    run = training()
    turn = told(run, pulse())
    worker, before = turn.run.workers["w0001"], run.workers["w0001"]
    assert turn.quiet
    assert worker.heard_s == NOW_S
    assert (worker.moved_s, worker.turned_s) == (1.0, 1.0)
    assert (worker.step, worker.position) == (before.step, before.position)
    assert (turn.run.place, turn.run.moved_s, turn.run.laggards) == ((4, 2), 32.0, 2)
    assert told(run, pulse("w0009")).run is run


def test_bytes_that_move_and_another_doing_are_moves() -> None:
    run = training()
    moved = told(run, pulse(moved_bytes=8)).run.workers["w0001"]
    assert (moved.moved_bytes, moved.moved_s, moved.turned_s) == (8, NOW_S, 1.0)
    turned = told(run, pulse(doing=Doing.COMPUTING)).run.workers["w0001"]
    assert (turned.doing, turned.moved_s, turned.turned_s) == (Doing.COMPUTING, NOW_S, NOW_S)
    for event in (pulse(step=5), pulse(position=4)):
        stepped = told(run, event).run.workers["w0001"]
        assert (stepped.moved_s, stepped.turned_s) == (1.0, NOW_S)


@pytest.mark.parametrize(
    ("looked_ago_s", "used_s", "looked", "worked"),
    [
        (WORK_WINDOW_S - 0.25, 100.0, False, False),
        (WORK_WINDOW_S, WORK_SHARE * WORK_WINDOW_S, True, True),
        (WORK_WINDOW_S, WORK_SHARE * WORK_WINDOW_S - 0.25, True, False),
        (2 * WORK_WINDOW_S, WORK_SHARE * WORK_WINDOW_S, True, False),
    ],
)
def test_worker_is_at_work_that_uses_a_share_of_a_processor_over_some_seconds(
    looked_ago_s: float, used_s: float, looked: bool, worked: bool
) -> None:
    run = training()
    before = replace(
        run.workers["w0001"], looked_s=NOW_S - looked_ago_s, processor_s=2.0, worked_s=0.0
    )
    run = replace(run, workers=run.workers.put(before))
    after = told(run, pulse(processor_s=2.0 + used_s)).run.workers["w0001"]
    assert (after.looked_s == NOW_S, after.processor_s == 2.0 + used_s) == (looked, looked)
    assert (after.worked_s == NOW_S) is worked


def test_worker_that_has_found_its_place_loads_from_now_on() -> None:
    run = training()
    loading = pulse("w0003", 0, Doing.LOADING, generation=0, position=0)
    once = told(run, loading)
    assert once.run.workers["w0003"].since_s == NOW_S
    again = replace(once.run.workers["w0003"], since_s=1.0)
    run = replace(once.run, workers=once.run.workers.put(again))
    assert told(run, loading).run.workers["w0003"].since_s == 1.0, "it has loaded already"
    other = told(training(), pulse("w0003", 0, Doing.IDLE, generation=0))
    assert other.run.workers["w0003"].since_s == 0.0
    member = training()
    assert told(member, pulse(doing=Doing.LOADING)).run.workers["w0001"].since_s != NOW_S


@pytest.mark.parametrize("facts", [{"phase": Phase.GATHERING}, {"generation": 2}])
def test_what_is_told_out_of_turn_moves_the_workers_own_entry_alone(facts: dict[str, Any]) -> None:
    run = training(**facts)
    turn = told(run, pulse(step=9, moved_bytes=8))
    worker = turn.run.workers["w0001"]
    assert (worker.heard_s, worker.moved_bytes, worker.step) == (NOW_S, 8, 4)
    assert replace(turn.run, workers=run.workers) == run


def test_member_that_is_ahead_moves_the_front_and_not_the_group() -> None:
    turn = told(training(), pulse(step=6, position=6, steps_per_s=4.0, batch_rows=8))
    run = turn.run
    assert (run.step, run.highest, run.fastest, run.fastest_position) == (4, 6, 6, 6)
    assert (run.laggards, run.leap) == (1, 1)
    assert (run.step_time_s, run.batch_rows) == (0.25, 8)
    back = told(run, pulse(step=5, position=4)).run
    assert (back.workers["w0001"].step, back.workers["w0001"].position) == (6, 6), "overtaken"
    assert (back.laggards, back.fastest, back.batch_rows) == (1, 6, 8)
    second = told(run, pulse("w0002", step=4, steps_per_s=9.0)).run
    assert second.step_time_s == 0.25, "rank 0's pace is the group's"
    assert told(run, pulse(step=6, steps_per_s=0.0, position=6)).run.step_time_s == 0.25


def test_member_of_which_nothing_is_known_is_where_the_group_is() -> None:
    run = training()
    unknown = run.workers.put(replace(run.workers["w0001"], step=None))
    after = told(replace(run, workers=unknown, laggards=5), pulse(step=5, position=4)).run
    assert after.workers["w0001"].place == (5, 4, 0)
    assert after.laggards == 4
    slow = told(run, pulse(steps_per_s=0.5)).run
    assert slow.step_time_s == 2.0


def test_group_whose_slowest_has_not_stepped_yet_has_not_moved() -> None:
    run = training(step=0, position=0, highest=0)
    workers = run.workers
    for ident in run.members:
        workers = workers.put(replace(workers[ident], step=0, position=0))
    run = replace(run, workers=workers, laggards=1)
    after = told(run, pulse(step=1, position=2)).run
    assert (after.place, after.moved_s, after.laggards) == ((0, 0), 32.0, 1)
    stopped = told(run, held(step=0), handler=members.on_held).run
    assert stopped.highest == 0


@pytest.mark.parametrize(
    ("step", "position", "leap"),
    [(5, 4, 1), (12, 4, 8), (20, 6, 8), (9, 6, 3), (4, 4, 1), (8, 2, 3), (8, 3, 3)],
)
def test_leap_is_by_how_much_the_counter_grows_in_a_step_of_the_group(
    step: int, position: int, leap: int
) -> None:
    run = training(leap=3)
    assert told(run, pulse(step=step, position=position)).run.leap == leap


def test_group_is_as_far_as_its_slowest_member() -> None:
    turn = told(
        training(failures=2, join_failures=2, fruitless=2, last_cause="lost", counted_s=1.0),
        pulse(step=7, position=8),
        pulse("w0002", step=5, position=4),
    )
    run = turn.run
    assert run.place == (5, 4)
    assert (run.laggards, run.moved_s, run.counted_s) == (1, NOW_S, NOW_S)
    assert (run.stepped, run.fruitless, run.failures, run.join_failures) == (True, 0, 0, 0)
    assert run.last_cause == ""
    assert run.longest_s == 32.0
    both = told(training(), pulse(step=5, position=4), pulse("w0002", step=5, position=4)).run
    assert both.laggards == 2


def test_counter_that_stands_is_still_a_step_by_its_position() -> None:
    run = training(counted_s=1.0, standing=True)
    after = told(run, pulse(position=4), pulse("w0002", position=4)).run
    assert (after.place, after.moved_s) == ((4, 4), NOW_S)
    assert (after.counted_s, after.standing) == (1.0, True)
    counted = told(run, pulse(step=5, position=4), pulse("w0002", step=5, position=4)).run
    assert (counted.counted_s, counted.standing) == (NOW_S, False)


def both(step: int = 5, position: int = 4) -> tuple[Any, Any]:
    return pulse(step=step, position=position), pulse("w0002", step=step, position=position)


def test_longest_step_is_learnt_of_all_but_a_generations_first_unless_it_was_suspected() -> None:
    assert told(training(stepped=False), *both()).run.longest_s == 0.0
    suspected = training(stepped=False, suspicions=1, suspected=(4, 2))
    assert told(suspected, *both()).run.longest_s == 32.0
    assert told(training(longest_s=40.0), *both()).run.longest_s == 40.0
    asleep = replace(training(), moved_s=NOW_S - LONGEST_LEARNT_S - 60.0)
    assert told(asleep, *both()).run.longest_s == LONGEST_LEARNT_S


def test_suspicion_is_over_once_the_step_is_passed_that_raised_it() -> None:
    for suspected, left in (((4, 2), 0), ((5, 4), 2), ((9, 9), 2)):
        run = training(suspicions=2, suspected=suspected)
        assert told(run, *both()).run.suspicions == left


def held(worker: str = "w0002", step: int | None = 6, **more: Any) -> ev.Held:
    number = more.pop("generation", 1)
    return ev.Held(worker, number, step, 6, "new:1", more.pop("why", ""), **more)


def test_member_that_has_stopped_is_known_by_all_that_it_says() -> None:
    event = held(size_bytes=64, runs=3, gives=True, takes=True, share=(1, 2))
    turn = told(training(), event, handler=members.on_held)
    worker = turn.run.workers["w0002"]
    assert (worker.held, worker.joined, worker.step, worker.position) == (True, False, 6, 6)
    assert (worker.address, worker.heard_s, worker.size_bytes) == ("new:1", NOW_S, 64)
    assert (worker.runs, worker.gives, worker.takes, worker.share) == (3, True, True, (1, 2))
    assert turn.run.highest == 6
    assert turn.run.gather_for == "a member stopped"
    assert turn.run.incident is None


def test_state_that_was_rolled_back_from_is_none() -> None:
    run = training(highest=4)
    tainted = run.workers.put(replace(run.workers["w0002"], tainted=True))
    turn = told(replace(run, workers=tainted), held(), handler=members.on_held)
    assert turn.run.workers["w0002"].step is None
    assert turn.run.highest == 4


def test_stop_that_has_a_reason_is_an_incident_while_the_group_is_at_work() -> None:
    event = held(why="the peer is gone")
    for phase, known in ((Phase.TRAINING, True), (Phase.FORMING, True), (Phase.GATHERING, False)):
        run = told(training(phase=phase), event, handler=members.on_held).run
        assert (run.incident is not None, run.last_cause) == (known, event.why if known else "")
        if run.incident is not None:
            assert (run.incident.kind, run.incident.detail) == ("peer lost", "the peer is gone")
            assert (run.incident.rank, run.incident.worker) == (None, "")
            assert run.gather_for == "the peer is gone"


@pytest.mark.parametrize(
    ("event", "facts"),
    [
        (held("w0003"), {}),
        (held("w0009"), {}),
        (held(generation=2), {}),
    ],
)
def test_stop_of_who_is_no_member_of_that_generation_changes_nothing(
    event: ev.Held, facts: dict[str, Any]
) -> None:
    run = training(**facts)
    assert told(run, event, handler=members.on_held).run is run


def test_dead_peers_are_believed_of_the_present_group_alone() -> None:
    event = held("w0001", dead=(1,))
    assert "w0002" not in told(training(), event, handler=members.on_held).run.workers
    pieced = told(training(pieced=True), event, handler=members.on_held).run
    assert "w0002" in pieced.workers
    run = training(generation=2)
    earlier = told(run, event, handler=members.on_held).run
    assert "w0002" in earlier.workers
    assert earlier.workers["w0001"].held
    silent = replace(run.policy, peers_tell=False)
    untold = told(training(policy=silent), event, handler=members.on_held).run
    assert "w0002" in untold.workers


def forming(**facts: Any) -> Run:
    """The two are to join; it's the first generation, from a checkpoint at step 3."""
    driver = Driver(count=2).warm("w0001", "w0002")
    return replace(driver.run, **{"position": 12, **facts})


def test_member_that_has_joined_is_ready_at_that_step() -> None:
    run = forming()
    tainted = run.workers.put(replace(run.workers["w0002"], tainted=True))
    event = ev.Joined("w0002", 1, 3, rows=8, size_bytes=64)
    worker = told(replace(run, workers=tainted), event, handler=members.on_joined).run.workers[
        "w0002"
    ]
    assert (worker.joined, worker.tainted, worker.step, worker.position) == (True, False, 3, 12)
    assert (worker.heard_s, worker.took) == (NOW_S, (8, 64))
    late = told(
        replace(run, workers=tainted, phase=Phase.GATHERING), event, handler=members.on_joined
    ).run.workers["w0002"]
    assert (late.joined, late.tainted) == (False, False), "its state is the new one all the same"
    for event in (ev.Joined("w0002", 2, 3), ev.Joined("w0009", 1, 3)):
        assert told(run, event, handler=members.on_joined).run is run


def failed(obstacle: Obstacle = Obstacle.PASSING, **more: Any) -> ev.JoinFailed:
    return ev.JoinFailed(more.pop("worker", "w0002"), 1, "no way", obstacle, **more)


def test_member_that_could_not_join_is_told_and_the_group_gathers() -> None:
    turn = told(
        forming(origin=ev.Found(3, 12, label="m-3")), failed(), handler=members.on_join_failed
    )
    why = "rank 1 (w0002) couldn't join: no way"
    assert noted(turn) == [
        {
            "event": "join_failed",
            "worker": "w0002",
            "rank": 1,
            "reason": "no way",
            "obstacle": Obstacle.PASSING.value,
            "generation": 1,
        }
    ]
    assert (turn.run.last_cause, turn.run.gather_for) == (why, why)
    assert (turn.run.join_failures, turn.run.retry_s) == (1, NOW_S)
    assert turn.run.origin is not None
    again = told(turn.run, failed(), handler=members.on_join_failed)
    assert again.run.join_failures == 2
    backing = noted(again)[-1]
    assert (backing["event"], backing["reason"]) == ("backing_off", why)


def test_checkpoint_that_is_gone_or_damaged_is_not_gone_on_from() -> None:
    run = forming(origin=ev.Found(3, 12, label="m-3"))
    missing = told(run, failed(Obstacle.MISSING), handler=members.on_join_failed).run
    assert (missing.origin, missing.accused) == (None, "")
    damaged = told(run, failed(Obstacle.DAMAGED), handler=members.on_join_failed).run
    assert (damaged.origin, damaged.accused, damaged.bad) == (None, "m-3", {})
    again = told(
        replace(run, accused="m-3"), failed(Obstacle.DAMAGED), handler=members.on_join_failed
    )
    assert again.run.bad == {"m-3": "no way"}
    bad = [each for each in noted(again) if each["event"] == "checkpoint_bad"]
    assert [(each["checkpoint"], each["step"], each["reason"]) for each in bad] == [
        ("m-3", 3, "no way")
    ]
    store = told(run, failed(Obstacle.STORE), handler=members.on_join_failed).run
    assert store.store_down_s == NOW_S


def test_misfit_gives_up_with_the_members_own_error_unless_the_run_ends_already() -> None:
    error = {"kind": "Misfit", "message": "it doesn't fit"}
    turn = told(forming(), failed(Obstacle.MISFIT, error=error), handler=members.on_join_failed)
    ending = turn.run.ending
    assert ending is not None
    assert (ending.reason, ending.error) == ("no way", error)
    other = failed(Obstacle.MISFIT, error={"kind": "Other"})
    assert told(turn.run, other, handler=members.on_join_failed).run.ending == ending


def test_failure_to_join_after_the_formation_is_over_is_told_alone() -> None:
    run = forming(phase=Phase.GATHERING)
    turn = told(run, failed(Obstacle.MISSING), handler=members.on_join_failed)
    assert [each["event"] for each in noted(turn)] == ["join_failed"]
    assert (turn.run.join_failures, turn.run.gather_for, turn.run.origin) == (
        0,
        "",
        run.origin,
    )
    for event in (failed(worker="w0009"), replace(failed(), generation=2)):
        assert not told(run, event, handler=members.on_join_failed).actions
