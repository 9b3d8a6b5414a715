"""How do the rows of sharded tables come to those whose batches want them?

Rule: asked for before anything else of a step is computed, for all batches that this rank serves:
which rows, as the graph computes its ids; then each owner gives of its block what anybody has asked
for. What a batch is fed are its own rows, each once, in the order of their numbers, and where in
them each id stands. So a batch computes the same bits whoever serves it, and whoever owns the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from orchestrator.errors import GraphRefused, UserCodeError
from orchestrator.graph.worker_tables import Lookup, ShardedTables, TableRead
from orchestrator.training.engine import failures
from orchestrator.training.engine.sessions import LiveSession
from orchestrator.training.group.collectives import Collectives
from orchestrator.training.host.agreement import Agreement
from orchestrator.training.host.phases import values_of
from orchestrator.training.host.standing import nonsense
from orchestrator.training.host.wanted_rows import each_once, packed, unpacked
from orchestrator.training.state.state import State
from orchestrator.training.state.written_rows import WrittenRows
from orchestrator.training.step.groups import RUN_ERRORS, Batch, InGraph, StepRun
from orchestrator.training.step.stepping import StepRunner

Asked = list[list[np.ndarray]]
"""For each read the ids of each of its lookups, as the graph gives them."""


class TableRows:
    """This worker's part in looking up and giving rows.

    Args:
        in_graph: entered while the session runs.
        written: is told when rows are set; None where nobody asks which are written.
    """

    def __init__(
        self,
        tables: ShardedTables,
        runner: StepRunner,
        in_graph: InGraph,
        written: WrittenRows | None = None,
    ) -> None:
        self._tables, self._runner, self._in_graph = tables, runner, in_graph
        self._written = written
        self._holding: tuple[int, int] | None = None
        """Rank and world size; None where no rows have come yet."""
        self._agreement = Agreement()

    def hold(self, state: State) -> None:
        """The variables are about to be set to that state, with some rank's rows."""
        self._holding = state.share
        self._agreement.begin(state.reads)
        if self._written is not None:
            self._written.forget()

    def moved(self, share: tuple[int, int]) -> None:
        """What is held now are the rows of that rank of so many."""
        self._holding = share
        if self._written is not None:
            self._written.forget()

    def agree(self, mesh: Collectives) -> None:
        """Compare what the ranks have read together. Raises CorruptCheckpoint, PeerLost."""
        if self._tables:
            self._agreement.reach(mesh)

    def applied(self) -> None:
        """A step was applied."""
        self._agreement.end()

    def looked_up(self, mesh: Collectives, session: LiveSession, run: StepRun) -> StepRun:
        """The run whose batches are fed the rows that they want, and which rows are this rank's.

        Raises:
            PeerLost.
            UserCodeError: an id that no row has, or the ids can't be computed.
            GraphRefused: this worker holds the rows of another group's rank.
        """
        if not self._tables:
            return run
        self._must_hold(mesh)
        block = self._block(mesh)
        reads = tuple(_of_target(self._tables.reads, run.target))
        if not reads:  # a train operation that looks nothing up, on all ranks
            return _with(run, [block for _ in run.batches])
        with self._computing(mesh, run):
            run = self._drawn(session, run)
            asked = [self._ids(session, run.target, reads, batch) for batch in run.batches]
        self._refuse_strangers(reads, asked, mesh.rank)
        wanted = self._wanted(mesh, reads, asked)
        with self._computing(mesh, run):
            mine = self._given(mesh, session, reads, wanted)
        rows = self._gathered(mesh, reads, wanted, mine)
        return _with(run, [{**block, **_fed(reads, ids, wanted, rows)} for ids in asked])

    @contextmanager
    def _computing(self, mesh: Collectives, run: StepRun) -> Iterator[None]:
        try:
            with self._in_graph:
                yield
        except RUN_ERRORS as error:
            what = f"rank {mesh.rank}: the rows for the step after {run.step} couldn't be looked up"
            raise failures.user_error(error, what, rank=mesh.rank, step=run.step) from error

    def _must_hold(self, mesh: Collectives) -> None:
        place, held = (mesh.rank, mesh.world_size), self._holding
        if held != place:
            of = (
                "no table rows"
                if held is None
                else f"the table rows of rank {held[0]} of {held[1]}"
            )
            raise GraphRefused(
                f"this worker holds {of} and is rank {place[0]} of {place[1]} now",
                remedy="Give it the rows of its rank before the next step",
            )
        few = [part for part in self._tables.parts if part.rows < mesh.world_size]
        if few:
            raise GraphRefused(
                f"{few[0].variable} has {few[0].rows} rows, too few for {mesh.world_size} workers",
                remedy="Shard larger tables only, or use fewer --workers",
            )

    def _block(self, mesh: Collectives) -> dict[str, np.ndarray]:
        fed = {}
        for part in self._tables.parts:
            blocks = part.held(mesh.rank, mesh.world_size)
            fed[part.first] = np.array(blocks[0][0], np.int64)
            fed[part.count] = np.array(sum(end - first for first, end in blocks), np.int64)
        return fed

    def _drawn(self, session: LiveSession, run: StepRun) -> StepRun:
        """The run whose batches are fed what is drawn for their ids."""
        drawn = [one for one in self._tables.drawn if run.target in one.targets]
        more = []
        for batch in run.batches:
            feeds = self._runner.fed(run.target, batch.feeds)
            values = values_of(session, (), [one.fetch for one in drawn], feeds)
            more.append({one.feed: np.asarray(values[one.fetch]) for one in drawn})
        return _with(run, more)

    def _ids(
        self, session: LiveSession, target: int, reads: Sequence[TableRead], batch: Batch
    ) -> Asked:
        names = [lookup.ids for read in reads for lookup in read.lookups]
        values = values_of(session, (), names, self._runner.fed(target, batch.feeds))
        return [[np.asarray(values[lookup.ids]) for lookup in read.lookups] for read in reads]

    def _refuse_strangers(
        self, reads: Sequence[TableRead], asked: Sequence[Asked], rank: int
    ) -> None:
        for number, read in enumerate(reads):
            part = self._tables.parts[read.part]
            for at, lookup in enumerate(read.lookups):
                numbers = np.concatenate([_numbers(lookup, each[number][at]) for each in asked])
                strange = numbers[(numbers < 0) | (numbers >= part.rows)]
                if strange.size:
                    raise UserCodeError(
                        f"rank {rank}: {lookup.node} looks up row {strange[0]} of {part.variable}, whose rows are 0 to {part.rows - 1}",
                        remedy="Give batches whose ids are rows of the table",
                        details={"rank": rank, "node": lookup.node},
                    )

    def _wanted(
        self, mesh: Collectives, reads: Sequence[TableRead], asked: Sequence[Asked]
    ) -> list[np.ndarray]:
        """For each read the rows that anybody wants, each once, in their order."""
        own = [
            each_once(
                [
                    _numbers(lookup, ids)
                    for batch in asked
                    for lookup, ids in zip(read.lookups, batch[number], strict=True)
                ]
            )
            for number, read in enumerate(reads)
        ]
        limits = [self._tables.parts[read.part].rows for read in reads]
        everybody = [
            unpacked(message, limits, rank)
            for rank, message in enumerate(mesh.all_gather(packed(own)))
        ]
        return [each_once(each) for each in zip(*everybody, strict=True)]

    def _given(
        self,
        mesh: Collectives,
        session: LiveSession,
        reads: Sequence[TableRead],
        wanted: Sequence[np.ndarray],
    ) -> list[np.ndarray]:
        """The rows that anybody wants of those that this rank owns, which lie first."""
        feeds = {}
        for read, numbers in zip(reads, wanted, strict=True):
            first, end = self._tables.parts[read.part].block(mesh.rank, mesh.world_size)
            begin, behind = np.searchsorted(numbers, (first, end))
            feeds[read.wanted] = numbers[begin:behind] - first
        values = values_of(session, (), [read.fetch for read in reads], feeds)
        return [np.asarray(values[read.fetch]) for read in reads]

    def _gathered(
        self,
        mesh: Collectives,
        reads: Sequence[TableRead],
        wanted: Sequence[np.ndarray],
        mine: Sequence[np.ndarray],
    ) -> list[np.ndarray]:
        """All wanted rows, by number: the blocks follow each other as the ranks do."""
        blob = b"".join(np.ascontiguousarray(rows).tobytes() for rows in mine)
        found: list[list[np.ndarray]] = [[] for _ in reads]
        for rank, message in enumerate(mesh.all_gather(blob)):
            view, offset = memoryview(message), 0
            for number, (read, numbers) in enumerate(zip(reads, wanted, strict=True)):
                block = self._tables.parts[read.part].block(rank, mesh.world_size)
                begin, behind = np.searchsorted(numbers, block)
                like = mine[number]
                shape = (int(behind - begin), *like.shape[1:])
                end = offset + int(np.prod(shape, dtype=np.int64)) * like.dtype.itemsize
                if end > len(view):
                    raise nonsense(rank, f"its rows have {len(view)} bytes, {end} and more are due")
                rows = np.frombuffer(view[offset:end], np.uint8).view(like.dtype).reshape(shape)
                found[number].append(rows)
                offset = end
            if offset != len(view):
                raise nonsense(rank, f"its rows have {len(view)} bytes, {offset} are due")
        return [np.concatenate(each) for each in found]


