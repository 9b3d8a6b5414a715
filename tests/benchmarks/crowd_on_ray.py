"""How does the driver bear many workers, when each of their messages passes through Ray?

The real loop, rules, inbox, fleet and calls. The workers are a few lines each, a hundred or so in one
process of Ray's; to the driver each is one that it starts, asks for events, has join and grants steps
to. What a worker process costs Ray (its place, its start, its death) isn't in it.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import ray

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide import machine
from orchestrator.decide.budgets import Budgets
from orchestrator.decide.phases import Phase
from orchestrator.driver.inbox import Inbox, Message
from orchestrator.driver.loop import Loop
from orchestrator.driver.observer import Observers
from orchestrator.journal.event import JournalEvent
from orchestrator.workers.event_buffer import EventBuffer
from orchestrator.workers.fleet import Fleet
from orchestrator.workers.orders import CheckpointFiles, GrantOrder, JoinOrder, Setup
from orchestrator.workers.places import Lent
from tests.benchmarks.bench_scale import Output
from tests.simulation.world import policy

PROCESSES = 8
STEP_S = 1.0
START = CheckpointFiles(0, 0, "start", ())
SETUP = Setup(None, None, None, None, "model.ckpt", START, 120.0, 2, b"")  # type: ignore[arg-type]
FORM_WITHIN_S = 300.0
"""A machine that does other things beside takes many times as long as one that doesn't."""


@dataclass
class Small:
    """One worker: it joins, steps as far as it's granted, and says so."""

    ident: str
    buffer: EventBuffer = field(default_factory=EventBuffer)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    generation: int = 0
    rank: int = -1
    world_size: int = 1
    granted: int = 0
    step: int = 0
    began: int = 0
    taken: int = 0

    def tell(self, event: ev.Event) -> None:
        self.buffer.put(event)
        self.news.set()

    def go_on(self) -> None:
        """Take a step, and tell what ``Work`` tells of one."""
        if self.step < self.granted:
            self.step, self.taken = self.step + 1, self.taken + 1
            if self.rank == 0 or self.step in (self.began + 1, self.granted):
                self.pulse()

    def pulse(self) -> None:
        self.buffer.pulse(
            ev.Progress(
                self.ident,
                self.generation,
                self.step,
                ev.Doing.STEP if self.generation else ev.Doing.IDLE,
                1 / STEP_S,
                values={"sent": time.time()},
                position=self.step * self.world_size,
                steps_taken=self.taken,
            )
        )
        self.news.set()


@ray.remote(num_cpus=0, max_concurrency=10_000)
class Host:
    """A process with many workers in it."""

    def __init__(self) -> None:
        self.workers: dict[str, Small] = {}
        self.beating: asyncio.Task[None] | None = None

    async def start(self, ident: str) -> None:
        self.workers[ident] = worker = Small(ident)
        worker.tell(ev.Warm(ident, f"node-{int(ident[1:]) // 8}", 1, f"{ident}:1"))
        if self.beating is None:
            self.beating = asyncio.create_task(self.beat())

    async def beat(self) -> None:
        while True:
            await asyncio.sleep(STEP_S)
            for worker in self.workers.values():
                worker.go_on()

    async def poll(
        self, ident: str, _attempt: int, after: int, pulse_s: float
    ) -> tuple[int, list[ev.Event]]:
        worker = self.workers[ident]
        last, found = worker.buffer.poll(after, 0.0)
        if not found:
            worker.news.clear()
            try:
                await asyncio.wait_for(worker.news.wait(), pulse_s)
            except TimeoutError:
                worker.pulse()
            last, found = worker.buffer.poll(after, 0.0)
        return last, found

    async def join(self, ident: str, _attempt: int, order: JoinOrder, _donated: Any) -> None:
        worker = self.workers[ident]
        worker.generation, worker.rank = order.generation, order.rank
        worker.world_size, worker.step, worker.began = order.world_size, order.step, order.step
        worker.tell(ev.Joined(ident, order.generation, order.step))

    async def grant(self, ident: str, _attempt: int, order: GrantOrder) -> None:
        self.workers[ident].granted = order.end

    async def quiesce(self, ident: str, _attempt: int, generation: int, _urgent: bool) -> None:
        worker = self.workers[ident]
        worker.granted = worker.step
        place = worker.step * worker.world_size
        worker.tell(ev.Held(ident, generation, worker.step, place, f"{ident}:1"))

    async def steps(self) -> list[int]:
        return [worker.step for worker in self.workers.values()]

    async def close(self) -> None:
        if self.beating is not None:
            self.beating.cancel()
        for worker in self.workers.values():
            worker.news.set()


class Handle:
    """Ray's handle of one worker."""

    def __init__(self, host: Any, ident: str) -> None:
        self._host, self._ident = host, ident

    def __getattr__(self, method: str) -> Any:
        call = getattr(self._host, method).remote
        return SimpleNamespace(remote=lambda *arguments: call(self._ident, *arguments))


class Crowd:
    """Stands for Ray's class of workers: a new one goes to the next process."""

    def __init__(self, hosts: list[Any]) -> None:
        self._next = itertools.cycle(hosts)
        self._lock = threading.Lock()

    def options(self, **_options: Any) -> Crowd:
        return self

    def remote(self, worker: str, _attempt: int, _setup: Any) -> Handle:
        with self._lock:
            host = next(self._next)
        ray.get(host.start.remote(worker))
        return Handle(host, worker)


