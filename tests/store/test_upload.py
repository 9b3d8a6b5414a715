"""Does a file count as uploaded only where the store says that it's whole, and what is tried again?"""

from __future__ import annotations

import base64
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import pytest
import stamina
from fsspec.asyn import get_loop

from orchestrator.errors import OrchestratorError, OutputError, StorageUnavailable
from orchestrator.store.objects.content import Content, MemoryContent
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.objects.manifest import FileRecord
from orchestrator.store.objects.traffic import MOVED
from orchestrator.store.transfer import upload as uploading
from orchestrator.store.transfer.upload import FILES_AT_ONCE, upload
from orchestrator.store.transfer.watchdog import TransferProgress

DATA = random.Random(0).randbytes(1000)
RECORD = FileRecord(name="m-5.index", size_bytes=len(DATA), crc32c=google_crc32c.value(DATA))


@pytest.fixture(autouse=True)
def without_waits() -> Iterator[None]:
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


class Store:
    """A store whose client has an event loop. ``spoil`` maps the number of an upload to what becomes
    of it.
    """

    async_impl, asynchronous = True, False

    def __init__(self, protocol: Any = "plain", **told: Any) -> None:
        self.protocol, self.told = protocol, told
        self.loop = get_loop()
        self.objects: dict[str, bytes] = {}
        self.spoil: dict[int, Exception | bytes] = {}
        self.tries = 0

    async def _pipe_file(self, path: str, data: bytes) -> None:
        self.tries += 1
        spoilt = self.spoil.get(self.tries, data)
        if isinstance(spoilt, Exception):
            raise spoilt
        self.objects[path] = spoilt

    async def _info(self, path: str) -> dict[str, Any]:
        if path not in self.objects:
            raise FileNotFoundError(path)
        return {"name": path, "size": len(self.objects[path]), **self.told}

    def directory(self) -> Location:
        return Location("plain://bucket/run", "bucket/run", self)


def content(name: str = "m-5.index", data: bytes = DATA) -> MemoryContent:
    return MemoryContent(name, [data])


def test_files_go_up_under_their_names_and_are_told_in_their_order(tmp_path: Path) -> None:
    store = Store()
    (tmp_path / "m-5.meta").write_bytes(b"graph")
    records = upload([content(), tmp_path / "m-5.meta"], store.directory())
    assert records == (
        RECORD,
        FileRecord(name="m-5.meta", size_bytes=5, crc32c=google_crc32c.value(b"graph")),
    )
    assert store.objects == {"bucket/run/m-5.index": DATA, "bucket/run/m-5.meta": b"graph"}


def crc(data: bytes) -> str:
    """As Google tells it."""
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


@pytest.mark.parametrize(
    ("protocol", "told", "whole"),
    [
        ("gs", {"crc32c": crc(DATA)}, True),
        ("gcs", {"crc32c": crc(DATA)}, True),
        ("gs", {"crc32c": crc(b"another")}, False),
        ("gcs", {"crc32c": crc(b"another")}, False),
        ("gs", {"crc32c": None}, True),
        ("gs", {}, True),
        # Another store may mean something else by the word
        ("plain", {"crc32c": crc(b"another")}, True),
        ("plain", {"size": "1000"}, True),
        ("plain", {"size": 2000}, False),
        ("plain", {"size": None}, False),
    ],
)
def test_file_counts_only_where_the_stores_own_size_and_checksum_agree(
    protocol: str, told: dict[str, Any], whole: bool
) -> None:
    store = Store(protocol, **told)
    if whole:
        assert upload([content()], store.directory(), attempts=1) == (RECORD,)
        return
    said = (
        "has another checksum than what was sent"
        if "crc32c" in told
        else f"has {told['size']} of 1000 bytes after its upload"
    )
    with pytest.raises(StorageUnavailable, match=rf"plain://bucket/run/m-5\.index {said}"):
        upload([content()], store.directory(), attempts=2)
    assert store.tries == 2


def test_file_that_holds_nothing_may_have_no_size() -> None:
    store = Store(size=None)
    assert upload([content(data=b"")], store.directory())[0].size_bytes == 0


@pytest.mark.parametrize(
    ("spoilt", "tries"),
    [
        (ConnectionResetError("reset"), 3),
        (DATA[:10], 3),
        (DATA + DATA, 3),
        (PermissionError("no"), 1),
    ],
)
def test_file_is_sent_again_as_often_as_it_may_where_that_can_help(
    spoilt: Exception | bytes, tries: int
) -> None:
    store = Store()
    store.spoil = dict.fromkeys(range(1, tries), spoilt)
    assert upload([content()], store.directory(), attempts=3) == (RECORD,)
    assert store.tries == tries
    assert store.objects == {"bucket/run/m-5.index": DATA}
    store.spoil[tries + tries] = store.spoil[tries + 1] = store.spoil[tries + 2] = spoilt
    with pytest.raises(OrchestratorError, match=r"plain://bucket/run/m-5\.index") as told:
        upload([content()], store.directory(), attempts=3)
    assert store.tries == tries + tries
    assert told.value.details["action"] == "write"


def test_busy_store_is_given_time_and_no_clock_ends_the_tries(waits: list[float]) -> None:
    """A try alone may take minutes, which is no reason to make fewer of them."""
    store = Store()
    store.spoil = dict.fromkeys(range(1, 20), ConnectionResetError("reset"))
    with stamina.set_testing(False), pytest.raises(StorageUnavailable):
        upload([content()], store.directory(), attempts=14)
    assert store.tries == len(waits) + 1 == 14
    assert waits[:3] == [0.2, 0.4, 0.8]
    assert max(waits) == waits[-1] == 20.0


