"""Workers in threads of this process, with a model of eight numbers instead of TensorFlow: quick
enough for hundreds of runs.

The group's step is atomic as the real one is: nobody applies it unless everybody has put in its
part.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide.outliers import Size
from orchestrator.errors import EndOfData, PeerLost
from orchestrator.journal.event import JournalEvent
from orchestrator.store.objects.layout import checkpoint_name
from orchestrator.workers.event_buffer import EventBuffer
from orchestrator.workers.member import Member
from orchestrator.workers.orders import CheckpointFiles, Given, GrantOrder, JoinOrder
from orchestrator.workers.runtime_protocol import WrittenFiles, WrittenPart

MEETING = -1
"""In the place of a step."""


@dataclass(frozen=True)
class FakeState:
    step: int
    values: np.ndarray
    share: tuple[int, int] = (0, 1)
    live: Any = None

    @property
    def size_bytes(self) -> int:
        return self.values.nbytes


@dataclass(frozen=True)
class FakeOutput:
    step: int
    watched: Mapping[str, float]
    summaries: Mapping[str, float]


class Exchange:
    """The mean over the members of each generation, or PeerLost for all of them."""

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.parts: dict[tuple[int, int], dict[int, np.ndarray]] = {}
        self.broken: set[int] = set()

    def meet(self, generation: int, rank: int, world_size: int) -> None:
        """Wait for all members, as each of them does before its first step."""
        self.mean(generation, MEETING, rank, world_size, np.zeros(8))

    def mean(
        self, generation: int, step: int, rank: int, world_size: int, part: np.ndarray
    ) -> np.ndarray:
        with self.condition:
            parts = self.parts.setdefault((generation, step), {})
            parts[rank] = part
            self.condition.notify_all()
            while len(parts) < world_size:
                if generation in self.broken:
                    raise PeerLost("a peer is gone")
                self.condition.wait(0.5)
            return np.sum([parts[number] for number in range(world_size)], axis=0) / world_size

    def break_off(self, generation: int) -> None:
        with self.condition:
            self.broken.add(generation)
            self.condition.notify_all()


class FakeRows:
    """``RowsLike`` of a trainer without divided tables."""

    def __init__(self, trainer: FakeTrainer) -> None:
        self.trainer = trainer

    def rest(self) -> FakeState:
        return self.trainer.state()

    def give(self, wanted: Sequence[Any]) -> tuple[Any, ...]:
        raise AssertionError("no table is divided here")

    def compare(self, given: Sequence[Any]) -> None:
        raise AssertionError("no table is divided here")

    def take(self, share: tuple[int, int], given: Sequence[Any]) -> tuple[int, int]:
        raise AssertionError("no table is divided here")


class FakeTrainer:
    def __init__(self, tools: FakeTools) -> None:
        self.tools = tools
        self.group: JoinOrder | None = None
        self.current: FakeState | None = None
        self.for_saves = np.empty(8)
        self.address = "host:1"
        self.position = 0
        self.size_bytes = 64
        self.runs = 0
        self.can_give = False
        self.dead_peers: tuple[int, ...] = ()
        self.computing = False
        self.share, self.agrees = (0, 1), False
        self.rows = FakeRows(self)
        self.spent = {"compute": 0.0, "exchange": 0.0, "apply": 0.0}

    @property
    def can_take(self) -> bool:
        return self.tools.lacked is not None

    def get_ready(self) -> bool:
        self.tools.readied += 1
        return True

    @property
    def turns(self) -> tuple[int, ...]:
        assert self.group is not None
        return (self.position + self.group.rank,)

    def join(self, group: JoinOrder) -> None:
        self.group, self.position = group, group.position

    def assign(self, state: FakeState) -> None:
        self.current = state

    def state(self) -> FakeState:
        assert self.current is not None
        return FakeState(self.current.step, self.current.values.copy())

    def state_for_save(
        self, save: tuple[int, int] = (0, 0), over: tuple[int, int] | None = None
    ) -> FakeState:
        assert self.current is not None
        # as the real one does: into memory that is used again
        np.copyto(self.for_saves, self.current.values)
        assert self.group is not None
        share = self.group.rank, self.group.world_size
        return FakeState(self.current.step, self.for_saves, share)

    def meet(self) -> bool:
        assert self.group is not None
        self.tools.exchange.meet(self.group.generation, self.group.rank, self.group.world_size)
        took = self.tools.lacked is not None
        if took:
            self.current, self.tools.lacked = self.tools.lacked, None
        return took

    def step(self, batches: Sequence[Mapping[str, np.ndarray]]) -> FakeOutput:
        (feeds,) = batches
        assert self.group is not None
        assert self.current is not None
        self.tools.before_step(self.current.step)
        order, state = self.group, self.current
        mean = self.tools.exchange.mean(
            order.generation, state.step, order.rank, order.world_size, feeds["x:0"]
        )
        self.current = FakeState(self.tools.counted(state.step), state.values * 0.9 + mean)
        self.position += order.world_size
        return FakeOutput(self.current.step, {"loss:0": float(self.current.values[0])}, {})

    def abandon(self) -> None:
        if self.group is not None:
            self.tools.exchange.break_off(self.group.generation)

    def close(self) -> None:
        self.current = None


class FakeBatches:
    def __init__(
        self, order: JoinOrder, ends_at: int | None, served: list[tuple[int, int]]
    ) -> None:
        self.number, self.order, self.ends_at, self.served = (
            order.position + order.rank,
            order,
            ends_at,
            served,
        )

    def take(self, count: int) -> list[Mapping[str, np.ndarray]]:
        assert count == 1
        if self.ends_at is not None and self.number >= self.ends_at:
            raise EndOfData("no further batch")
        return [{"x:0": np.random.default_rng(self.number).normal(size=8)}]

    def applied(self) -> None:
        self.served.append((self.number, self.order.generation))
        self.number += self.order.world_size

    def close(self) -> None:
        """Nothing is open."""


class FakeTools:
    """``workers.runtime_protocol.Tools`` in memory. ``store`` maps a prefix to the state that was
    written.
    """

    def __init__(
        self, exchange: Exchange, store: dict[str, FakeState], ends_at: int | None = None
    ) -> None:
        self.exchange, self.store, self.ends_at = exchange, store, ends_at
        self.served: list[tuple[int, int]] = []
        self.before_step: Callable[[int], None] = lambda step: None
        self.before_write: Callable[[int], None] = lambda step: None
        self.moved = 0
        self.readied = self.imported_input = 0
        self.counted: Callable[[int], int] = lambda step: step + 1
        """What the graph's own counter says after a step that began at this one."""
        self.lacked: FakeState | None = None
        """What the member is to take from its peers when it meets them."""

    def load(self) -> FakeTrainer:
        return FakeTrainer(self)

    def group(self, order: JoinOrder) -> Any:
        return order

    def checkpoint_state(self, checkpoint: CheckpointFiles, share: tuple[int, int]) -> FakeState:
        return self.store[checkpoint.prefix]

    def import_input(self) -> None:
        self.imported_input += 1

    def batches(self, order: JoinOrder) -> FakeBatches:
        return FakeBatches(order, self.ends_at, self.served)

    def moved_bytes(self) -> int:
        return self.moved

    def processor_s(self) -> float:
        return 0.0

    def digests(self, state: FakeState) -> Mapping[str, int]:
        return {"values": hash(state.values.tobytes())}

    def nonfinite(self, state: FakeState) -> tuple[str, ...]:
        return () if np.isfinite(state.values).all() else ("values",)

    def sizes(self, state: FakeState) -> Mapping[str, Size]:
        largest = float(np.abs(state.values).max())
        return {"values": Size(largest, largest)}

    def write(self, state: FakeState, directory: str, again: int | None) -> WrittenFiles:
        self.before_write(state.step)
        prefix = checkpoint_name("model", state.step, again)
        self.store[f"{directory}/{prefix}"] = FakeState(state.step, state.values.copy())
        return WrittenFiles(directory, prefix, ("file",))

    def own_part(self, state: FakeState, rank: int, ranks: int) -> FakeState:
        return state

    def write_part(
        self, own: FakeState, directory: str, again: int | None, part: tuple[int, int]
    ) -> WrittenPart:
        rank, parts = part
        whole = self.write(own, directory, again)
        files = (f"data {rank} of {parts}", *(("graph",) if rank == 0 else ()))
        return WrittenPart(directory, whole.prefix, files, rank, f"report {rank} of {parts}")


