"""One worker's process: the real member, mailbox, joining and working loop, without threads.

What takes time there (loading, joining, a step, copying, writing) is an event of simulated time
here; everything else is the worker's own code.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.decide import events as ev
from orchestrator.decide.actions import StateFrom
from orchestrator.decide.outliers import Size
from orchestrator.errors import (
    CorruptCheckpoint,
    LeaseLost,
    OrchestratorError,
    OutputError,
    PeerLost,
    SourceError,
    WorkerLost,
)
from orchestrator.store.objects.layout import checkpoint_name
from orchestrator.store.objects.manifest import FileRecord
from orchestrator.workers.actor import POLL_S, WorkerActor
from orchestrator.workers.event_buffer import EventBuffer
from orchestrator.workers.member import PULSE_S, Member
from orchestrator.workers.orders import CheckpointFiles, GrantOrder, JoinOrder, Setup
from orchestrator.workers.runtime_protocol import WrittenFiles, WrittenPart
from orchestrator.workers.saver import Measure, SaveJob, Saver
from tests.driver_simulation.exchange import SimExchange
from tests.driver_simulation.ray import Actor, Reply
from tests.driver_simulation.state import (
    BATCHES,
    SimState,
    chain_in,
    files_of_state,
    graph_of_state,
    part_of_state,
    record_of,
)

if TYPE_CHECKING:
    from tests.driver_simulation.world import World

LOAD_S, JOIN_S, COPY_S, WRITE_S = 1.0, 0.1, 0.05, 0.5


class Idle(Exception):
    """The working loop has nothing to do."""


class Condition:
    """The mailbox's, of a worker that has no thread: who would wait is idle."""

    def __enter__(self) -> None:
        """Nobody else runs."""

    def __exit__(self, *_: object) -> None:
        """As above."""

    def notify_all(self) -> None:
        """Who waits looks after each call."""

    def wait(self, timeout: float | None = None) -> bool:
        raise Idle


class Buffer(EventBuffer):
    """Answers polls that wait, instead of waiting."""

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__()
        self._changed = changed

    def put(self, event: ev.Event) -> None:
        super().put(event)
        self._changed()

    def pulse(self, pulse: ev.Progress) -> None:
        super().pulse(pulse)
        self._changed()


class SimSaver(Saver):
    """Writes behind the training, in simulated time."""

    def __init__(self, worker: SimWorker) -> None:
        super().__init__(worker.ident, worker, worker.buffer)
        self._worker = worker

    def _put(self, job: SaveJob | Measure) -> None:
        if isinstance(job, Measure):
            self._measured = self._sizes_of(job.state)
        else:
            self._worker.later(WRITE_S, lambda: self._do(job))

    def _do(self, job: SaveJob) -> None:
        try:
            self._save(job)
        except OrchestratorError as error:
            self._refuse(job.grant, job.state.step, job.position, str(error))
        finally:
            self._busy.release()

    def close(self) -> None:
        """There's no thread to wait for."""


class Output:
    """``training.state.state.StepOutput``."""

    def __init__(self, state: SimState) -> None:
        self.step = state.step
        self.watched = {"loss:0": 1.0 / (1 + state.step)}
        self.summaries: Mapping[str, float] = {}


class SimTrainer:
    """``runtime_protocol.TrainerLike``."""

    size_bytes, runs, computing = 16, 0, False

    def __init__(self, worker: SimWorker) -> None:
        self.worker = worker
        self.address = f"{worker.ident}:1"
        self.current: SimState | None = None
        self.lacked: SimState | None = None
        self.exchange: SimExchange | None = None
        self.position = 0
        self.has_result = False
        self.stepped = False
        self.turns: tuple[int, ...] = (0,)
        self.spent: dict[str, float] = {}

    @property
    def agrees(self) -> bool:
        return self.worker.world.divided

    @property
    def share(self) -> tuple[int, int]:
        return (0, 1) if self.current is None else self.current.share

    @property
    def can_give(self) -> bool:
        return self.stepped

    @property
    def can_take(self) -> bool:
        return self.lacked is not None

    @property
    def dead_peers(self) -> tuple[int, ...]:
        members = {} if self.exchange is None else self.exchange.members
        return tuple(rank for rank, peer in sorted(members.items()) if not peer.alive)

    def get_ready(self) -> bool:
        return True

    def join(self, order: JoinOrder) -> None:
        self.exchange = self.worker.world.exchange(order)
        self.exchange.members[order.rank] = self.worker
        self.position = order.position

    def assign(self, state: SimState) -> None:
        self.current, self.lacked, self.stepped = state, None, False

    def state(self) -> SimState:
        assert self.current is not None
        return self.current

    def state_for_save(self) -> SimState:
        return self.state()

    def meet(self) -> bool:
        if self.exchange is None or self.exchange.broken:
            raise PeerLost("a peer is gone")
        if self.lacked is None:
            return False
        order = self.worker.work._order
        if order.state_from is not StateFrom.RESULT:
            # Who has gone further than a member whose own state counts is given that state with
            # its order, and keeps no result of another one
            return False
        peers = self.worker.world.processes()
        members = [peer for peer in peers if peer.trainer.address in order.addresses]
        if all(peer.trainer.current != self.lacked for peer in members):
            return False
        self.current, self.lacked = self.lacked, None
        return True

    def step(self, batches: Sequence[Mapping[str, Any]]) -> Output:
        assert self.current is not None
        after = self.current.after_step()
        if not self.has_result:
            self.lacked = after if self.worker.computed else None
            raise PeerLost("a peer is gone")
        self.current, self.lacked, self.stepped = after, None, True
        self.position = after.position
        self.worker.world.stepped(self.worker, after)
        return Output(after)

    def abandon(self) -> None:
        if self.exchange is not None:
            self.exchange.abandon()

    def close(self) -> None:
        """Nothing is open."""


