"""Is what a large upload asks of each store what that store takes, and is nothing left of one that
fails?
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from orchestrator.store.objects.content import MemoryContent
from orchestrator.store.objects.location import Location
from orchestrator.store.transfer.multipart import (
    MAX_PARTS,
    PARALLEL,
    PART_BYTES,
    part_bytes,
    send_content,
)
from orchestrator.store.transfer.watchdog import TransferProgress
from tests.store.part_stores import S3, Azure, Google, Sftp, Store

DATA = random.Random(0).randbytes(1010)
PATH = "bucket/run/a0001-g0001/data"


def sent(store: Any, size: int = 100, in_flight: int = 1000, data: bytes = DATA) -> int:
    """Uploads it in parts of a size; the progress that was told."""
    progress = TransferProgress()
    target = Location(f"x://{PATH}", PATH, store)
    content = MemoryContent("data", [data])
    asyncio.run(send_content(content, target, progress, size, in_flight))
    assert progress.marks > 0
    return progress.bytes


@pytest.mark.parametrize(
    "store",
    [
        S3(),
        S3("s3a"),
        Google(),
        Google("gcs"),
        *(Azure(name) for name in ("abfs", "abfss", "az")),
        Sftp("sftp"),
        Sftp("smb"),
    ],
    ids=lambda store: str(store.protocol),
)
def test_large_file_arrives_whole_in_each_store_and_nothing_else_does(store: Store) -> None:
    assert sent(store) == len(DATA)
    assert store.objects == {PATH: DATA}
    if isinstance(store, S3):
        assert store.uploads == {}
        assert store.requests == 1 + 11 + 1
    if isinstance(store, Google):
        assert store.requests == 11 + 1
    if isinstance(store, Sftp):
        assert store.file.pipelined is (store.protocol == "sftp")


@pytest.mark.parametrize("size", [1010, 2000])
def test_file_of_one_part_goes_up_by_one_request(size: int) -> None:
    store = Google()
    assert sent(store, size) == len(DATA)
    assert (store.objects, store.requests) == ({PATH: DATA}, 1)


@pytest.mark.parametrize("refused", [1, 2, 8, 12, 13])
def test_nothing_is_left_of_an_upload_to_s3_that_fails(refused: int) -> None:
    store = S3(refused=refused)
    with pytest.raises((ExceptionGroup, ConnectionResetError)):
        sent(store)
    assert (store.objects, store.uploads) == ({}, {})


@pytest.mark.parametrize("refused", [1, 8, 39, 40, 41, 42])
def test_nothing_is_left_of_an_upload_to_google_that_fails(refused: int) -> None:
    """Thirty-nine parts, two requests that compose them and one that composes these."""
    store = Google(refused=refused)
    with pytest.raises((ExceptionGroup, ConnectionResetError)):
        sent(store, 26)
    assert store.objects == {}


@pytest.mark.parametrize(("parts", "composed"), [(32, 1), (33, 3), (64, 3)])
def test_google_composes_in_levels_only_what_one_request_does_not_take(
    parts: int, composed: int
) -> None:
    store = Google()
    data = DATA[: 10 * parts]
    assert sent(store, 10, data=data) == len(data)
    assert store.objects == {PATH: data}
    assert store.requests == parts + composed


def test_two_uploads_of_one_file_at_once_do_not_meddle_with_each_others_parts() -> None:
    store = Google()
    target = Location(f"x://{PATH}", PATH, store)

    async def both() -> None:
        content = MemoryContent("data", [DATA])
        await asyncio.gather(
            *(send_content(content, target, TransferProgress(), 100, 1000) for _ in range(2))
        )

    asyncio.run(both())
    assert store.objects == {PATH: DATA}


@pytest.mark.parametrize(
    ("in_flight", "most"), [(0, 1), (199, 1), (299, 2), (1000, 10), (5000, PARALLEL)]
)
def test_no_more_parts_are_under_way_than_there_is_memory_for(in_flight: int, most: int) -> None:
    store = S3()
    sent(store, 100, in_flight, data=DATA * 2)
    assert store.most == most


def test_parts_are_a_byte_longer_where_a_byte_more_would_not_fit() -> None:
    assert part_bytes(MAX_PARTS * PART_BYTES) == PART_BYTES
    assert part_bytes(MAX_PARTS * PART_BYTES + 1) == PART_BYTES + 1
