"""Does a file come whole, whatever breaks off on the way, and is each failure told as what it is?"""

from __future__ import annotations

import errno
import http.client
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import stamina

from orchestrator.errors import OrchestratorError, OutputError, SourceError, StorageUnavailable
from orchestrator.store.objects.location import FileInfo, Location, open_location
from orchestrator.store.objects.traffic import MOVED
from orchestrator.store.transfer import download as downloading
from orchestrator.store.transfer.download import download
from orchestrator.store.transfer.http_range import Link, NotDirect, NotWritten
from tests.store.downloads import DATA, LINK, Client, Direct, file_of

pytestmark = pytest.mark.usefixtures("no_waits_of_downloads")


def test_local_file_is_copied_and_counts_as_moved(tmp_path: Path, copy: Path) -> None:
    (tmp_path / "file").write_bytes(DATA)
    before = MOVED.size_bytes
    download(FileInfo("file", open_location(str(tmp_path / "file")), len(DATA)), copy)
    assert copy.read_bytes() == DATA
    assert MOVED.size_bytes - before == len(DATA)


@pytest.mark.parametrize("size_bytes", [len(DATA) - 1, len(DATA) + 1])
def test_local_file_that_has_changed_is_refused(
    tmp_path: Path, copy: Path, size_bytes: int
) -> None:
    (tmp_path / "file").write_bytes(DATA)
    said = f"file changed from {size_bytes} to 1000 bytes while it was read"
    with pytest.raises(SourceError, match=said) as told:
        download(FileInfo("file", open_location(str(tmp_path / "file")), size_bytes), copy)
    assert told.value.remedy == "Try again"


def test_empty_file_is_made_and_nothing_asked_for(copy: Path) -> None:
    client = Client()
    copy.write_bytes(b"older")
    download(file_of(client, 0), copy)
    assert copy.read_bytes() == b""
    assert client.asked == []


@pytest.mark.parametrize("range_bytes", [300, None])
def test_client_is_asked_for_one_range_after_the_other_and_all_of_them_count(
    monkeypatch: pytest.MonkeyPatch, copy: Path, range_bytes: int | None
) -> None:
    monkeypatch.setattr(downloading, "RANGE_BYTES", 300)
    client, before = Client(), MOVED.size_bytes
    download(file_of(client), copy, range_bytes=range_bytes, parallel=1)
    assert copy.read_bytes() == DATA
    assert client.asked == [(0, 300), (300, 600), (600, 900), (900, 1000)]
    assert MOVED.size_bytes - before == len(DATA)


def test_client_holds_a_small_range_at_a_time_however_long_the_segment(
    monkeypatch: pytest.MonkeyPatch, copy: Path
) -> None:
    monkeypatch.setattr(downloading, "RANGE_BYTES", 400)
    client = Client()
    download(file_of(client), copy, range_bytes=900, parallel=1)
    assert copy.read_bytes() == DATA
    assert client.asked == [(0, 400), (400, 800), (800, 900), (900, 1000)]


@pytest.mark.parametrize(
    ("failure", "tries"),
    [
        (lambda data: data[:-1], 3),
        (lambda data: b"", 3),
        (lambda data: _raise(ConnectionResetError("reset")), 3),
        (lambda data: _raise(StorageUnavailable("busy", remedy="wait")), 3),
        (lambda data: _raise(PermissionError("no")), 1),
    ],
)
def test_range_is_tried_as_often_as_it_may_where_that_can_help(
    copy: Path, failure: Callable[[bytes], bytes], tries: int
) -> None:
    client = Client(failure)
    with pytest.raises(OrchestratorError):
        download(file_of(client), copy, attempts=3)
    assert client.asked == [(0, 1000)] * tries
    left = iter([failure] * (tries - 1))
    client = Client(lambda data: next(left, bytes)(data))
    download(file_of(client), copy, attempts=3)
    assert copy.read_bytes() == DATA


def _raise(error: Exception) -> bytes:
    raise error


def test_answer_of_the_client_that_is_short_is_told_with_its_place(copy: Path) -> None:
    client = Client(lambda data: data[:7] if data == DATA[600:900] else data)
    said = "plain://bucket/file: 7 bytes came for the 300 from 600 on"
    with pytest.raises(StorageUnavailable, match=said):
        download(file_of(client), copy, range_bytes=300, attempts=1)


def test_busy_store_is_given_time_and_no_clock_ends_the_tries(
    copy: Path, waits: list[float]
) -> None:
    """A try alone may take minutes, which is no reason to make fewer of them."""
    client = Client(lambda data: _raise(ConnectionResetError("reset")))
    with stamina.set_testing(False), pytest.raises(StorageUnavailable):
        download(file_of(client), copy, attempts=14)
    assert len(client.asked) == len(waits) + 1 == 14
    assert waits[:3] == [0.1, 0.2, 0.4]
    assert max(waits) == waits[-1] == 10.0


