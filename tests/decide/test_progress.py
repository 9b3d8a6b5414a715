"""Do deadlines follow the work: is whoever moves state left alone, and whoever stopped moving it
not?
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide import progress
from orchestrator.decide.phases import Phase
from orchestrator.decide.progress import (
    COPY_STILL_S,
    JOIN_STILL_S,
    PASS_BYTES_PER_S,
    SAVE_STILL_S,
    STAGE_STILL_S,
)
from orchestrator.decide.roster import Roster, Stage, Worker
from orchestrator.decide.run import Run
from tests.decide.situation import Driver


class Moving:
    """A worker that moves its state on and on, for signs of life."""

    def __init__(self, driver: Driver, doing: ev.Doing) -> None:
        self.driver, self.doing, self.moved = driver, doing, 0

    def wait(self, seconds: float, worker: str, *others: ev.Progress) -> list[act.Action]:
        """Let time pass in which ``worker`` moves a little each second."""
        done: list[act.Action] = []
        for _ in range(round(seconds)):
            self.moved += 1
            pulses = self.driver.idle(worker, doing=self.doing, moved_bytes=self.moved)
            done += self.driver.wait(1.0, *pulses, *others)
        return done

    def stand(self, seconds: float, worker: str, *others: ev.Progress) -> list[act.Action]:
        """The same without moving anything."""
        return self.driver.wait(
            seconds, *self.driver.idle(worker, doing=self.doing, moved_bytes=self.moved), *others
        )


def hurt(done: list[act.Action]) -> list[tuple[str, str]]:
    """Who was ended or had its step broken off."""
    return [
        (type(item).__name__, item.worker)
        for item in done
        if isinstance(item, act.EndWorker | act.BreakStep)
    ]


@pytest.fixture
def training() -> Driver:
    driver = Driver(count=2).training("w0001", "w0002")
    driver.step(4, "w0001", "w0002")
    return driver


AT_A_SAVE = [(ev.Doing.COPYING, COPY_STILL_S), (ev.Doing.SAVING, SAVE_STILL_S)]
"""Its state into memory, or its rows into the store while it stands still."""


@pytest.mark.parametrize(("doing", "still_s"), AT_A_SAVE)
def test_member_that_stands_still_for_a_save_is_left_alone_for_as_long_as_it_moves(
    training: Driver, doing: ev.Doing, still_s: float
) -> None:
    """4 GB: the step was broken off after 5 s and everybody killed after 10, again and again."""
    in_step = training.idle("w0002", doing=ev.Doing.STEP)
    moving = Moving(training, doing)
    assert not hurt(moving.wait(300, "w0001", *in_step))
    assert not hurt(moving.stand(still_s - 10, "w0001", *in_step))
    assert hurt(moving.stand(20, "w0001", *in_step))[0] == ("EndWorker", "w0001")


def test_step_that_hangs_after_a_copy_is_noticed_as_ever(training: Driver) -> None:
    moving = Moving(training, ev.Doing.COPYING)
    moving.wait(30, "w0001", *training.idle("w0002", doing=ev.Doing.STEP))
    done = training.wait(8.0, *training.idle("w0001", "w0002", doing=ev.Doing.STEP))
    assert hurt(done)[0] == ("BreakStep", "w0001")


@pytest.mark.parametrize(("doing", "still_s"), AT_A_SAVE)
def test_member_that_stands_still_for_a_save_while_its_group_gathers_is_waited_for(
    training: Driver, doing: ev.Doing, still_s: float
) -> None:
    training.tell(ev.Gone("w0002", ev.Cause.DIED))
    assert training.run.phase is Phase.GATHERING
    moving = Moving(training, doing)
    assert not hurt(moving.wait(120, "w0001"))
    assert ("EndWorker", "w0001") not in hurt(moving.stand(still_s - 5, "w0001"))
    assert ("EndWorker", "w0001") in hurt(moving.stand(10, "w0001"))


def test_member_that_does_nothing_of_the_kind_has_to_stop_soon(training: Driver) -> None:
    training.tell(ev.Gone("w0002", ev.Cause.DIED))
    assert hurt(training.wait(11.0, *training.idle("w0001", doing=ev.Doing.STEP)))[0] == (
        "EndWorker",
        "w0001",
    )


def test_checkpoint_that_takes_an_hour_to_come_is_waited_for() -> None:
    """65 GB couldn't be started with at all: 180 s were allowed."""
    driver = Driver(count=1).warm("w0001")
    moving = Moving(driver, ev.Doing.STAGING)
    assert not hurt(moving.wait(3600, "w0001"))
    assert hurt(moving.stand(STAGE_STILL_S + 5, "w0001")) == [("EndWorker", "w0001")]


def test_worker_that_waits_at_the_lock_is_as_far_as_the_one_of_its_node_that_fetches() -> None:
    driver = Driver(count=2)
    driver.tell(ev.Warm("w0001", "node", 1, "a:1"), ev.Warm("w0002", "node", 2, "a:2"))
    waiting = driver.idle("w0002", doing=ev.Doing.STAGING)
    moving = Moving(driver, ev.Doing.STAGING)
    assert not hurt(moving.wait(STAGE_STILL_S * 2, "w0001", *waiting))
    driver.tell(ev.Joined("w0001", driver.run.generation, 3))
    assert hurt(driver.wait(STAGE_STILL_S + 5, *driver.idle("w0001"), *waiting))[0] == (
        "EndWorker",
        "w0002",
    )