def test_failure_of_one_of_many_parts_is_told_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: Any) -> None:
        inner = ExceptionGroup("parts", [PermissionError("no"), ConnectionResetError("reset")])
        raise ExceptionGroup("parts", [inner, ConnectionResetError("reset")])

    monkeypatch.setattr(uploading, "send_content", fails)
    with pytest.raises(
        OutputError, match=r"no permission to write plain://bucket/run/m-5\.index"
    ) as told:
        upload([content()], Store().directory())
    assert isinstance(told.value.__cause__, PermissionError)
    assert isinstance(told.value.__cause__.__cause__, ExceptionGroup)


@pytest.mark.parametrize(
    ("sizes", "each"),
    [
        ([10], 4000),
        ([100], 4000),
        ([101], 4000),
        ([101, 101, 5], 2000),
        ([100, 101], 4000),
        ([101] * 3, 1333),
        ([101] * 6, 1000),
    ],
)
def test_large_files_share_the_memory_that_may_be_on_its_way(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int], each: int
) -> None:
    told: list[tuple[int, int]] = []
    real = uploading.send_content  # type: ignore[attr-defined]

    async def noted(
        content: Content, target: Location, progress: Any, part: int, flight: int
    ) -> None:
        told.append((part, flight))
        await real(content, target, progress, 10_000, flight)

    monkeypatch.setattr(uploading, "send_content", noted)
    files = [content(f"file{number}", DATA[:size]) for number, size in enumerate(sizes)]
    upload(files, Store().directory(), part_bytes=100, in_flight_bytes=4000)
    assert told == [(100, each)] * len(sizes)


def test_transfer_that_moves_nothing_for_as_long_as_it_may_is_begun_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[tuple[float, int]] = []

    async def stalls(work: Any, progress: TransferProgress, stall_s: float) -> None:
        told.append((stall_s, progress.bytes))
        if len(told) == 1:
            work.close()
            raise TimeoutError("no progress")
        await work
        told.append((stall_s, progress.bytes))

    monkeypatch.setattr(uploading, "watched", stalls)
    assert upload([content()], Store().directory(), stall_s=7.0) == (RECORD,)
    assert told == [(7.0, 0), (7.0, 0), (7.0, 1000)]


def test_several_files_go_up_at_a_time_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    together, now = threading.Barrier(FILES_AT_ONCE), list[str]()

    class Slow(MemoryContent):
        def record(self) -> FileRecord:
            now.append(self.name)
            assert len(now) <= FILES_AT_ONCE
            together.wait(10.0)
            together.wait(10.0)
            now.remove(self.name)
            together.wait(10.0)
            return super().record()

    files = [Slow(f"file{number}", [DATA]) for number in range(2 * FILES_AT_ONCE)]
    assert len(upload(files, Store().directory())) == 2 * FILES_AT_ONCE


@pytest.mark.parametrize("name", ["m-5.index", "m-5.data-00000-of-00001", "m-5.meta"])
def test_committed_checkpoint_is_never_written_over(name: str) -> None:
    store = Store()
    store.objects["bucket/run/m-5.manifest.json"] = b"{}"
    with pytest.raises(OutputError, match="plain://bucket/run/m-5 is committed already") as told:
        upload([content("other"), content(name)], store.directory())
    assert told.value.remedy == "Open a new generation: its directory is free"
    assert store.tries == 0
    upload([content("m-50.index"), content("m-5.txt")], store.directory())


def test_file_of_this_machine_is_there_whole_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    directory = open_location(str(tmp_path / "run" / "deeper"))
    before = MOVED.size_bytes
    assert upload([content()], directory) == (RECORD,)
    assert (tmp_path / "run" / "deeper" / "m-5.index").read_bytes() == DATA
    assert MOVED.size_bytes - before == len(DATA)

    class Fails(MemoryContent):
        def read(self, start: int, size: int) -> bytes:
            if start:
                raise OSError("gone")
            return super().read(start, 100)

        def record(self) -> FileRecord:
            return RECORD

    with pytest.raises(OrchestratorError):
        upload([Fails("m-5.index", [b"x" * 1000])], directory, attempts=1)
    assert [path.name for path in (tmp_path / "run" / "deeper").iterdir()] == ["m-5.index"]
    assert (tmp_path / "run" / "deeper" / "m-5.index").read_bytes() == DATA


def test_file_of_this_machine_has_reached_the_disk_before_it_has_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    flushed: list[tuple[bytes, bool]] = []

    def fsync(descriptor: int) -> None:
        place = Path(f"/proc/self/fd/{descriptor}").readlink()
        if place.is_file():
            flushed.append((place.read_bytes(), (tmp_path / "m-5.index").exists()))

    monkeypatch.setattr(uploading.os, "fsync", fsync)  # type: ignore[attr-defined]
    upload([content()], open_location(str(tmp_path)))
    assert flushed == [(DATA, False)]


def test_file_goes_into_a_store_without_an_event_loop_whose_directory_is_not_there() -> None:
    directory = open_location("memory://uploads/made/for/it")
    for _ in range(2):
        assert upload([content()], directory) == (RECORD,)
    assert directory.child("m-5.index").read_bytes() == DATA