class FakeFleet:
    """``workers.fleet.Fleet`` with Members in threads."""

    def __init__(
        self, tell: Callable[[ev.Event], None], make_tools: Callable[[str], FakeTools]
    ) -> None:
        self.tell, self.make_tools = tell, make_tools
        self.members: dict[str, Member] = {}
        self.tools: dict[str, FakeTools] = {}
        self.over: set[str] = set()

    def start(self, action: act.StartWorker) -> None:
        tools, event_buffer = self.make_tools(action.worker), EventBuffer()
        member = Member(action.worker, ("node", 1), tools, event_buffer)
        self.members[action.worker], self.tools[action.worker] = member, tools
        threading.Thread(target=member.run, daemon=True).start()
        threading.Thread(target=self._listen, args=(action.worker, member), daemon=True).start()

    def _listen(self, worker: str, member: Member) -> None:
        after = 0
        while worker not in self.over:
            after, events = member.news(after, 0.2)
            for event in events:
                if worker not in self.over:
                    self.tell(event)

    def kill(self, worker: str, cause: ev.Cause = ev.Cause.DIED, detail: str = "") -> None:
        """As SIGKILL does: nothing more is heard of it, and its peers' step fails."""
        if worker in self.over:
            return
        self.over.add(worker)
        member = self.members[worker]
        member.close()
        generation = member.report()["generation"]
        if generation:
            self.tools[worker].exchange.break_off(generation)
        self.tell(ev.Gone(worker, cause, detail))

    def end(self, action: act.EndWorker) -> None:
        self.kill(action.worker, ev.Cause(action.cause), action.detail)

    def quiesce(self, action: act.Quiesce) -> None:
        for worker in action.workers:
            self.members[worker].quiesce(action.generation, urgent=action.urgent)

    def await_end(self, action: act.AwaitEnd) -> None:
        pass  # nobody is seen to die here

    def break_step(self, action: act.BreakStep) -> None:
        self.members[action.worker].break_step(action.generation)

    def form(self, action: act.Form, checkpoint: CheckpointFiles | None) -> None:
        donated = self.members[action.donor].held_state() if action.donor else None
        for worker in action.release:
            self.kill(worker, ev.Cause.RELEASED)
        addresses = tuple(seat.address for seat in action.seats)
        for seat in action.seats:
            order = JoinOrder(
                action.generation,
                seat.rank,
                addresses,
                action.step,
                action.position,
                seat.state_from,
                checkpoint,
            )
            state = donated if seat.state_from is act.StateFrom.DONOR else None
            self.members[seat.worker].join(order, Given(state))

    def grant(self, action: act.Grant, directory: str) -> None:
        for worker in action.workers:
            self.members[worker].grant(GrantOrder.of(action, directory, 1))

    def close(self) -> None:
        for worker, member in self.members.items():
            self.over.add(worker)
            member.close()