def _with(run: StepRun, feeds: Sequence[Mapping[str, np.ndarray]]) -> StepRun:
    """The run whose batches are fed that besides."""
    batches = [
        Batch(batch.number, {**batch.feeds, **more})
        for batch, more in zip(run.batches, feeds, strict=True)
    ]
    return replace(run, batches=tuple(batches))


def _of_target(reads: Sequence[TableRead], target: int) -> Iterator[TableRead]:
    for read in reads:
        lookups = tuple(lookup for lookup in read.lookups if target in lookup.targets)
        if lookups:
            yield replace(read, lookups=lookups)


def _numbers(lookup: Lookup, ids: np.ndarray) -> np.ndarray:
    """The rows that a lookup wants, one after the other."""
    rows = ids[..., 0] if lookup.coordinates else ids
    return np.asarray(rows, np.int64).reshape(-1)


def _fed(
    reads: Sequence[TableRead],
    asked: Asked,
    wanted: Sequence[np.ndarray],
    rows: Sequence[np.ndarray],
) -> Mapping[str, np.ndarray]:
    """What a batch is fed: its rows, and where in them each id stands."""
    fed: dict[str, np.ndarray] = {}
    for number, read in enumerate(reads):
        own = each_once([_numbers(*each) for each in zip(read.lookups, asked[number], strict=True)])
        fed[read.rows] = rows[number][np.searchsorted(wanted[number], own)]
        for lookup, ids in zip(read.lookups, asked[number], strict=True):
            places = np.searchsorted(own, _numbers(lookup, ids)).astype(ids.dtype)
            if lookup.coordinates:
                fed[lookup.positions] = ids.copy()
                fed[lookup.positions][..., 0] = places.reshape(ids.shape[:-1])
            else:
                fed[lookup.positions] = places.reshape(ids.shape)
    return fed