class Anywhere:
    """Places without number."""

    def options(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {}

    def arrived(self, *_: Any) -> None:
        """Nothing is booked."""

    def free(self, _worker: str) -> None:
        """Nothing is booked."""

    def lend(self, _worker: str) -> Lent:
        return Lent()


class Told(Output):
    """Keeps which kinds of events were written down."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: list[type[JournalEvent]] = []

    def note(self, event: JournalEvent) -> None:
        super().note(event)
        self.kinds.append(type(event))


class Watched(Loop):
    """The loop, with a look at how old what it handles is and how long it takes.

    Attributes:
        ages: of the signs of life in seconds, ``handled`` of all messages the seconds they took.
    """

    ages: list[float]
    handled: list[float]

    def _handle(self, message: Message) -> None:
        if isinstance(message, ev.Progress):
            self.ages.append(time.time() - message.values["sent"])
        began_s = time.perf_counter()
        super()._handle(message)
        self.handled.append(time.perf_counter() - began_s)


@dataclass(frozen=True)
class Seen:
    """What a crowd's driver did.

    Attributes:
        started_s: until all were told to start; ``formed_s`` until the group trained.
        messages: handled in a second, while it trained.
        age_s: of a sign of life when it was judged: the mean, what 99 of 100 are below, and of the
            oldest.
        longest_s: the longest that the loop took for one message.
        cores: that the driver's process kept busy.
        steps: that all members took, of those that the time had room for.
        kinds: of the events that were written down.
    """

    workers: int
    started_s: float
    formed_s: float
    messages: float
    age_s: tuple[float, float, float]
    longest_s: float
    cores: float
    steps: tuple[int, int]
    kinds: tuple[type[JournalEvent], ...]

    def line(self) -> str:
        """A row of the table in ``docs/scale.md``."""
        mean_s, most_s, oldest_s = self.age_s
        done, room = self.steps
        told = (
            f"{self.workers:,}",
            f"{self.started_s:.1f}",
            f"{self.formed_s:.1f}",
            f"{self.messages:,.0f}",
            f"{mean_s:.3f}",
            f"{most_s:.2f}",
            f"{oldest_s:.2f}",
            f"{self.longest_s:.3f}",
            f"{self.cores:.2f}",
            f"{done} of {room}",
        )
        return f"| {' | '.join(told)} |"


def watch(workers: int, seconds: float) -> Seen:
    """Have a group of ``workers`` form and train for so long. Ray has to be connected."""
    hosts = [Host.remote() for _ in range(PROCESSES)]  # type: ignore[attr-defined]
    ray.get([host.steps.remote() for host in hosts])
    try:
        return _watch(workers, seconds, hosts)
    finally:
        ray.get([host.close.remote() for host in hosts])
        for host in hosts:
            ray.kill(host)


def _watch(workers: int, seconds: float, hosts: list[Any]) -> Seen:
    inbox, output = Inbox(), Told()
    placement: Any = Anywhere()
    fleet = Fleet(f"crowd-{workers}", 1, placement, inbox.put, lambda: SETUP)
    fleet._class = Crowd(hosts)
    rules = policy(count=workers, until=10**9, save_steps=10**9, hang_floor_s=FORM_WITHIN_S)
    run, actions = machine.begin(rules, ev.Found(0, 0), None, Budgets(50), 0, time.monotonic())
    loop = Watched(run, fleet, output, Observers([]), inbox, 1, START)
    loop.ages, loop.handled = [], []
    thread = threading.Thread(target=loop.play, args=(actions,), daemon=True)
    began_s = time.monotonic()
    thread.start()
    try:
        _until(lambda: len(fleet._calls.actors) == workers)
        started_s = time.monotonic() - began_s
        _until(lambda: loop.run.phase is Phase.TRAINING and loop.run.step > 0)
        formed_s = time.monotonic() - began_s
        loop.ages, loop.handled = [], []
        cpu_s, since_s, step = time.process_time(), time.monotonic(), loop.run.step
        time.sleep(seconds)
        spent_s, cpu_s = time.monotonic() - since_s, time.process_time() - cpu_s
        ages, handled, steps = list(loop.ages), list(loop.handled), loop.run.step - step
    finally:
        inbox.put(ev.Fenced({"message": "enough was seen"}))
        thread.join(60)
        fleet.close(kill=False)
    assert isinstance(loop._finish, act.Finish)
    return Seen(
        workers,
        started_s,
        formed_s,
        len(handled) / spent_s,
        (sum(ages) / len(ages), sorted(ages)[len(ages) * 99 // 100], max(ages)),
        max(handled),
        cpu_s / spent_s,
        (steps, int(spent_s / STEP_S)),
        tuple(output.kinds),
    )


def _until(holds: Any) -> None:
    deadline_s = time.monotonic() + FORM_WITHIN_S
    while not holds():
        assert time.monotonic() < deadline_s, "it takes too long"
        time.sleep(0.01)


def rows(seconds: float = 15.0) -> Iterator[str]:
    """The table of ``docs/scale.md``."""
    for workers in (100, 250, 500, 1000):
        yield watch(workers, seconds).line()


if __name__ == "__main__":
    ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=200 * 2**20)
    for row in rows():
        print(row, flush=True)
    ray.shutdown()
