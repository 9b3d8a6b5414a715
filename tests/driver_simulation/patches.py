"""What of the production code is put aside while a world is simulated?

Rule: Ray, the threads that do one thing side by side, the graph's planning, and clocks that no
scheduler is passed to. Everything else is the real code.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from orchestrator.driver import attempt as attempt_module
from orchestrator.driver import beginning, storage_thread
from orchestrator.driver.startup import Plan
from orchestrator.graph.loading import AS_SAVED
from orchestrator.graph.worker_tables import NO_TABLES, ShardedPart, ShardedTables
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
    namespace,
    nodes,
    placement,
    worker_loop,
)
from tests.driver_simulation.ray import ActorClass
from tests.driver_simulation.state import TABLE_ROWS, record_of
from tests.driver_simulation.store import SimFileSystem

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
    variables=(SimpleNamespace(name="global_step", key="global_step"),),
    tables=NO_TABLES,
)


def divided(copies: int) -> Any:
    """The same with a table of which each worker holds some rows."""
    part = ShardedPart("table", "table", ("table",), TABLE_ROWS, (), "", "", copies)
    return SimpleNamespace(**{**vars(GRAPH), "tables": ShardedTables((part,), copies=copies)})


def send_index(
    prefix: str, reports: Sequence[DataReport], directory: Location
) -> tuple[FileRecord, ...]:
    """As ``part_files.send_index``, without the threads of an upload."""
    name, data = f"{prefix}.index", index_bytes(reports)
    directory.child(name).write_bytes(data)
    return (record_of(name, data),)


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
        patch.setattr(actor, "time", clock)
        patch.setattr(worker_loop, "time", clock)
        patch.setattr(tenacity.nap, "time", clock)
        for module in (*CONCURRENT, run_record):
            patch.setattr(module, "ThreadPoolExecutor", Inline)
        patch.setattr(lease, "is_gone", lambda machine, pid, ticks: world.drivers.is_gone(ticks))
        patch.setattr(lease, "start_ticks", lambda pid: world.drivers.this_process().number)
        patch.setattr(attempt_module, "version", lambda name: "0")
        patch.setattr(
            beginning,
            "make_plan",
            lambda config, start: Plan(
                divided(world.copies) if world.divided else GRAPH, start.step, "global_step", ()
            ),
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
