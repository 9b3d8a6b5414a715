"""What of the production code is put aside while a world is simulated?

Rule: Ray, the threads that do one thing side by side, the graph's planning, and clocks that no
scheduler is passed to. Everything else is the real code.
"""

from __future__ import annotations

import functools
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import stamina.instrumentation
import tenacity.nap

from launch.runs import status
from orchestrator.decide import machine
from orchestrator.decide.events import Event
from orchestrator.decide.run import Run
from orchestrator.decide.save_parts import LEAST_PART_BYTES
from orchestrator.driver import attempt as attempt_module
from orchestrator.driver import beginning, storage_thread
from orchestrator.driver.startup import Plan
from orchestrator.graph.loading import AS_SAVED
from orchestrator.graph.worker_graph import Variable
from orchestrator.graph.worker_tables import NO_TABLES
from orchestrator.journal import folding
from orchestrator.journal.event import JournalEvent
from orchestrator.journal.parsing import parse
from orchestrator.store.bundle import deep_verify
from orchestrator.store.bundle.data_writer import DataReport
from orchestrator.store.bundle.index_writer import index_bytes
from orchestrator.store.checkpoints import reports, retention, run_checkpoints, sample
from orchestrator.store.objects.location import Location
from orchestrator.store.objects.manifest import FileRecord
from orchestrator.store.run import journal, journal_parts, lease, run_record
from orchestrator.workers import (
    actor,
    adopting,
    calls,
    fleet,
    member,
    namespace,
    nodes,
    placement,
    worker_loop,
)
from tests.driver_simulation.ray import ActorClass
from tests.driver_simulation.schedule import Schedule, Task
from tests.driver_simulation.state import record_of
from tests.driver_simulation.store import SimFileSystem
from tests.driver_simulation.trainer import tables

if TYPE_CHECKING:
    from tests.driver_simulation.world import World

CONCURRENT = (
    *(run_checkpoints, reports, retention, sample, deep_verify),
    *(journal, journal_parts, status),
)
GRAPH: Any = SimpleNamespace(
    group_refused="",
    loading=AS_SAVED,
    batches_per_slot=1,
    repairs=(),
    edits=(),
    step=SimpleNamespace(variable="global_step"),
    variables=(Variable("global_step", "ref", "int64", (), key="global_step"),),
    tables=NO_TABLES,
)
LARGE = tuple(
    Variable(name, "ref", "uint8", (LEAST_PART_BYTES,), key=name)
    for name in ("chain", "second", "third", "fourth")
)


def graph_of(world: World) -> Any:
    """The same as this world's run has it: with a table of which each worker holds some rows, or
    with so much that all hold alike that four ranks write it.
    """
    more: dict[str, Any] = {}
    if world.divided:
        more["tables"] = tables(world.copies)
    if world.large:
        more["variables"] = (*GRAPH.variables, *LARGE)
    return SimpleNamespace(**{**vars(GRAPH), **more})


def send_index(
    prefix: str, reports: Sequence[DataReport], directory: Location
) -> tuple[FileRecord, ...]:
    """As ``part_files.send_index``, without the threads of an upload."""
    name, data = f"{prefix}.index", index_bytes(reports)
    directory.child(name).write_bytes(data)
    return (record_of(name, data),)


