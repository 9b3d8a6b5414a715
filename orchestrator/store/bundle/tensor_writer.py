"""How is a checkpoint written without TensorFlow?

Rule: one data file, and its index, which holds every tensor's checksum, last. TensorFlow reads it
as one of its own.
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.store.bundle.data_writer import DataWriter
from orchestrator.store.bundle.index_writer import write_index


class TensorWriter(DataWriter):
    """Writes ``PREFIX.data-00000-of-00001`` and, at ``finish``, ``PREFIX.index``."""

    def __init__(self, prefix: Path) -> None:
        super().__init__(prefix)
        self._prefix = prefix
        self.index_file = prefix.with_name(f"{prefix.name}.index")

    def finish(self) -> None:
        """Writes the index; the checkpoint is whole afterwards."""
        write_index(self._prefix, [self.close()])
