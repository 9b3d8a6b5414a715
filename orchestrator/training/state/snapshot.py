"""How do variables come out of a session, and how do they get into one?

Rule: read and written between steps, all at once, through nodes that are added once per imported
graph. What is read is a copy: later steps don't change it. For a save it goes into buffers that the
next save uses again. Variables that were never set are never read.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.errors import GraphMismatch
from orchestrator.graph.worker_graph import Variable, WorkerGraph
from orchestrator.store.objects.traffic import MOVED
from orchestrator.training.engine.sessions import LiveSession
from orchestrator.training.engine.tensorflow import gen_resource_variable_ops, gen_state_ops, tf, v1
from orchestrator.training.state.host_buffers import HostBuffers
from orchestrator.training.state.row_access import RowAccess
from orchestrator.training.state.saver_entries import SaverEntries
from orchestrator.training.state.session_rows import LiveRows, SessionRows, Stillness
from orchestrator.training.state.state import ENTRY_PREFIX, State

ASSIGN_BYTES = 64 * 1024 * 1024
"""Arrays assigned in one run, so that TensorFlow's copies of what is fed stay small beside the
state.
"""
COPY_BYTES = 256 * 1024 * 1024
"""Variables copied in one run, so that what TensorFlow brings over from a GPU stays small beside
the state.
"""


class Snapshot:
    """Reads and assigns the variables of one imported graph.

    Args:
        imported: the imported TensorFlow graph; three nodes are added per variable.
        graph: its variables, saver entries and initialisers.
        gpu: its variables may be on one, which knows some of the operations for rows only of some
            types; there are none then.

    Attributes:
        rows: the rows of its divided tables, where they lie.
    """

    def __init__(self, imported: Any, graph: WorkerGraph, *, gpu: bool = False) -> None:
        self._graph = graph
        self._imported = imported
        self.variables = {variable.name: variable for variable in graph.variables}
        self._entries = SaverEntries(imported, graph)
        self._present: list[str] = []
        self._sizes: dict[str, int] = {}
        members = frozenset() if gpu else graph.tables.members
        self.rows = RowAccess(imported, [v for v in graph.variables if v.name in members])
        self._members = self.rows.names
        self._buffers = HostBuffers()
        self._restored: LiveSession | None = None
        self._values: dict[str, Any] = {}
        self._feeds: dict[str, Any] = {}
        self._dtypes: dict[str, Any] = {}
        self._assigns: dict[str, Any] = {}
        with imported.as_default(), v1.name_scope("tfresume/state/"), tf.control_dependencies(None):
            for variable in self.variables.values():
                self._add(variable, imported.get_operation_by_name(variable.name))

    @property
    def size_bytes(self) -> int:
        """Bytes of what was assigned last."""
        return sum(self._sizes.values())

    def restore(self, session: LiveSession, state: State) -> None:
        """Make a new session's state ``state``: tables and local variables as the graph initialises
        them, then what ``state`` holds.
        """
        self._begin(session)
        values = {
            name: array for name, array in state.arrays.items() if not name.startswith(ENTRY_PREFIX)
        }
        self.assign(session, values)
        self._entries.restore(session, state)
        initialised = [
            v.name
            for v in self._graph.variables
            if v.local and v.initializer in self._graph.local_initializers
        ]
        self._present = list(dict.fromkeys((*values, *state.placed, *initialised)))
        self._sizes = {name: array.nbytes for name, array in values.items()} | dict(state.placed)
        # A member that is asked for its state in a recovery has no time to prepare for it
        for names in self._read_in_turn():
            self._reading(session, names)

    def prepare(self, session: LiveSession) -> None:
        """Do what ``restore`` does but for the values themselves: the graph's own initialisers,
        and the calls that set every variable whose shape is known.

        Raises:
            tf.errors.OpError: an initialiser failed; ``restore`` will run it again.
        """
        self._begin(session)
        sizes = {
            variable.name: math.prod(known) * np.dtype(self._dtypes[variable.name]).itemsize
            for variable in self._graph.variables
            if (known := _known(variable.shape)) is not None
        }
        for names in _portions(sizes, ASSIGN_BYTES):
            self._assigning(session, names)

    def _begin(self, session: LiveSession) -> None:
        # Once per session: tables would be read anew from their files, and local variables
        # (metrics) would start anew
        if self._restored is not session:
            self.initialise(
                session, (*self._graph.table_initializers, *self._graph.local_initializers)
            )
            self._restored = session

    def read_all(
        self, session: LiveSession, without: Collection[str] = ()
    ) -> dict[str, np.ndarray]:
        """Copies of every variable that was ever set, and of the saver's other entries
        (``entry:KEY``).

        Args:
            without: variables that aren't wanted.
        """
        read: dict[str, np.ndarray] = {}
        for names in self._read_in_turn(without):
            read |= self.read(session, names)
        return read | self._entries.read(session)

    def _read_in_turn(self, without: Collection[str] = ()) -> list[list[str]]:
        sizes = {name: self._sizes.get(name, 0) for name in self._present if name not in without}
        return _portions(sizes, COPY_BYTES)

    def look(self, session: LiveSession, name: str) -> np.ndarray:
        """A variable of numbers, in its own memory, which the next step writes to."""
        (value,) = self._reading(session, [name])()
        return np.asarray(value)

    def put(self, session: LiveSession, name: str, array: np.ndarray) -> None:
        """Set one variable, which may never have been set. Raises GraphMismatch."""
        self.assign(session, {name: array})
        self._sizes[name] = array.nbytes
        self._present = list(dict.fromkeys((*self._present, name)))

    @property
    def rows_bytes(self) -> tuple[int, int]:
        """Bytes of the rows of divided tables, and of what is there for a copy of them."""
        rows = sum(self._sizes.get(name, 0) for name in self._members)
        return rows, self._buffers.size_bytes(self._members)

    def copy_rest(self, session: LiveSession) -> tuple[dict[str, np.ndarray], LiveRows]:
        """What ``copy_all`` gives without the rows of divided tables, and those where they lie."""
        self._buffers.let_go(self._members)
        copied, stillness = self._copy(session), Stillness()
        return copied, LiveRows(self._rows_of(session, stillness), stillness)

    def _rows_of(self, session: LiveSession, stillness: Stillness) -> dict[str, SessionRows]:
        found = {name: self.rows.rows(session, name, stillness) for name in sorted(self._members)}
        return {name: rows for name, rows in found.items() if rows is not None}

    def copy_all(
        self, session: LiveSession, without: Collection[str] = ()
    ) -> dict[str, np.ndarray]:
        """What ``read_all`` gives, in buffers that the next call overwrites; but for the rows of
        divided tables ``without``.
        """
        rows = self._rows_of(session, Stillness())
        tables = {
            name: self._buffers.fill_by_rows(name, one)
            for name, one in rows.items()
            if name not in without
        }
        return tables | self._copy(session)

    def _copy(self, session: LiveSession) -> dict[str, np.ndarray]:
        """All but the rows of divided tables."""
        copied: dict[str, np.ndarray] = {}
        for names in self._read_in_turn(self._members):
            for name, value in zip(names, self._reading(session, names)(), strict=True):
                copied[name] = (
                    np.array(value, object)
                    if self._is_text(name)
                    else self._buffers.fill(name, np.asarray(value))
                )
            MOVED.add(sum(copied[name].nbytes for name in names))
        return copied | self._entries.read(session)

    def initialise(self, session: LiveSession, operations: Sequence[str]) -> None:
        """Run the graph's own initialisers."""
        if operations:
            session.run([self._imported.get_operation_by_name(name) for name in operations])

    def _add(self, variable: Variable, op: Any) -> None:
        dtype = tf.as_dtype(variable.dtype)
        with self._imported.colocate_with(op):
            feed = v1.placeholder(dtype, name="value")
            if variable.kind == "ref":
                # A variable of unknown shape takes whatever is assigned, as ``tf.assign`` has it
                value, known = op.outputs[0], _known(variable.shape) is not None
                assign = gen_state_ops.assign(value, feed, validate_shape=known).op
            else:
                value = gen_resource_variable_ops.read_variable_op(op.outputs[0], dtype)
                assign = gen_resource_variable_ops.assign_variable_op(op.outputs[0], feed)
        self._values[variable.name] = value
        self._feeds[variable.name] = feed
        self._assigns[variable.name] = assign
        self._dtypes[variable.name] = dtype.as_numpy_dtype

    def read(self, session: LiveSession, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Copies of the named variables, in host memory."""
        # A prepared call gives the variables' own memory, which the next step writes to
        fetched = self._reading(session, names)() if names else []
        arrays = {
            name: np.array(value, dtype=object if self._is_text(name) else None)
            for name, value in zip(names, fetched, strict=True)
        }
        MOVED.add(sum(array.nbytes for array in arrays.values()))
        return arrays

    def assign(self, session: LiveSession, arrays: Mapping[str, np.ndarray]) -> None:
        """Set the named variables.

        Raises:
            GraphMismatch: a name or a shape isn't the graph's.
        """
        problems = [
            problem for name, array in arrays.items() if (problem := self._misfit(name, array))
        ]
        if problems:
            raise GraphMismatch(
                f"{len(problems)} values don't fit the graph's variables: "
                + "; ".join(problems[:10]),
                remedy="Resume from a checkpoint of this graph",
                details={"problems": problems},
            )
        for names in _portions(
            {name: array.nbytes for name, array in arrays.items()}, ASSIGN_BYTES
        ):
            values = [np.asarray(arrays[name], self._dtypes[name]) for name in names]
            self._assigning(session, names)(*values)
            MOVED.add(sum(arrays[name].nbytes for name in names))

    def _reading(self, session: LiveSession, names: Sequence[str]) -> Any:
        return session.callable((), [self._values[name].name for name in names], ())

    def _assigning(self, session: LiveSession, names: Sequence[str]) -> Any:
        return session.callable(
            [self._assigns[name].name for name in names],
            (),
            [self._feeds[name].name for name in names],
        )

    def _misfit(self, name: str, array: np.ndarray) -> str:
        variable = self.variables.get(name)
        if variable is None:
            return f"the graph has no variable {name}"
        shape = variable.shape
        fits = shape is None or (
            len(shape) == array.ndim
            and all(
                want is None or want == have for want, have in zip(shape, array.shape, strict=True)
            )
        )
        return (
            ""
            if fits
            else f"{name} has shape {list(shape or ())} in the graph, the value {list(array.shape)}"
        )

    def _is_text(self, name: str) -> bool:
        return self.variables[name].dtype == "string"


def _known(shape: Sequence[int | None] | None) -> list[int] | None:
    """The shape, where all of it is known."""
    sizes = [size for size in shape or () if size is not None]
    return None if shape is None or len(sizes) < len(shape) else sizes


def _portions(sizes: Mapping[str, int], limit_bytes: int) -> list[list[str]]:
    """Names, sorted so that the same ones are always prepared in the same way, cut where the limit
    is passed.
    """
    portions: list[list[str]] = [[]]
    size = 0
    for name, size_bytes in sorted(sizes.items()):
        if portions[-1] and size + size_bytes > limit_bytes:
            portions.append([])
            size = 0
        portions[-1].append(name)
        size += size_bytes
    return [portion for portion in portions if portion]
