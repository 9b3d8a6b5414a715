"""Who runs when, in simulated time, under one seed?

Rule: each thread of a driver is a greenlet, so that only the one whose turn it is runs; it keeps the
turn until it waits for something. Then what comes next in time is done, so that a schedule follows
from its seed alone. A process that is dead never gets a turn again, and a paused one gets its turns
late.
"""

from __future__ import annotations

import heapq
import queue
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from greenlet import getcurrent, greenlet

from tests.fakes.dying import Died

UNIX_S = 1_700_000_000.0


@dataclass(eq=False)
class Process:
    """One process of a driver.

    Attributes:
        number: unlike any other's.
        skew_s: by how much its machine's idea of the time is wrong.
        began_s: when it was started.
    """

    number: int
    name: str
    skew_s: float = 0.0
    began_s: float = 0.0
    dead: bool = False
    paused_until_s: float = 0.0


class Task:
    """One thread of a process."""

    def __init__(self, process: Process, work: Callable[[], None], player: greenlet) -> None:
        self.process, self.number = process, 0
        self.greenlet = greenlet(work, player)


class Turn(NamedTuple):
    """A task may go on, if it still waits for the same."""

    task: Task
    number: int


class Schedule:
    """Simulated time."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now_s = 0.0
        self.task: Task | None = None
        self.process: Process | None = None
        """Whose turn it is; None for the world's."""
        self.failure: BaseException | None = None
        self.over = False
        self.turns = 0
        self._player = getcurrent()
        self._tasks: list[Task] = []
        self._next: list[tuple[float, int, Turn | Callable[[], None], Process | None]] = []
        self._count = 0
        self._horizon_s = 0.0

    # -- for the world

    def at(
        self, delay_s: float, what: Turn | Callable[[], None], process: Process | None = None
    ) -> None:
        """Have something done later; by ``process``, if it lives and isn't paused then."""
        self._count += 1
        at_s = self.now_s + delay_s if delay_s > 0.0 else self.now_s
        heapq.heappush(self._next, (at_s, self._count, what, process))

    def play(self, horizon_s: float) -> None:
        """Live until ``end`` is called, or for so long. Raises what went wrong."""
        self._horizon_s = horizon_s
        self._live(None)
        self.over = True
        for task in self._tasks:
            if task.greenlet:  # it has begun, and hasn't ended
                task.greenlet.throw(Died("the schedule is over"))
        if self.failure is not None:
            raise self.failure

    def end(self) -> None:
        """Nothing happens any more."""
        self.over = True

    # -- for tasks

    def start(self, process: Process, work: Callable[[], None]) -> SimFlag:
        """Have ``work`` done by a task of its own; the flag is raised when it has ended."""
        ended = SimFlag(self)
        task = Task(process, lambda: self._run(work, ended), self._player)
        self._tasks.append(task)
        self.at(0.0, self.turn_of(task), process)
        return ended

    def turn_of(self, task: Task) -> Turn:
        task.number += 1
        return Turn(task, task.number)

    def wait(self, turn: Turn, timeout_s: float | None) -> None:
        """Return when somebody has given ``turn`` back, or after ``timeout_s``. Raises Died at the
        schedule's end.
        """
        if timeout_s is not None:
            self.at(timeout_s, turn, turn.task.process)
        self._live(turn.task)

    def wake(self, waiting: list[Turn]) -> None:
        """Give back the turns of those who still wait for them."""
        for turn in waiting:
            if turn.number == turn.task.number:
                self.at(0.0, turn, turn.task.process)
        waiting.clear()

    def sleep(self, seconds: float) -> None:
        self.wait(self.my_turn(), seconds)

    def my_turn(self) -> Turn:
        """For the present task to wait for."""
        if self.over:
            raise Died("the schedule is over")
        assert self.task is not None, "who has no thread can't wait"
        return self.turn_of(self.task)

    def _run(self, work: Callable[[], None], ended: SimFlag) -> None:
        try:
            work()
        except Died:
            return
        except BaseException as error:  # noqa: BLE001 - told to whoever plays the schedule
            self.fail(error)
        if not self.over:
            ended.set()

    def _live(self, me: Task | None) -> None:
        """Do what comes next, until it's my turn; None: until the end. Whoever waits does it, so
        that the turn is handed over once and not by way of whoever plays.
        """
        while not self.over and self._next and self._next[0][0] <= self._horizon_s:
            at_s, _, what, process = heapq.heappop(self._next)
            if process is not None:
                if process.dead:
                    continue
                if process.paused_until_s > at_s:
                    self.at(process.paused_until_s - self.now_s, what, process)
                    continue
            self.process = process
            if at_s > self.now_s:
                self.now_s = at_s
            if not isinstance(what, Turn):
                self._do(what)
            elif what.number == what.task.number:
                what.task.number += 1
                self.task = what.task
                self.turns += 1
                if what.task is me:
                    return
                what.task.greenlet.switch()
                if me is not None:
                    return  # it's my turn; whoever plays goes on when a task has ended
        if me is not None:
            self._player.switch()

    def _do(self, what: Callable[[], None]) -> None:
        self.task = None
        try:
            what()
        except BaseException as error:  # noqa: BLE001 - told to whoever plays the schedule
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """End with this error."""
        self.failure = self.failure or error
        self.over = True


class SimFlag:
    """``workers.scheduling.Flag`` and ``StartedThread``."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule, self._raised = schedule, False
        self._waiting: list[Turn] = []

    def set(self) -> None:
        self._raised = True
        self._schedule.wake(self._waiting)

    def wait(self, timeout_s: float | None = None) -> bool:
        if not self._raised:
            turn = self._schedule.my_turn()
            self._waiting.append(turn)
            self._schedule.wait(turn, timeout_s)
        return self._raised

    def join(self, timeout_s: float) -> None:
        self.wait(timeout_s)


class SimLine:
    """``workers.scheduling.Line``."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._items: deque[Any] = deque()
        self._waiting: list[Turn] = []

    def put(self, item: Any) -> None:
        self._items.append(item)
        self._schedule.wake(self._waiting)

    def get(self, timeout_s: float | None = None) -> Any:
        while not self._items:
            turn = self._schedule.my_turn()
            self._waiting.append(turn)
            self._schedule.wait(turn, timeout_s)
            # One of several that take from here may have come first
            if not self._items and timeout_s is not None:
                raise queue.Empty
        return self._items.popleft()


@dataclass(frozen=True)
class SimScheduler:
    """``workers.scheduling.Scheduler`` of one process."""

    schedule: Schedule
    process: Process = field(compare=False)

    def monotonic(self) -> float:
        # From anywhere, as each machine's own
        return self.schedule.now_s + 1000.0 * self.process.number

    def unix(self) -> float:
        return UNIX_S + self.schedule.now_s + self.process.skew_s

    def sleep(self, seconds: float) -> None:
        self.schedule.sleep(seconds)

    def start(self, work: Callable[[], None], name: str) -> SimFlag:
        return self.schedule.start(self.process, work)

    def later(self, delay_s: float, work: Callable[[], None]) -> None:
        self.schedule.at(delay_s, work, self.process)

    def flag(self) -> SimFlag:
        return SimFlag(self.schedule)

    def line(self) -> SimLine:
        return SimLine(self.schedule)