def test_member_that_waits_for_another_ones_state_gets_the_time_that_the_state_takes(
    training: Driver,
) -> None:
    size = int(PASS_BYTES_PER_S * 600)
    training.tell(ev.Gone("w0002", ev.Cause.DIED))
    training.warm("w0003")
    training.tell(ev.Held("w0001", 1, 4, 2, "w0001:2", "lost", size))
    assert training.run.phase is Phase.FORMING
    training.tell(ev.Joined("w0001", training.run.generation, 4))
    idle = training.idle("w0001", "w0003")
    assert not hurt(training.wait(JOIN_STILL_S + 590, *idle))
    assert hurt(training.wait(20, *idle)) == [("EndWorker", "w0003")]


def test_member_that_waits_for_the_one_that_reads_is_not_ended_in_its_place() -> None:
    driver = Driver(count=2).warm("w0001", "w0002")
    moving = Moving(driver, ev.Doing.STAGING)
    waiting = driver.idle("w0002")
    assert not hurt(moving.wait(1000, "w0001", *waiting))
    assert hurt(moving.stand(STAGE_STILL_S + 5, "w0001", *waiting)) == [("EndWorker", "w0001")]


def test_driver_that_was_paused_takes_nobodys_copy_for_a_hang(training: Driver) -> None:
    moving = Moving(training, ev.Doing.COPYING)
    moving.wait(5, "w0001", *training.idle("w0002", doing=ev.Doing.STEP))
    training.tell(ev.Tick(), after_s=COPY_STILL_S * 3)
    assert not hurt(list(training.actions))


@pytest.mark.parametrize(
    ("stop", "saved"),
    [
        (ev.StopAsked(ev.StopCause.REQUEST, 120.0), True),
        (ev.StopAsked(ev.StopCause.SIGTERM, 25.0), False),
    ],
)
def test_last_save_that_moves_gets_its_time_unless_somebody_kills_us(
    stop: ev.StopAsked, saved: bool
) -> None:
    driver = Driver(count=1).training("w0001")
    driver.step(driver.run.granted_end, "w0001")
    driver.tell(stop)
    driver.step(driver.run.granted_end, "w0001")
    assert driver.run.saves.in_flight is not None
    Moving(driver, ev.Doing.IDLE).wait(600, "w0001")
    assert (driver.run.phase is Phase.ENDED) is not saved


def test_request_to_end_now_is_followed_at_once() -> None:
    driver = Driver(count=1).training("w0001")
    driver.step(4, "w0001")
    driver.tell(ev.StopAsked(ev.StopCause.REQUEST, 0.0))
    driver.tell(ev.Tick(), after_s=0.25)
    assert driver.run.phase is Phase.ENDED


def at(ident: str, doing: ev.Doing, moved_s: float, **known: object) -> Worker:
    worker = Worker(ident, Stage.MEMBER, 0.0, 0.0, node="n1", doing=doing, moved_s=moved_s)
    return replace(worker, **known)  # type: ignore[arg-type]


def run_of(*workers: Worker, since_s: float = 0.0) -> Run:
    members = tuple(worker.ident for worker in workers if worker.rank is not None)
    return replace(Driver(count=2).run, workers=Roster(workers), members=members, since_s=since_s)


@pytest.mark.parametrize("doing", list(progress.STILL_S))
def test_worker_that_moves_state_is_at_it_up_to_the_last_moment_that_it_may_move_nothing(
    doing: ev.Doing,
) -> None:
    still_s = progress.STILL_S[doing]
    assert progress.is_moving(at("a", doing, 100.0), {}, 100.0 + still_s)
    assert not progress.is_moving(at("a", doing, 100.0), {}, 100.1 + still_s)
    # Another one's fetch, on the same node, moves nobody but those that wait for it
    waits = progress.is_moving(at("a", doing, 100.0), {"n1": 150.0}, 100.1 + still_s)
    assert waits is (doing is ev.Doing.STAGING)


BOUND_S = 10.0


@pytest.mark.parametrize(
    ("worker", "since_s", "now_s", "late"),
    [
        (at("a", ev.Doing.STEP, 0.0), 100.0, 110.0, False),
        (at("a", ev.Doing.STEP, 0.0), 100.0, 110.1, True),
        (at("a", ev.Doing.STEP, 105.0), 100.0, 110.1, True),
        (at("a", ev.Doing.STEP, 105.0), 0.0, 10.5, True),
        # It comes out of its session only then
        (at("a", ev.Doing.JOINING, 105.0), 100.0, 115.0, False),
        (at("a", ev.Doing.JOINING, 105.0), 100.0, 115.1, True),
        (at("a", ev.Doing.STAGING, 105.0), 100.0, 120.0, False),
        (at("a", ev.Doing.STEP, 0.0, held=True), 100.0, 120.0, False),
    ],
)
def test_member_is_late_to_stop_so_long_after_it_was_told_or_had_joined(
    worker: Worker, since_s: float, now_s: float, late: bool
) -> None:
    worker = replace(worker, rank=1)
    stopped = at("0", ev.Doing.IDLE, 0.0, rank=0, held=True)
    run = run_of(stopped, worker, since_s=since_s)
    assert progress.slow_to_hold(run, now_s, BOUND_S) == (["a"] if late else [])


def test_member_that_waits_for_a_state_is_late_so_long_after_anybody_of_the_group_moved() -> None:
    size = int(PASS_BYTES_PER_S * 100)
    waits = at("a", ev.Doing.IDLE, 20.0, rank=0)
    gives = at("b", ev.Doing.IDLE, 50.0, rank=1, joined=True, size_bytes=size)
    apart = at("c", ev.Doing.IDLE, 90.0, stage=Stage.WARM)
    run = run_of(waits, gives, apart, since_s=10.0)
    last_s = 50.0 + JOIN_STILL_S + 100.0
    assert progress.slow_to_join(run, last_s) == []
    assert progress.slow_to_join(run, last_s + 0.1) == ["a"]


def test_nobody_is_late_where_nobody_is() -> None:
    assert progress.slow_to_join(run_of(), 1e6) == []
