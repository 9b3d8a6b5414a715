"""What does a checkpoint hold, given its files where they lie?

Rule: of V2 the index is read, of V1 the index block of each file; no value is.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.store.bundle.bundle import BundleIndex, read_index
from orchestrator.store.bundle.sstable import Table
from orchestrator.store.bundle.v1 import read_v1
from orchestrator.store.objects.location import FileInfo


def stored_index(files: Sequence[FileInfo]) -> BundleIndex:
    """The index of a checkpoint.

    Args:
        files: as ``Source.files`` gives them.

    Raises:
        CorruptCheckpoint: it can't be read.
        SourceError, StorageUnavailable: the store says no.
    """
    first = files[0]
    if first.name.endswith(".index"):
        return read_index(first.location.read_bytes(), first.name)
    return read_v1([(file.name, _table(file)) for file in files])


def _table(file: FileInfo) -> Table:
    return Table(
        lambda start, end: file.location.read_bytes(start, end), file.size_bytes, file.name
    )
