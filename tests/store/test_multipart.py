"""Does a large file go up in as many parts at a time as a small one, in bounded memory?"""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import google_crc32c
import pytest
import s3fs

from orchestrator.store.objects.content import FileContent, MemoryContent, Reader
from orchestrator.store.transfer.multipart import (
    COMPOSE_AT_ONCE,
    IN_FLIGHT_BYTES,
    MAX_PARTS,
    PART_BYTES,
    REQUESTS_AT_ONCE,
    part_bytes,
    send_content,
)
from orchestrator.store.transfer.upload import upload
from orchestrator.store.transfer.watchdog import TransferProgress
from tests.servers.object_stores import HttpStore

GIB = 1 << 30


@pytest.mark.parametrize("size", [1 * GIB, 32 * GIB, 50 * GIB, 150 * GIB])
def test_parts_of_a_large_file_fit_the_memory_as_often_as_those_of_a_small_one(size: int) -> None:
    assert IN_FLIGHT_BYTES // part_bytes(size) == IN_FLIGHT_BYTES // PART_BYTES == 10


@pytest.mark.parametrize("size", [50 * GIB, 4096 * GIB])
def test_parts_are_no_more_than_a_store_takes(size: int) -> None:
    assert -(-size // part_bytes(size)) <= MAX_PARTS


class Google:
    """The calls that an upload makes of gcsfs, counted; objects are bytes."""

    def __init__(self, refused: str = "") -> None:
        self.objects: dict[str, bytes] = {}
        self.at_once: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.refused, self.merges = refused, 0

    async def _counted(self, what: str) -> None:
        self.at_once[what] = self.at_once.get(what, 0) + 1
        self.most[what] = max(self.most.get(what, 0), self.at_once[what])
        for _ in range(3):
            await asyncio.sleep(0)
        self.at_once[what] -= 1

    async def _pipe_file(self, name: str, data: bytes) -> None:
        await self._counted("part")
        self.objects[name] = data

    async def _merge(self, name: str, parts: list[str]) -> None:
        assert len(parts) <= COMPOSE_AT_ONCE
        await self._counted("merge")
        self.merges += 1
        self.objects[name] = b"".join(self.objects[part] for part in parts)

    async def _rm_file(self, name: str) -> None:
        await self._counted("delete")
        if self.refused and name.endswith(self.refused):
            raise OSError("refused")
        del self.objects[name]


def sent(google: Google, tmp_path: Path, parts: int) -> bytes:
    data = bytes(range(256)) * (4 * parts)
    path = tmp_path / "data"
    path.write_bytes(data)
    target: Any = SimpleNamespace(fs=google, path="b/data", protocol="gs")
    asyncio.run(send_content(FileContent(path), target, TransferProgress(), 1024, 10 * 1024))
    return data


def test_thousands_of_parts_are_composed_in_levels_side_by_side_and_taken_away(
    tmp_path: Path,
) -> None:
    google = Google()
    data = sent(google, tmp_path, 2100)
    assert google.objects == {"b/data": data}
    assert google.most == {"part": 4, "merge": REQUESTS_AT_ONCE, "delete": REQUESTS_AT_ONCE}
    assert google.merges == 66 + 3 + 1


class S3:
    """The calls that an upload makes of s3fs; the parts under way are counted."""

    def __init__(self) -> None:
        self.parts: dict[int, bytes] = {}
        self.now = self.most = 0

    def split_path(self, path: str) -> tuple[str, str, None]:
        bucket, _, key = path.partition("/")
        return bucket, key, None

    async def _call_s3(self, method: str, **named: Any) -> dict[str, str]:
        if method == "upload_part":
            self.now += 1
            self.most = max(self.most, self.now)
            for _ in range(3):
                await asyncio.sleep(0)
            self.now -= 1
            self.parts[named["PartNumber"]] = named["Body"]
        return {"UploadId": "1", "ETag": "1"}


def test_large_file_takes_as_many_connections_of_s3_as_its_client_does() -> None:
    store, data = S3(), bytes(range(256)) * (16 << 12)
    target: Any = SimpleNamespace(fs=store, path="b/data", protocol="s3")
    content = MemoryContent("data", [data])
    parts = len(data) // 64
    asyncio.run(
        send_content(
            content, target, TransferProgress(), parts, parts * IN_FLIGHT_BYTES // PART_BYTES
        )
    )
    assert b"".join(store.parts[number] for number in sorted(store.parts)) == data
    assert len(store.parts) == 64
    assert (
        store.most == s3fs.S3FileSystem(anon=True, skip_instance_cache=True).max_concurrency == 10
    )


def test_part_that_cannot_be_taken_away_costs_a_little_space_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    google = Google(refused="00007")
    data = sent(google, tmp_path, 40)
    assert google.objects["b/data"] == data
    assert len(google.objects) == 2


class Watched(MemoryContent):
    """Keeps the greatest range that was asked for at once."""

    longest = 0

    def read(self, start: int, size: int) -> bytes:
        data = super().read(start, size)
        type(self).longest = max(self.longest, len(data))
        return data


@pytest.mark.slow
@pytest.mark.http
@pytest.mark.turns(3)
def test_state_in_memory_goes_up_without_a_copy_in_memory_or_on_disk(
    http_store: HttpStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four files of 192 MiB at once: what this process grows by is measured by the kernel."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "no such directory"))
    block = bytes(range(256)) * 4096
    contents = [
        Watched(f"m-1.data-{shard:05d}-of-00004", [block[shard:], *[block] * 191])
        for shard in range(4)
    ]
    upload([MemoryContent("warm", [block])], http_store.direct)
    Path("/proc/self/clear_refs").write_text("5")  # the greatest size is counted anew
    before = _size("VmRSS")
    records = upload(contents, http_store.direct)
    grown = _size("VmHWM") - before
    # Clients copy each part that is in flight into their requests: gcsfs has four of it at a time
    assert grown <= 2.5 * IN_FLIGHT_BYTES < 0.6 * sum(content.size_bytes for content in contents)
    assert Watched.longest == PART_BYTES
    for record, content in zip(records, contents, strict=True):
        info = http_store.direct.child(record.name).info()
        assert info is not None
        assert info.size_bytes == content.size_bytes == record.size_bytes
        assert info.location.read_bytes(record.size_bytes - 1000) == block[-1000:]


def _size(field: str) -> int:
    (line,) = (
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith(f"{field}:")
    )
    return int(line.split()[1]) * 1024


def test_pieces_of_memory_are_read_as_one_file_whatever_the_range() -> None:
    pieces: list[bytes | memoryview] = [b"abc", b"", memoryview(b"defgh"), b"i"]
    content = MemoryContent("file", pieces)
    whole = b"abcdefghi"
    for start in range(len(whole) + 2):
        for size in range(len(whole) + 2):
            assert content.read(start, size) == whole[start : start + size]
    assert content.record().crc32c == google_crc32c.value(whole)
    assert MemoryContent("empty", []).read(0, 5) == b""


def test_content_that_a_client_reads_as_a_file_may_be_sought_in() -> None:
    reader = Reader(MemoryContent("file", [b"abc", b"def"]))
    assert (reader.read(4), reader.tell(), reader.read(), reader.read(1)) == (
        b"abcd",
        4,
        b"ef",
        b"",
    )
    assert (reader.seek(-2, io.SEEK_END), reader.read(1), reader.seek(-4, io.SEEK_CUR)) == (
        4,
        b"e",
        1,
    )
    assert reader.read() == b"bcdef"
