"""What does a driver with 1,000 workers do in a second, and what does it keep?

Its real loop and rules, over workers that are a few lines each and answer at once: so the figures are
the driver's own. Times are processor time of this process, which other processes don't lengthen.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Iterator, Mapping
from pathlib import Path

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide import machine
from orchestrator.decide.budgets import Budgets
from orchestrator.decide.signs_of_life import pulse_s
from orchestrator.driver.inbox import Inbox
from orchestrator.driver.loop import Loop
from orchestrator.driver.observer import Observers
from orchestrator.journal.event import JournalEvent
from orchestrator.workers.orders import CheckpointFiles
from orchestrator.workers.scheduling import Threads
from tests.benchmarks.figures import Figure
from tests.simulation.world import policy

START = CheckpointFiles(0, 0, "start", ())
BAR_AGE_S = 0.2
"""As old as a message may be when it's judged."""
STEP_S = 1.0


class Workers:
    """They're warm, join and run at once, and tell how far they are when they're asked."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox, self.generation, self.granted, self.step = inbox, 0, 0, 0
        self.seats: tuple[act.Seat, ...] = ()
        self.started = 0

    def start(self, action: act.StartWorker) -> None:
        self.started += 1
        node = f"node-{self.started // 8}"
        self.inbox.put(ev.Warm(action.worker, node, self.started, f"10.0.0.1:{self.started}"))

    def form(self, action: act.Form, checkpoint: CheckpointFiles | None) -> None:
        self.generation, self.seats, self.step = action.generation, action.seats, action.step
        for seat in action.seats:
            self.inbox.put(ev.Joined(seat.worker, action.generation, action.step))

    def grant(self, action: act.Grant, directory: str) -> None:
        self.granted = action.end

    def quiesce(self, action: act.Quiesce) -> None:
        for worker in action.workers:
            held = ev.Held(worker, self.generation, self.step, self.step * len(self.seats), "a:1")
            self.inbox.put(held)

    def end(self, action: act.EndWorker) -> None:
        self.inbox.put(ev.Gone(action.worker, ev.Cause(action.cause), action.detail))

    def pulses(self) -> Iterator[ev.Progress]:
        """All members have taken a step more, as far as it's granted, and each says so."""
        self.step = min(self.granted, self.step + 1)
        spent = {"input": 0.1, "compute": 0.5, "exchange": 0.3, "apply": 0.1}
        for seat in self.seats:
            yield ev.Progress(
                seat.worker,
                self.generation,
                self.step,
                ev.Doing.STEP,
                1 / STEP_S,
                position=self.step * len(self.seats),
                processor_s=float(self.step),
                steps_taken=self.step,
                spent=spent,
            )

    def await_end(self, action: act.AwaitEnd) -> None:
        """Its end is told by whoever measures."""

    def break_step(self, action: act.BreakStep) -> None:
        """Nothing hangs."""


class Output:
    """Keeps nothing but counts."""

    def __init__(self) -> None:
        self.events = 0
        self.bytes = 0

    def note(self, event: JournalEvent) -> None:
        self.events += 1
        self.bytes += len(str(event.record()))

    def take_over(self, generation: int, step: int) -> None:
        """Nothing is recorded."""

    def commit(self, written: ev.SaveWritten, world_size: int) -> None:
        """Nothing is saved."""

    def find(self, reason: str, exclude: Mapping[str, str]) -> None:
        """Nothing is looked for."""


class Still(Threads):
    """A clock that goes on when the benchmark says so."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def monotonic(self) -> float:
        return self._driver.now_s


class Driver:
    """The real loop, its messages handled as fast as they come."""

    def __init__(self, workers: int, save_steps: int = 10**9) -> None:
        self.inbox, self.output = Inbox(), Output()
        self.workers = Workers(self.inbox)
        self.now_s = 0.0
        self.longest_s = 0.0
        rules = policy(count=workers, until=10**9, save_steps=save_steps)
        run, self.actions = machine.begin(rules, ev.Found(0, 0), None, Budgets(50), 0, 0.0)
        self.loop = Loop(
            run,
            self.workers,
            self.output,
            Observers([]),
            self.inbox,
            1,
            START,
            scheduler=Still(self),
        )

    def handle_all(self) -> int:
        """Messages that were handled; the longest is kept."""
        count = 0
        while (message := self.inbox.get(0.0)) is not None:
            began_s = time.process_time()
            self.loop._handle(message)
            self.longest_s = max(self.longest_s, time.process_time() - began_s)
            count += 1
        return count

    def form(self) -> float:
        """Processor seconds from the first order to a group that trains."""
        began_s = time.process_time()
        self.loop._perform(self.actions)
        self.handle_all()
        assert len(self.loop.run.seats) == self.workers.started
        return time.process_time() - began_s

    def train(self, rounds: int) -> float:
        """Processor seconds for one sign of life."""
        count, spent_s = 0, 0.0
        for _ in range(rounds):
            self.now_s += STEP_S
            for pulse in self.workers.pulses():
                self.inbox.put(pulse)
            began_s = time.process_time()
            count += self.handle_all()
            self.loop._handle(ev.Tick())
            spent_s += time.process_time() - began_s
        return spent_s / count


def figures(folder: Path) -> Iterator[Figure]:
    """From 10 to 1,000 workers, so that what grows faster than they do is seen, and how many it would
    take to miss a bar.
    """
    each: dict[int, float] = {}
    for workers in (10, 100, 1000):
        driver = Driver(workers)
        forming_s, longest_s = driver.form(), driver.longest_s
        driver.longest_s = 0.0
        each_s = each[workers] = driver.train(10)
        stall_s = max(longest_s, driver.longest_s)
        told = f"{1 / each_s:,.0f} messages in a second of processor"
        yield Figure(f"a group of {workers} forms, s", forming_s, 5.0, True, "processor time")
        yield Figure(f"longest message of {workers}, s", stall_s, 0.25, True, "processor time")
        # No more than one sign of life of each worker waits: the oldest waited for all the others
        yield Figure(f"oldest message of {workers}, s", workers * each_s, BAR_AGE_S, True, told)
        busy = workers / pulse_s(workers) * each_s
        yield Figure(f"processors that {workers} keep busy", busy, 1.0, True, told)
    yield Figure("a message of 1,000 over one of 100", each[1000] / each[100], 3.0, True, "ratio")
    for workers, bar in ((10, 64.0), (100, 64.0), (1000, 64.0)):
        yield Figure(
            f"what {workers} workers take, MiB", _memory_mib(workers), bar, True, "traced memory"
        )
    yield Figure(
        "workers whose messages are judged in time", BAR_AGE_S / each[1000], 1000, False, ""
    )


def _memory_mib(workers: int) -> float:
    gc.collect()
    tracemalloc.start()
    driver = Driver(workers)
    driver.form()
    driver.train(3)
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / 2**20
