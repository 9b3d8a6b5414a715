"""Are the bytes of a file that goes up read as they are, from wherever they lie?"""

from __future__ import annotations

import io
import random
from pathlib import Path

import google_crc32c
import pytest

from orchestrator.store.objects import content as contents
from orchestrator.store.objects.content import (
    Content,
    FileContent,
    MemoryContent,
    Reader,
    chunks_of,
    describe,
)
from orchestrator.store.objects.manifest import FileRecord
from orchestrator.store.objects.traffic import MOVED

DATA = random.Random(0).randbytes(50)
RECORD = FileRecord(name="m-5.meta", size_bytes=50, crc32c=google_crc32c.value(DATA))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m-5.meta"
    path.write_bytes(DATA)
    return path


def in_memory(crc32c: int | None = None) -> MemoryContent:
    return MemoryContent("m-5.meta", [DATA[:20], DATA[20:]], crc32c)


@pytest.mark.parametrize("where", ["file", "memory"])
def test_content_is_read_a_chunk_at_a_time_to_its_end(
    monkeypatch: pytest.MonkeyPatch, file: Path, where: str
) -> None:
    monkeypatch.setattr(contents, "CHUNK_BYTES", 12)
    content: Content = FileContent(file) if where == "file" else in_memory()
    assert [len(chunk) for chunk in chunks_of(content)] == [12, 12, 12, 12, 2]
    assert b"".join(chunks_of(content)) == DATA
    assert (content.name, content.size_bytes, content.record()) == ("m-5.meta", 50, RECORD)
    assert content.read(45, 100) == DATA[45:]
    assert content.read(50, 1) == b""


def test_local_file_that_is_described_counts_as_moved(file: Path) -> None:
    before = MOVED.size_bytes
    assert describe(file) == RECORD
    assert MOVED.size_bytes - before == len(DATA)


def test_sum_that_is_known_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert in_memory(crc32c=7).record().crc32c == 7
    content = in_memory()
    assert content.record() == RECORD
    monkeypatch.setattr(contents, "chunks_of", None)
    assert content.record() == RECORD


def test_content_is_a_file_to_read_from_for_who_wants_one() -> None:
    reader = Reader(in_memory())
    assert reader.readable()
    assert reader.seekable()
    assert not reader.writable()
    assert (reader.seek(45), reader.read()) == (45, DATA[45:])
    assert (reader.seek(0), reader.read(3)) == (0, DATA[:3])
    assert (reader.seek(2, io.SEEK_CUR), reader.tell(), reader.read(1)) == (5, 5, DATA[5:6])
    assert (reader.seek(-1, io.SEEK_END), reader.read()) == (49, DATA[49:])
