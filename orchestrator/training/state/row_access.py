"""Which operations read, write and make room for the rows of divided tables in a session?

Rule: a range of rows at a time. A plain read of a variable that is a resource copies all of it once
a row was updated (its copy-on-read mode), one with a reference gives memory that the next step
writes to; a ``Gather`` copies just the rows, of either kind. Room is made without a value of that
size beside it, and only where the variable hasn't got it already.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from orchestrator.errors import PlacementError
from orchestrator.graph.worker_graph import Variable
from orchestrator.training.engine.sessions import LiveSession
from orchestrator.training.engine.tensorflow import (
    gen_array_ops,
    gen_resource_variable_ops,
    gen_state_ops,
    tf,
    v1,
)
from orchestrator.training.state.session_rows import (
    ROW_TYPES,
    RowCalls,
    SessionRows,
    Stillness,
)


@dataclass(frozen=True)
class _Nodes:
    """Names of one variable's operations and tensors."""

    numbers: str
    take: str
    values: str
    put: str
    is_set: str
    shape_now: str
    shape: str
    make_room: str
    drop: str


class RowAccess:
    """The rows of some variables of one imported graph: of those whose type is one of ``ROW_TYPES``.

    Args:
        imported: the imported TensorFlow graph, to which a few nodes per variable are added.

    Attributes:
        names: of those variables.
    """

    def __init__(self, imported: Any, variables: Iterable[Variable]) -> None:
        self._nodes: dict[str, _Nodes] = {}
        self._dtypes: dict[str, np.dtype] = {}
        with imported.as_default(), v1.name_scope("tfresume/rows/"), tf.control_dependencies(None):
            for variable in variables:
                if variable.dtype not in ROW_TYPES:
                    continue
                op = imported.get_operation_by_name(variable.name)
                dtype = tf.as_dtype(variable.dtype)
                self._dtypes[variable.name] = np.dtype(dtype.as_numpy_dtype)
                with imported.colocate_with(op):
                    add = _of_reference if variable.kind == "ref" else _of_resource
                    self._nodes[variable.name] = add(op.outputs[0], dtype)
        self.names = frozenset(self._nodes)

    def rows(self, session: LiveSession, name: str, stillness: Stillness) -> SessionRows | None:
        """A variable's rows; None where it was never set."""
        nodes = self._nodes[name]
        if not _value(session, nodes.is_set):
            return None
        shape = tuple(int(size) for size in _value(session, nodes.shape_now))
        return self._rows(session, name, shape, stillness)

    def make_room(self, session: LiveSession, name: str, shape: tuple[int, ...]) -> SessionRows:
        """A variable of that shape, the values of whose rows are still to be set.

        Raises:
            PlacementError: this process has no memory for it.
        """
        nodes, stillness = self._nodes[name], Stillness()
        rows = self.rows(session, name, stillness)
        if rows is not None and rows.shape == shape:
            return rows
        make = session.callable([nodes.make_room], (), [nodes.shape])
        if rows is not None:
            # What it has goes first, or there would be two of them
            if nodes.drop == nodes.make_room:
                make(np.array((0, *shape[1:]), np.int32))
            else:
                session.callable([nodes.drop], (), ())()
        try:
            make(np.array(shape, np.int32))
        except tf.errors.ResourceExhaustedError as error:
            size_bytes = prod(shape) * self._dtypes[name].itemsize
            raise PlacementError(
                f"a worker has no memory for its {shape[0]} rows of {name} ({size_bytes} bytes)",
                remedy="Use more --workers, so that each holds fewer rows, or nodes with more memory",
            ) from error
        return self._rows(session, name, shape, stillness)

    def _rows(
        self, session: LiveSession, name: str, shape: tuple[int, ...], stillness: Stillness
    ) -> SessionRows:
        nodes = self._nodes[name]
        take = session.callable((), [nodes.take], [nodes.numbers])
        put = session.callable([nodes.put], (), [nodes.numbers, nodes.values])
        calls = RowCalls(lambda numbers: np.asarray(take(numbers)[0]), put)
        return SessionRows(calls, shape, self._dtypes[name], stillness)


def _value(session: LiveSession, name: str) -> Any:
    return session.callable((), [name], ())()[0]


def _fed(dtype: Any) -> tuple[Any, Any, Any]:
    """Placeholders for row numbers, rows and a shape."""
    return (
        v1.placeholder(tf.as_dtype("int64"), [None], name="numbers"),
        v1.placeholder(dtype, name="values"),
        v1.placeholder(tf.int32, [None], name="shape"),
    )


def _of_reference(value: Any, dtype: Any) -> _Nodes:
    numbers, values, shape = _fed(dtype)
    room = gen_array_ops.empty(shape, dtype, init=False)
    # Assigned what nobody else holds, a variable takes that very memory
    make_room = gen_state_ops.assign(value, room, validate_shape=False).op.name
    return _Nodes(
        numbers.name,
        gen_array_ops.gather_v2(value, numbers, 0).name,
        values.name,
        gen_state_ops.scatter_update(value, numbers, values).op.name,
        gen_state_ops.is_variable_initialized(value).name,
        gen_array_ops.shape(value).name,
        shape.name,
        make_room,
        make_room,
    )


def _of_resource(handle: Any, dtype: Any) -> _Nodes:
    numbers, values, shape = _fed(dtype)
    room = gen_array_ops.empty(shape, dtype, init=False)
    return _Nodes(
        numbers.name,
        gen_resource_variable_ops.resource_gather(handle, numbers, dtype).name,
        values.name,
        gen_resource_variable_ops.resource_scatter_update(handle, numbers, values).name,
        gen_resource_variable_ops.var_is_initialized_op(handle).name,
        gen_resource_variable_ops.variable_shape(handle).name,
        shape.name,
        gen_resource_variable_ops.assign_variable_op(handle, room).name,
        # A variable in copy-on-read mode takes no memory over: it would copy what it's assigned
        gen_resource_variable_ops.destroy_resource_op(handle).name,
    )
