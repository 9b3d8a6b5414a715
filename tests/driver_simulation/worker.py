"""One worker's process: the real member, mailbox, joining and working loop, without threads.

What takes time there (loading, joining, a step, copying, writing) is an event of simulated time
here; everything else is the worker's own code.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestrator.decide import events as ev
from orchestrator.decide.outliers import Size
from orchestrator.decide.spans import RowSpan
from orchestrator.errors import (
    CorruptCheckpoint,
    LeaseLost,
    OutputError,
    SourceError,
    StorageUnavailable,
    WorkerLost,
)
from orchestrator.store.objects.layout import CHANGED_SUFFIX, checkpoint_name
from orchestrator.store.objects.manifest import FileRecord
from orchestrator.workers.actor import WorkerActor
from orchestrator.workers.member import Member
from orchestrator.workers.orders import CheckpointFiles, Given, GrantOrder, JoinOrder, Setup
from orchestrator.workers.runtime_protocol import WrittenFiles, WrittenPart
from tests.driver_simulation.actors import Actor, Reply
from tests.driver_simulation.state import (
    BATCHES,
    SimState,
    files_of_state,
    graph_of_state,
    held_by,
    part_of_state,
    record_of,
    rows_held,
    table_at,
)
from tests.driver_simulation.trainer import SimBatches, SimTrainer
from tests.driver_simulation.without_threads import Buffer, Condition, Idle, SimSaver

if TYPE_CHECKING:
    from tests.driver_simulation.world import World

LOAD_S, JOIN_S, COPY_S = 1.0, 0.1, 0.05


class SimWorker:
    """An actor's process, and its tools."""

    def __init__(self, world: World, actor: Actor, ident: str, attempt: int, setup: Setup) -> None:
        self.world, self.actor, self.ident = world, actor, ident
        self.alive, self.stopped, self.busy, self.computed = True, False, True, False
        self.setup_, self._ident = setup, ident
        self._attempt, self._contact_s = attempt, world.schedule.now_s
        self._orphan_timeout_s = setup.orphan_timeout_s
        self._polls: list[tuple[int, float, Reply]] = []
        self._wanted: list[tuple[int, Reply]] = []
        self.moved = 0
        self.input: SimBatches | None = None
        self.buffer = Buffer(self._answer_polls)
        node = world.cluster.nodes[actor.group.node].name
        self.member = Member(ident, (node, 1), self, self.buffer, (), actor.group.ident)
        self.mailbox, self.work = self.member._mailbox, self.member._work
        self.mailbox.condition = Condition()  # type: ignore[assignment]
        saver = SimSaver(self)
        self.work._saver = self.work._joining._saver = saver
        self.work._ready = True
        self.trainer = SimTrainer(self)
        self.later(LOAD_S, self._loaded)
        self._watch_for_orphanage()

    # -- time

    def later(self, delay_s: float, what: Callable[[], None]) -> None:
        """Have something done, unless this process is dead or stopped by then."""
        delay_s *= 0.5 + self.world.schedule.random.random()
        self.world.schedule.at(delay_s, lambda: self._if_alive(what))

    def _if_alive(self, what: Callable[[], None]) -> None:
        if self.alive and not self.stopped:
            what()
            self.look()

    def _watch_for_orphanage(self) -> None:
        """As ``actor.WorkerActor._watch_for_orphanage`` does."""
        if not self.alive:
            return
        if self.world.schedule.now_s - self._contact_s < self._orphan_timeout_s:
            self.world.schedule.at(1.0, self._watch_for_orphanage)
        elif not self.stopped:
            self.world.orphaned(self)

    def _loaded(self) -> None:
        address = self.work.load()
        self.busy = False
        self.buffer.put(
            ev.Warm(self.ident, self.member.node, 1, address, (), self.actor.group.ident)
        )

    def died(self) -> None:
        """The process has ended: its peers' steps fail."""
        exchange = self.trainer.exchange
        if exchange is not None and not exchange.broken:
            self.world.schedule.at(0.005, exchange.abandon)

    # -- calls

    def receive(self, method: str, arguments: tuple[Any, ...], reply: Reply) -> None:
        """Ray delivers a call."""
        if self.stopped:
            return
        attempt, *others = arguments
        try:
            WorkerActor._obey(self, attempt)  # type: ignore[arg-type]
        except LeaseLost as error:
            reply(None, task_error(error))
            return
        self.world.obeyed(self, attempt, method)
        if method == "grant":
            self.world.truth.workers.granted(self, attempt, *others)
        getattr(self, f"on_{method}")(reply, *others)
        self.look()

    def on_poll(self, reply: Reply, after: int, pulse_s: float) -> None:
        self._polls.append((after, pulse_s, reply))
        self._answer_polls()
        self.world.schedule.at(pulse_s, lambda: self._poll_over(after, pulse_s, reply))

    def _poll_over(self, after: int, pulse_s: float, reply: Reply) -> None:
        if (after, pulse_s, reply) in self._polls and self.alive and not self.stopped:
            self._polls.remove((after, pulse_s, reply))
            reply(self.member.news(after, 0.0), None)

    def _answer_polls(self) -> None:
        while self._polls:
            after, pulse_s, reply = self._polls[0]
            polled = self.buffer.poll(after, 0.0)
            if not polled[1]:
                return
            del self._polls[0]
            reply(self.member.with_life(after, polled, pulse_s), None)

    def on_adopt(self, reply: Reply) -> None:
        self.member.forget_saves(self._attempt)
        reply(self.member.report(), None)

    def on_setup(self, reply: Reply) -> None:
        reply(self.setup_, None)

    def on_join(self, reply: Reply, order: JoinOrder, donated: Any, *rows: Any) -> None:
        self.member.join(order, Given(donated, rows))
        reply(None, None)

    def on_grant(self, reply: Reply, order: GrantOrder) -> None:
        self.member.grant(order)
        reply(None, None)

    def on_quiesce(self, reply: Reply, generation: int, urgent: bool) -> None:
        self.member.quiesce(generation, urgent=urgent)
        reply(None, None)

    def on_break_step(self, reply: Reply, generation: int) -> None:
        self.member.break_step(generation)
        reply(None, None)

    def on_held_state(self, reply: Reply) -> None:
        held = self.member.held_state()
        reply((held, held is not None), None)

    def on_held_rows(self, reply: Reply, wanted: tuple[tuple[RowSpan, ...], ...]) -> None:
        try:
            reply((*self.member.held_rows(wanted), True), None)
        except WorkerLost as error:
            reply(None, task_error(error))

    def on_loaded_state(self, reply: Reply, generation: int) -> None:
        self._wanted.append((generation, reply))

    def _answer_wanted(self) -> None:
        for generation, reply in list(self._wanted):
            loaded, past = self.mailbox.loaded == generation, self.mailbox.is_past(generation)
            if not (loaded or past):
                continue
            self._wanted.remove((generation, reply))
            if loaded:
                reply(self.member.held_state(), None)
            else:
                reply(None, task_error(WorkerLost("it has no state for this generation")))

    # -- the working loop

    def look(self) -> None:
        """What ``Work.until_closed`` does next, if it's at leisure."""
        self._answer_wanted()
        if self.busy or not self.alive or self.stopped:
            return
        try:
            work = self.work._next()
        except Idle:
            return
        assert work is not None
        self.busy = True
        if work == self.work._one_step:
            assert self.trainer.exchange is not None
            assert self.input is not None
            if self.input.is_over():
                # Its peers wait in the exchange until it gives the step up
                self._do(work)
                self.world.schedule.at(0.0, self.look)
                return
            self.mailbox.doing = ev.Doing.STEP
            self.trainer.exchange.step(self.work._order.rank, self._end_step)
        else:
            copies = isinstance(work, functools.partial)
            self.later(COPY_S if copies else JOIN_S, lambda: self._do(work))

    def _do(self, work: Callable[[], None]) -> None:
        self.busy = False
        work()

    def _end_step(self, has_result: bool) -> None:
        exchange = self.trainer.exchange
        assert exchange is not None
        self.busy, self.trainer.has_result = False, has_result
        self.computed = exchange.broken and self.world.schedule.random.random() < 0.5
        if self.alive and not self.stopped:
            self.work._one_step()
            self.world.schedule.at(0.0, self.look)

    # -- runtime_protocol.Tools

    def load(self) -> SimTrainer:
        return self.trainer

    def group(self, order: JoinOrder) -> JoinOrder:
        return order

    def checkpoint_state(self, checkpoint: CheckpointFiles, share: tuple[int, int]) -> SimState:
        """Read it as ``stage`` would, which compares checksums."""
        saves: list[dict[str, bytes]] = []
        for file in checkpoint.files:
            name = str(file.location.path)
            content = self.world.bucket.objects.get(name)
            if content is None:
                raise SourceError(f"{name} doesn't exist", details={"missing": True})
            record = record_of(file.name, content[0])
            if file.crc32c is not None and record.crc32c != file.crc32c:
                raise CorruptCheckpoint(f"{name} fails its checksum")
            if name.endswith(".index"):
                saves.append({})
            saves[-1][name] = content[0]
        self.moved += 1
        _, chain, table = held_by(saves)
        position = BATCHES * checkpoint.step
        state = SimState(checkpoint.step, position, chain)
        if self.world.divided:
            read = table_at(checkpoint.step) if table is None else table.tolist()
            rows = {row: read[row] for row in rows_held(share, self.world.copies)}
            state = replace(state, share=share, rows=rows)
        self.world.restored(self, checkpoint, state)
        return state

    def import_input(self) -> None:
        """There's none."""

    def batches(self, order: JoinOrder) -> SimBatches:
        faults = self.world.faults
        self.input = SimBatches(order, self.mailbox, faults.data_ends_at, faults.input_raises_at)
        return self.input

    def moved_bytes(self) -> int:
        return self.moved

    def processor_s(self) -> float:
        return 0.0

    def digests(self, state: SimState) -> Mapping[str, int]:
        return {"chain": state.chain}

    def nonfinite(self, state: SimState) -> tuple[str, ...]:
        return ()

    def sizes(self, state: SimState) -> Mapping[str, Size]:
        return {"chain": Size(1.0, 1.0, elements=1)}

    def write(self, state: SimState, directory: str, again: int | None) -> WrittenFiles:
        prefix = checkpoint_name("m", state.step, again)
        if f"{self.world.path}/{directory}/{prefix}.manifest.json" in self.world.bucket.objects:
            raise OutputError(f"{prefix} is committed already and is never overwritten")
        return WrittenFiles(directory, prefix, self._put(directory, files_of_state(prefix, state)))

    def own_part(self, state: SimState, rank: int, ranks: int) -> SimState:
        return state

    def write_part(
        self, own: SimState, directory: str, again: int | None, part: tuple[int, int]
    ) -> WrittenPart:
        refused = self.world.faults.part_refused
        if refused and self.world.schedule.random.random() < refused:
            self.world.fired.add("part_refused")
            raise StorageUnavailable(f"{self.ident} can't write its rows")
        prefix = checkpoint_name("m", own.step, again)
        prefix += CHANGED_SUFFIX if own.changed is not None else ""
        divided, rank = self.world.divided, part[0]
        if divided and own.share != part:  # as ``runtime.RealTools`` does
            raise OutputError(f"a rank holds rows of {own.share}, and is to write those of {part}")
        if not divided:
            self.world.fired.add("written by several")
        bundle = part_of_state(prefix, own, part, divided=divided)
        content = bundle.data()
        files = [(content.name, content.read(0, content.size_bytes))]
        if rank == 0 and own.changed is None:
            files.append((f"{prefix}.meta", graph_of_state(divided)))
        return WrittenPart(directory, prefix, self._put(directory, files), rank, bundle.report())

    def _put(self, directory: str, files: Iterable[tuple[str, bytes]]) -> tuple[FileRecord, ...]:
        records = []
        for name, data in files:
            self.world.bucket.write(f"{self.world.path}/{directory}/{name}", data)
            records.append(record_of(name, data))
        self.moved += 1
        return tuple(records)


def task_error(error: Exception) -> Exception:
    """As Ray brings a worker's exception to its caller."""
    from ray.exceptions import RayTaskError

    made: Exception = RayTaskError("method", "traceback", error)
    return made
