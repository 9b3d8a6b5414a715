"""What is copied for a save, while training stands still?

Rule: everything, into memory that the last copy was in. For a save of changed rows of what is
written by row those rows alone: they are gathered where they lie, through two nodes that are added
for each variable, so that neither time nor memory goes into the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from orchestrator.graph.worker_graph import Variable, WorkerGraph
from orchestrator.store.objects.traffic import MOVED
from orchestrator.training.engine.sessions import LiveSession
from orchestrator.training.engine.tensorflow import gen_resource_variable_ops, tf, v1
from orchestrator.training.state.snapshot import Snapshot
from orchestrator.training.state.written_rows import Save, WrittenRows, unknown


class SaveCopy:
    """Copies of the variables of one imported graph.

    Args:
        imported: the imported TensorFlow graph; nodes are added to it.
        written: which rows were written; None where no save of changed rows will be made.
    """

    def __init__(
        self, imported: Any, graph: WorkerGraph, snapshot: Snapshot, written: WrittenRows | None
    ) -> None:
        self._snapshot, self._written = snapshot, written
        members = written.members if written is not None else frozenset()
        with imported.as_default(), v1.name_scope("tfresume/rows/"), tf.control_dependencies(None):
            self._gathered = {
                variable.name: _gathered(imported, variable)
                for variable in graph.variables
                if variable.name in members
            }

    def take(
        self, session: LiveSession, save: Save, over: Save | None, share: tuple[int, int]
    ) -> tuple[dict[str, np.ndarray], Mapping[str, np.ndarray] | None]:
        """The values by variable's name, and ``State.changed``.

        Args:
            save: which save it's for.
            over: the one that it stands on; None for a full one.
            share: rank and world size of which the rows of divided tables are.

        Raises OutputError where nothing is known of ``over``.
        """
        if self._written is None and over is not None:
            raise unknown(over)
        rows = None if self._written is None else self._written.changed(save, over, share)
        arrays = self._snapshot.copy_all(session, rows or ())
        for name, numbers in (rows or {}).items():
            feed, fetch = self._gathered[name]
            (value,) = session.callable((), (fetch,), (feed,))(numbers)
            arrays[name] = np.asarray(value)
            MOVED.add(arrays[name].nbytes)
        return arrays, rows


def _gathered(imported: Any, variable: Variable) -> tuple[str, str]:
    """The tensor that takes numbers of rows, and the one that gives those."""
    op, dtype = imported.get_operation_by_name(variable.name), tf.as_dtype(variable.dtype)
    with imported.colocate_with(op):
        numbers = v1.placeholder(tf.int64, [None], name="numbers")
        if variable.kind == "ref":
            value = tf.gather(op.outputs[0], numbers, axis=0)
        else:
            value = gen_resource_variable_ops.resource_gather(op.outputs[0], numbers, dtype)
    return numbers.name, value.name
