"""How do ranks put one checkpoint into the store, all at once?

Rule: each rank sends its data file by itself, with little in memory beside its own rows; one of
them sends the graph too, and who commits sends the index over all. Together their records are the
manifest's files. As long as there's no manifest there is no checkpoint, whoever dies meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.store.bundle.data_writer import DataReport
from orchestrator.store.bundle.index_writer import index_bytes
from orchestrator.store.objects.content import Content, MemoryContent
from orchestrator.store.objects.location import Location
from orchestrator.store.objects.manifest import FileRecord
from orchestrator.store.transfer.upload import upload

PART_BYTES = 5 << 20
"""Sent at once: the least that S3 takes. A file of more than 48 GiB gets larger ones, since it takes
10,000 at most.
"""
IN_FLIGHT_BYTES = 25 << 20
"""A rank may take 64 MB beside its rows. Of these bytes gcsfs sends two parts at a time, and takes some
four times of them; other clients send five.
"""


def send_part(files: Sequence[Path | Content], directory: Location) -> tuple[FileRecord, ...]:
    """Uploads what one rank writes: its data file, and what else it sees to.

    Raises:
        OutputError, StorageUnavailable: as ``upload``.
    """
    return upload(files, directory, part_bytes=PART_BYTES, in_flight_bytes=IN_FLIGHT_BYTES)


def send_index(
    prefix: str, reports: Sequence[DataReport], directory: Location
) -> tuple[FileRecord, ...]:
    """Uploads the index over all ranks' data files.

    Args:
        prefix: ``NAME-11000``.
        reports: one for each data file, in any order.

    Raises:
        OutputError: what the ranks wrote isn't one checkpoint; or as ``upload``.
        StorageUnavailable: as ``upload``.
    """
    return upload([MemoryContent(f"{prefix}.index", [index_bytes(reports)])], directory)
