"""How does a worker give rows of divided tables to others, and take those that it lacks?

Rule: between two steps, and one variable after the other, so that no more than one is in memory
twice. What is given is a copy. What is taken is compared before anything is set, and what is kept of
the worker's own rows counts as much as what has come.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from orchestrator.decide.spans import RowSpan
from orchestrator.errors import WorkerLost
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.training.engine.tensorflow import tf
from orchestrator.training.state.host_buffers import aligned
from orchestrator.training.state.moved_rows import (
    RowPiece,
    compare,
    fill,
    laid_out,
)
from orchestrator.training.state.snapshot import Snapshot
from orchestrator.training.state.state import State
from orchestrator.training.step.course import Course
from orchestrator.training.step.groups import Group


class HeldRows:
    """The rows that one worker's session holds.

    Args:
        writing: held while variables are written or read as a whole.
    """

    def __init__(
        self, graph: WorkerGraph, snapshot: Snapshot, group: Group, course: Course, writing: Any
    ) -> None:
        self._graph, self._snapshot, self._group = graph, snapshot, group
        self._course, self._writing = course, writing

    def rest(self) -> State:
        """A copy of all that isn't rows of divided tables, for a worker that has no state."""
        with self._writing:
            without = self._graph.tables.members
            arrays = self._snapshot.read_all(self._group.session, without=without)
            state = self._course.state_of(arrays)
            return State(state.step, arrays, state.phase, None if without else state.share)

    def give(self, wanted: Sequence[RowSpan]) -> tuple[RowPiece, ...]:
        """Copies of the rows in these parts of all, of every divided table and its slots.

        Raises WorkerLost where there are none here.
        """
        share, pieces = self._course.share, []
        if share is None:
            raise WorkerLost(
                "this worker holds no rows of the divided tables",
                remedy="Nothing: the group is formed anew",
            )
        with self._writing:
            for part in self._graph.tables.parts:
                for name in part.members:
                    held = self._snapshot.look(self._group.session, name)
                    for rows in laid_out(held, part.held(*share)):
                        for span in wanted:
                            found = rows.within(span.of(part.rows))
                            if len(found.values):
                                pieces.append(RowPiece.of(name, found))
            return tuple(pieces)

    def compare(self, given: Sequence[RowPiece]) -> None:
        """Whether what has come is what was given. Raises CorruptState."""
        compare(given)

    def take(self, share: tuple[int, int], given: Sequence[RowPiece]) -> tuple[int, int]:
        """Hold the rows of that rank of so many: those of them that are here, and what was given,
        which was compared.

        Returns:
            How many rows of tables were given, and bytes, slots included.

        Raises:
            CorruptState: some rows have come from nobody; the variables are neither what they were
                nor what they were to be.
        """
        with self._writing:
            old = self._course.share
            if old == share and not given:
                return 0, 0
            self._course.share = None
            for part in self._graph.tables.parts:
                for name in part.members:
                    known = [piece.rows for piece in given if piece.variable == name]
                    if old is not None:
                        here = self._snapshot.look(self._group.session, name)
                        known += laid_out(here, part.held(*old))
                        del here
                    blocks = part.held(*share)
                    into = self._empty(name, sum(end - first for first, end in blocks))
                    fill(name, into, blocks, known)
                    del known
                    self._snapshot.put(self._group.session, name, into)
            # What is begun would be applied to the rows that were held
            self._group.rows_moved(share)
            self._course.share = share
        return self._counted(given)

    def _empty(self, name: str, rows: int) -> np.ndarray:
        variable = self._snapshot.variables[name]
        kind: type = tf.as_dtype(variable.dtype).as_numpy_dtype
        row_shape = tuple(size or 0 for size in (variable.shape or ())[1:])
        return aligned((rows, *row_shape), np.dtype(kind))

    def _counted(self, given: Sequence[RowPiece]) -> tuple[int, int]:
        tables = {part.variable for part in self._graph.tables.parts}
        rows = sum(len(piece.rows.values) for piece in given if piece.variable in tables)
        return rows, sum(piece.rows.values.nbytes for piece in given)
