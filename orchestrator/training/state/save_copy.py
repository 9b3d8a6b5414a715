"""What is copied for a save, while training stands still?

Rule: everything, into memory that the last copy was in; where there's no room for a copy, rows of
divided tables stay where they lie (``saving``). For a save of changed rows of what is written by
row those rows alone: they are gathered where they lie, so that neither time nor memory goes into the
others.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from orchestrator.training.engine.options import GroupSpec, TrainingOptions
from orchestrator.training.engine.sessions import LiveSession
from orchestrator.training.state.saving import values_for_save
from orchestrator.training.state.session_rows import LiveRows, Stillness
from orchestrator.training.state.snapshot import Snapshot
from orchestrator.training.state.written_rows import Save, WrittenRows, unknown


class SaveCopy:
    """Copies of the variables of one imported graph.

    Args:
        options: of the training.
        written: which rows were written; None where no save of changed rows will be made.
    """

    def __init__(
        self, snapshot: Snapshot, options: TrainingOptions, written: WrittenRows | None
    ) -> None:
        self._snapshot, self._options, self._written = snapshot, options, written

    def take(
        self,
        session: LiveSession,
        spec: GroupSpec | None,
        save: Save,
        over: Save | None,
        share: tuple[int, int],
    ) -> tuple[dict[str, np.ndarray], LiveRows | None, Mapping[str, np.ndarray] | None]:
        """The values by variable's name, ``State.live`` and ``State.changed``.

        Args:
            spec: of the group that this worker belongs to.
            save: which save it's for.
            over: the one that it stands on; None for a full one.
            share: rank and world size of which the rows of divided tables are.

        Raises OutputError where nothing is known of ``over``.
        """
        if self._written is None and over is not None:
            raise unknown(over)
        rows = None if self._written is None else self._written.changed(save, over, share)
        if rows is None:
            return *values_for_save(self._snapshot, session, self._options, spec), None
        arrays = self._snapshot.copy_all(session, rows)
        by_row = self._snapshot.rows
        for name, numbers in rows.items():
            if name not in by_row.names:  # on a GPU, or of a type that can't be gathered
                arrays[name] = arrays[name][numbers]
            elif (found := by_row.rows(session, name, Stillness())) is not None:
                arrays[name] = found.numbered(numbers)
        return arrays, None, rows
