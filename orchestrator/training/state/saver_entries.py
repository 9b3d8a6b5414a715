"""How does what the graph's saver saves beside variables, lookup tables, come out of a session and
into one?

Rule: through the saver's own operations. A table's keys and values are two entries of one operation,
which takes both at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.training.engine.sessions import LiveSession
from orchestrator.training.state.state import ENTRY_PREFIX, State


class SaverEntries:
    """The saver's entries of one imported graph that aren't variables.

    Args:
        imported: the imported TensorFlow graph.
    """

    def __init__(self, imported: Any, graph: WorkerGraph) -> None:
        self._imported = imported
        # An iterator's own state (a variant) can't leave TensorFlow; the input's position takes its
        # place
        self._entries = tuple(entry for entry in graph.saver_entries if entry.dtype != "variant")

    def restore(self, session: LiveSession, state: State) -> None:
        """Set those that a state holds."""
        feeds: dict[str, dict[str, np.ndarray]] = {}
        for entry in self._entries:
            array = state.arrays.get(ENTRY_PREFIX + entry.key)
            if array is not None:
                feeds.setdefault(entry.restore_op, {})[entry.restore_tensor] = array
        for name, values in feeds.items():
            session.run(self._imported.get_operation_by_name(name), values)

    def read(self, session: LiveSession) -> dict[str, np.ndarray]:
        """Their values, by ``entry:KEY``."""
        arrays: dict[str, np.ndarray] = {}
        fetched = (
            session.run([entry.save_tensor for entry in self._entries]) if self._entries else []
        )
        for entry, value in zip(self._entries, fetched, strict=True):
            arrays[ENTRY_PREFIX + entry.key] = np.asarray(
                value, dtype=object if entry.dtype == "string" else None
            )
        return arrays