class Held:
    """``threading.RLock`` of a driver: its tasks share one thread of the operating system, so that
    none could wait for what another one holds.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule, self._depth = schedule, 0
        self._holder: Task | None = None

    def __enter__(self) -> None:
        if self._depth and self._holder is not self._schedule.task:
            self._schedule.fail(AssertionError("a task waits for a lock that another one holds"))
        self._holder, self._depth = self._schedule.task, self._depth + 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1


class Inline:
    """``ThreadPoolExecutor`` in the thread that asks."""

    def __init__(self, *_: object, **__: object) -> None:
        """Any number of workers is one."""

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *_: object) -> None:
        """Everything has been done."""

    def map(self, work: Callable[..., Any], *items: Iterable[Any]) -> list[Any]:
        return [work(*each) for each in zip(*items, strict=False)]

    def submit(self, work: Callable[..., Any], *arguments: Any) -> SimpleNamespace:
        """Done when its result is asked for."""
        return SimpleNamespace(result=lambda: work(*arguments))


class Read:
    """What a line of a journal says. Each look of each driver, and of whoever asks for the status,
    reads the same lines of parts that never change.
    """

    def __init__(self) -> None:
        self.record = functools.cache(journal_parts._record)
        self._events: dict[int, tuple[Mapping[str, Any], JournalEvent]] = {}

    def event(self, record: Mapping[str, Any]) -> JournalEvent:
        """As ``journal.parsing.parse``. The record is kept, so that no other has its identity."""
        found = self._events.get(id(record))
        if found is None:
            found = self._events[id(record)] = (record, parse(record))
        return found[1]


def hearing(world: World, advance: Callable[..., Any]) -> Callable[..., Any]:
    """Notes what is heard."""

    def heard(run: Run, event: Event, now_s: float) -> Any:
        world.heard.add(type(event))
        return advance(run, event, now_s)

    return heard


@contextmanager
def simulated(world: World) -> Iterator[None]:
    """Everything that the production code takes from elsewhere comes from this world."""
    schedule, ray = world.schedule, world.ray
    clock = SimpleNamespace(
        monotonic=lambda: schedule.now_s, perf_counter=lambda: schedule.now_s, sleep=schedule.sleep
    )
    kept = random.getstate()
    hooks = stamina.instrumentation.get_on_retry_hooks()
    level = logging.getLogger("tfresume").level
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SimFileSystem, "bucket", world.bucket, raising=False)
        for module in (fleet, calls, adopting, namespace, placement):
            patch.setattr(module, "ray", ray)
        patch.setattr(fleet, "actor_class", lambda: ActorClass(ray))
        for name in ("placement_group", "placement_group_table", "remove_placement_group"):
            patch.setattr(placement, name, getattr(ray, name))
        patch.setattr(placement, "_handle", lambda ident: ray.cluster.groups[ident])
        patch.setattr(
            placement,
            "PlacementGroupSchedulingStrategy",
            lambda group, placement_group_bundle_index: SimpleNamespace(placement_group=group),
        )
        patch.setattr(nodes, "draining_nodes", world.cluster.draining)
        patch.setattr(nodes, "room", lambda workers: world.cluster.room())
        patch.setattr(machine, "advance", hearing(world, machine.advance))
        for module in (journal, placement):
            patch.setattr(module, "threading", SimpleNamespace(RLock=lambda: Held(schedule)))
        read = Read()
        patch.setattr(journal_parts, "_record", read.record)
        patch.setattr(folding, "parse", read.event)
        patch.setattr(actor, "time", clock)
        for module in (member, worker_loop):
            patch.setattr(module, "time", clock)
        patch.setattr(tenacity.nap, "time", clock)
        for module in (*CONCURRENT, run_record):
            patch.setattr(module, "ThreadPoolExecutor", Inline)
        patch.setattr(lease, "is_gone", lambda machine, pid, ticks: world.drivers.is_gone(ticks))
        patch.setattr(lease, "start_ticks", lambda pid: world.drivers.this_process().number)
        patch.setattr(attempt_module, "version", lambda name: "0")
        patch.setattr(
            beginning,
            "make_plan",
            lambda config, start: Plan(graph_of(world), start.step, "global_step", ()),
        )
        patch.setattr(storage_thread, "send_index", send_index)
        random.seed(world.seed)
        stamina.instrumentation.set_on_retry_hooks([])
        logging.getLogger("tfresume").setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            random.setstate(kept)
            stamina.instrumentation.set_on_retry_hooks(hooks)
            logging.getLogger("tfresume").setLevel(level)