class SimBatches:
    """``runtime_protocol.Batches``."""

    def take(self, count: int) -> Sequence[Mapping[str, Any]]:
        return [{}] * count

    def applied(self) -> None:
        """They aren't kept."""

    def close(self) -> None:
        """Nothing is open."""


class SimWorker:
    """An actor's process, and its tools."""

    def __init__(self, world: World, actor: Actor, ident: str, attempt: int, setup: Setup) -> None:
        self.world, self.actor, self.ident = world, actor, ident
        self.alive, self.stopped, self.busy, self.computed = True, False, True, False
        self.setup_, self._ident = setup, ident
        self._attempt, self._contact_s = attempt, world.schedule.now_s
        self._orphan_timeout_s = setup.orphan_timeout_s
        self._polls: list[tuple[int, Reply]] = []
        self._wanted: list[tuple[int, Reply]] = []
        self.moved = 0
        self.buffer = Buffer(self._answer_polls)
        node = f"10.0.0.{actor.group.node[0]}/{actor.group.node}"
        self.member = Member(ident, (node, 1), self, self.buffer, (), actor.group.ident)
        self.mailbox, self.work = self.member._mailbox, self.member._work
        self.mailbox.condition = Condition()  # type: ignore[assignment]
        saver = SimSaver(self)
        self.work._saver = self.work._joining._saver = saver
        self.work._ready = True
        self.trainer = SimTrainer(self)
        self.later(LOAD_S, self._loaded)
        self._pulse()
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

    def _pulse(self) -> None:
        if self.alive and not self.stopped:
            self.member.pulse()
            self.world.schedule.at(PULSE_S, self._pulse)

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
        getattr(self, f"on_{method}")(reply, *others)
        self.look()

    def on_poll(self, reply: Reply, after: int) -> None:
        self._polls.append((after, reply))
        self._answer_polls()
        self.world.schedule.at(POLL_S, lambda: self._poll_over(after, reply))

    def _poll_over(self, after: int, reply: Reply) -> None:
        if (after, reply) in self._polls and self.alive and not self.stopped:
            self._polls.remove((after, reply))
            reply((after, []), None)

    def _answer_polls(self) -> None:
        while self._polls:
            after, found = self.buffer.poll(self._polls[0][0], 0.0)
            if not found:
                return
            self._polls.pop(0)[1]((after, found), None)

    def on_adopt(self, reply: Reply) -> None:
        self.member.forget_saves(self._attempt)
        reply(self.member.report(), None)

    def on_setup(self, reply: Reply) -> None:
        reply(self.setup_, None)

    def on_join(self, reply: Reply, order: JoinOrder, donated: Any) -> None:
        self.member.join(order, donated)
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
        data = {}
        for file in checkpoint.files:
            name = str(file.location.path)
            content = self.world.bucket.objects.get(name)
            if content is None:
                raise SourceError(f"{name} doesn't exist", details={"missing": True})
            record = record_of(file.name, content[0])
            if file.crc32c is not None and record.crc32c != file.crc32c:
                raise CorruptCheckpoint(f"{name} fails its checksum")
            data[name] = content[0]
        self.moved += 1
        chain = next(chain_in(content) for name, content in data.items() if ".data-" in name)
        position = BATCHES * checkpoint.step
        state = SimState(checkpoint.step, position, chain, share if self.world.divided else (0, 1))
        self.world.restored(self, checkpoint, state)
        return state

    def import_input(self) -> None:
        """There's none."""

    def batches(self, order: JoinOrder) -> SimBatches:
        return SimBatches()

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

    def own_part(self, state: SimState, *, rest: bool) -> SimState:
        return state

    def write_part(
        self, own: SimState, directory: str, again: int | None, *, parts: int, rest: bool
    ) -> WrittenPart:
        prefix = checkpoint_name("m", own.step, again)
        rank, world_size = own.share
        assert world_size == parts
        bundle = part_of_state(prefix, own, rest)
        content = bundle.data()
        files = [(content.name, content.read(0, content.size_bytes))]
        files += [(f"{prefix}.meta", graph_of_state())] if rest else []
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