class FakeStorageThread:
    """``driver.storage_thread.StorageThread`` that commits at once, in memory."""

    def __init__(self, tell: Callable[[Any], None], start: CheckpointFiles) -> None:
        self.tell, self.start = tell, start
        self.events: list[Mapping[str, Any]] = []
        self.committed: list[ev.SaveWritten] = []
        self.takeovers: list[tuple[int, int]] = []
        self.refuse: Callable[[int], str] = lambda step: ""

    def note(self, event: JournalEvent) -> None:
        self.events.append(event.record())

    def take_over(self, generation: int, step: int) -> None:
        self.takeovers.append((generation, step))

    def commit(self, written: ev.SaveWritten, world_size: int) -> None:
        reason = self.refuse(written.step)
        if reason:
            self.tell(ev.SaveFailed(written.generation, written.step, reason))
            return
        self.committed.append(written)
        self.tell(ev.Committed(written.generation, written.step))

    def find(self, reason: str, exclude: Mapping[str, str]) -> None:
        from orchestrator.driver.inbox import Restorable

        newest = self.committed[-1] if self.committed else None
        files = (
            self.start
            if newest is None
            else CheckpointFiles(
                newest.step, newest.position, f"{newest.directory}/{newest.prefix}", ()
            )
        )
        self.tell(Restorable(files))
        self.tell(ev.Found(files.step, files.position))