@pytest.fixture
def deadlines(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, int]]:
    """Deadline and attempts of each place that's read, which never answers."""
    told: list[tuple[float, int]] = []

    def silent(self: Location, *_: Any) -> bytes:
        told.append((self.deadline_s, self.attempts))
        raise TimeoutError

    monkeypatch.setattr(Location, "read_bytes", silent)
    return told


def test_client_that_tells_no_silence_from_slowness_has_twice_as_long_at_each_try(
    copy: Path, deadlines: list[tuple[float, int]]
) -> None:
    with pytest.raises(StorageUnavailable):
        download(file_of(Client()), copy, stall_s=1.5, attempts=4)
    assert deadlines == [(1.5, 1), (3.0, 1), (6.0, 1), (12.0, 1)]


def test_file_comes_whole_by_one_request_of_the_direct_way(
    monkeypatch: pytest.MonkeyPatch, copy: Path, direct: Direct
) -> None:
    monkeypatch.setattr(downloading, "RANGE_BYTES", 300)
    client, before = Client(), MOVED.size_bytes
    download(file_of(client), copy, stall_s=7.0)
    assert copy.read_bytes() == DATA
    assert (direct.asked, direct.given) == ([(0, 1000)], [(LINK, 7.0)])
    assert client.asked == []
    assert MOVED.size_bytes - before == len(DATA)


def test_answer_that_breaks_off_costs_no_try_and_the_next_begins_where_it_ended(
    copy: Path, direct: Direct
) -> None:
    direct.most = 150
    download(file_of(Client()), copy, attempts=1)
    assert copy.read_bytes() == DATA
    assert direct.asked == [(start, 1000) for start in range(0, 1000, 150)]


def test_answer_that_breaks_off_for_good_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, copy: Path, direct: Direct
) -> None:
    def came_and_full(
        link: Link, descriptor: int, start: int, end: int, stall_s: float, came: Any
    ) -> None:
        direct.asked.append((start, end))
        came(memoryview(DATA)[:10])
        raise NotWritten(OSError(errno.ENOSPC, "full"))

    monkeypatch.setattr(downloading, "read_range", came_and_full)
    with pytest.raises(OutputError, match="no space left to write"):
        download(file_of(Client()), copy, attempts=3)
    assert direct.asked == [(0, 1000)]


def test_direct_way_that_closes_is_left_for_the_clients_from_there_on(
    copy: Path, direct: Direct
) -> None:
    def closes(request: int) -> None:
        if request == 2:
            raise NotDirect("HTTP 403")

    direct.answer = closes
    client = Client()
    download(file_of(client), copy, range_bytes=250, parallel=1)
    assert copy.read_bytes() == DATA
    assert direct.asked == [(0, 250), (250, 500)]
    assert client.asked == [(250, 500), (500, 750), (750, 1000)]


def test_client_that_takes_over_from_the_direct_way_has_the_plain_deadline_at_first(
    copy: Path, direct: Direct, deadlines: list[tuple[float, int]]
) -> None:
    def closes(request: int) -> None:
        if request == 3:
            raise NotDirect("HTTP 403")
        raise ConnectionResetError

    direct.answer = closes
    with pytest.raises(StorageUnavailable):
        download(file_of(Client()), copy, stall_s=1.0, attempts=4)
    # The third try is the client's first; the fourth has the time of a fourth
    assert deadlines == [(1.0, 1), (8.0, 1)]


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (
            http.client.BadStatusLine("x"),
            StorageUnavailable,
            "didn't read plain://bucket/file: .*x",
        ),
        (NotWritten(OSError(errno.ENOSPC, "n")), OutputError, "no space left to write .*/copy: "),
        (NotWritten(OSError(errno.EIO, "n")), StorageUnavailable, "didn't write .*/copy: "),
        (OSError(errno.ENOSPC, "n"), OutputError, "no space left to write .*/copy: "),
        (OSError(errno.EDQUOT, "n"), OutputError, "no space left to write .*/copy: "),
        (OSError(errno.EBUSY, "n"), StorageUnavailable, "didn't read plain://bucket/file: "),
        (PermissionError("n"), SourceError, "no permission to read plain://bucket/file: "),
    ],
)
def test_failure_is_told_of_the_side_that_it_is_of(
    copy: Path, direct: Direct, error: Exception, kind: type[Exception], said: str
) -> None:
    def fails(request: int) -> None:
        raise error

    direct.answer = fails
    with pytest.raises(kind, match=said) as told:
        download(file_of(Client()), copy, attempts=2)
    assert told.value.__cause__ is error
    assert len(direct.asked) == (2 if downloading._passing(error) else 1)


def test_place_that_cannot_be_made_is_told_as_such(copy: Path) -> None:
    with pytest.raises(OrchestratorError):
        download(file_of(Client()), copy / "below" / "nothing")
