"""How does a simulated worker train, with its group and by itself?"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.decide.actions import StateFrom
from orchestrator.decide.spans import RowSpan
from orchestrator.errors import CorruptState, EndOfData, PeerLost, UserCodeError
from orchestrator.graph.worker_tables import RowWrite, ShardedPart, ShardedTables
from orchestrator.training.state.written_rows import WrittenRows
from orchestrator.workers.mailbox import Mailbox
from orchestrator.workers.orders import JoinOrder
from tests.driver_simulation.exchange import SimExchange
from tests.driver_simulation.state import BATCHES, TABLE_ROWS, SimState, rows_held, touched

if TYPE_CHECKING:
    from tests.driver_simulation.worker import SimWorker


def tables(copies: int) -> ShardedTables:
    """What the workers of a divided run share."""
    part = ShardedPart(
        *("table", "table", ("table",), TABLE_ROWS, (), "", ""),
        copies=copies,
        written=(RowWrite("table", "rows:0", (0,)),),
    )
    return ShardedTables((part,), copies=copies)


class Output:
    """``training.state.state.StepOutput``."""

    def __init__(self, state: SimState) -> None:
        self.step = state.step
        self.watched = {"loss:0": 1.0 / (1 + state.step)}
        self.summaries: Mapping[str, float] = {}


@dataclass(frozen=True)
class SimPiece:
    """Rows of the table on their way, and their checksum as their giver had them."""

    rows: Mapping[int, int]
    checksum: int

    @classmethod
    def of(cls, rows: Mapping[int, int]) -> SimPiece:
        return cls(rows, checksum_of(rows))


def checksum_of(rows: Mapping[int, int]) -> int:
    return zlib.crc32(repr(sorted(rows.items())).encode())


class SimRows:
    """``runtime_protocol.RowsLike``."""

    def __init__(self, trainer: SimTrainer) -> None:
        self._trainer, self._world = trainer, trainer.worker.world

    def rest(self) -> SimState:
        state = self._trainer.state()
        return replace(state, share=None, rows={}) if self._world.divided else state

    def give(self, wanted: Sequence[RowSpan]) -> tuple[SimPiece, ...]:
        blocks = [range(*span.of(TABLE_ROWS)) for span in wanted]
        held = self._trainer.state().rows
        rows = [{row: held[row] for row in block if row in held} for block in blocks]
        return tuple(map(SimPiece.of, rows))

    def compare(self, given: Sequence[SimPiece]) -> None:
        if any(checksum_of(piece.rows) != piece.checksum for piece in given):
            raise CorruptState("rows that came from peers arrived damaged")

    def take(self, share: tuple[int, int], given: Sequence[SimPiece]) -> tuple[int, int]:
        state = self._trainer.state()
        known = dict(state.rows)
        for piece in given:
            known |= piece.rows
        # The real one refuses rows that came from nobody; here they're trained, to be found
        wanted = rows_held(share, self._world.copies)
        rows = {row: known.get(row, 0) for row in wanted}
        self._trainer.written.forget()
        self._trainer.current = replace(state, share=share, rows=rows)
        self._trainer.lacked = None
        count = sum(len(piece.rows) for piece in given)
        if count:
            self._world.fired.add("rows_moved")
        return count, 8 * count


class SimTrainer:
    """``runtime_protocol.TrainerLike``."""

    size_bytes, runs, computing = 16, 0, False

    def __init__(self, worker: SimWorker) -> None:
        self.worker = worker
        self.rows = SimRows(self)
        self.address = f"{worker.ident}:1"
        divided = tables(worker.world.copies)
        self.written = WrittenRows(divided, divided.members)
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
    def share(self) -> tuple[int, int] | None:
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
        self.written.forget()
        self.current, self.lacked, self.stepped = state, None, False

    def state(self) -> SimState:
        assert self.current is not None
        return self.current

    def state_for_save(
        self, save: tuple[int, int] = (0, 0), over: tuple[int, int] | None = None
    ) -> SimState:
        rows = self.written.changed(save, over, self.share or (0, 1))
        changed = None if rows is None else tuple(rows["table"].tolist())
        return replace(self.state(), changed=changed)

    def _take(self, state: SimState) -> None:
        """A step is applied."""
        self.current, self.lacked = state, None
        places = enumerate(rows_held(state.share or (0, 1), self.worker.world.copies))
        rows = [place for place, row in places if row in touched(state.step)]
        self.written.note(0, {"rows:0": np.array(rows, np.int64)})

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
        self._take(self.lacked)
        if self.share != (order.rank, order.world_size):
            self.worker.world.fired.add("caught_up")
        return True

    def step(self, batches: Sequence[Mapping[str, Any]]) -> Output:
        assert self.current is not None
        after = self.current.after_step()
        if not self.has_result:
            self.lacked = after if self.worker.computed else None
            raise PeerLost("a peer is gone")
        self._take(after)
        self.stepped = True
        self.position = after.position
        self.worker.world.stepped(self.worker, after)
        return Output(after)

    def abandon(self) -> None:
        if self.exchange is not None:
            self.exchange.abandon()

    def close(self) -> None:
        """Nothing is open."""


class SimBatches:
    """``runtime_protocol.Batches``: batch n is the same whoever takes it and however often.

    Args:
        ends_at: the first batch that the input doesn't have; 0 for none.
        raises_at: the batch at which it raises; 0 for none.
    """

    def __init__(self, order: JoinOrder, mailbox: Mailbox, ends_at: int, raises_at: int) -> None:
        self._order, self._mailbox = order, mailbox
        self._ends_at, self._raises_at = ends_at, raises_at

    def _mine(self) -> range:
        """Of the next step."""
        first = self._mailbox.position
        return range(first + self._order.rank, first + BATCHES, self._order.world_size)

    def is_over(self) -> bool:
        """Whether the next step lacks a batch."""
        ended = bool(self._ends_at) and any(batch >= self._ends_at for batch in self._mine())
        return ended or (bool(self._raises_at) and self._raises_at in self._mine())

    def take(self, count: int) -> Sequence[Mapping[str, Any]]:
        if self._raises_at and self._raises_at in self._mine():
            raise UserCodeError(f"batch {self._raises_at} can't be read")
        if self.is_over():
            raise EndOfData("the input has no further batch")
        return [{}] * count

    def applied(self) -> None:
        """They aren't kept."""

    def close(self) -> None:
        """Nothing is open."""
