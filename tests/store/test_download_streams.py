"""How many streams fetch a file, what does each of them show, and what ends them all?"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.errors import SourceError
from orchestrator.store.objects.traffic import MOVED
from orchestrator.store.transfer import download as downloading
from orchestrator.store.transfer.download import download
from orchestrator.store.transfer.work_stealing import Ramp
from tests.store.downloads import DATA, Client, Direct, file_of

pytestmark = pytest.mark.usefixtures("no_waits_of_downloads")
WITHIN_S = 10.0


class Shown:
    """Takes what streams are shown, by where they began."""

    def __init__(self) -> None:
        self.streams: dict[int, bytes] = {}

    def consumer(self, position: int) -> Callable[[memoryview], None]:
        def show(data: memoryview) -> None:
            self.streams[position] = self.streams.get(position, b"") + data

        return show


@pytest.mark.parametrize("directly", [True, False])
def test_every_byte_is_shown_once_by_the_stream_that_brought_it(
    monkeypatch: pytest.MonkeyPatch, copy: Path, direct: Direct, directly: bool
) -> None:
    direct.most = 99
    if not directly:
        monkeypatch.setattr(downloading, "link_to", lambda location: None)
        monkeypatch.setattr(downloading, "RANGE_BYTES", 400)
    shown: Any = Shown()
    range_bytes = 400 if directly else None
    download(file_of(Client()), copy, range_bytes=range_bytes, arriving=shown)
    assert shown.streams == {0: DATA[:400], 400: DATA[400:800], 800: DATA[800:]}


class Counted(Ramp):
    """Wants so many streams more with each look, and keeps what it is told."""

    def __init__(self, most: int, more: int = 1) -> None:
        super().__init__(most)
        self.more = more
        self.looks: list[tuple[Any, ...]] = []
        self.enough = threading.Event()

    def look(
        self, now_s: float, come_bytes: int, left_bytes: int, *, waited_s: float, flowing: bool
    ) -> None:
        self.looks.append((now_s, come_bytes, left_bytes, waited_s, flowing))
        self.streams = min(self.most, self.streams + self.more)
        if len(self.looks) >= 5:
            self.enough.set()


def test_ramp_says_how_many_streams_there_are_and_hears_how_it_goes(
    monkeypatch: pytest.MonkeyPatch, copy: Path, direct: Direct
) -> None:
    """Three streams share a file that begins as one, and nothing comes before the fifth look."""
    ticks = itertools.count(100)
    monkeypatch.setattr(downloading, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
    monkeypatch.setattr(downloading, "SMALLEST_BYTES", 100)
    ramp = Counted(3)
    together = threading.Barrier(3)

    def waits(request: int) -> None:
        if request <= 3:
            together.wait(WITHIN_S)
            assert ramp.enough.wait(WITHIN_S)

    direct.answer = waits
    download(file_of(Client()), copy, ramp=ramp)
    assert copy.read_bytes() == DATA
    assert {start for start, _ in direct.asked[:3]} == {0, 250, 500}
    first, last = ramp.looks[0], ramp.looks[-1]
    assert first == (101.0, 0, 1000, 0.0, False)
    came = next(look for look in ramp.looks if look[1])
    assert came[3] == came[0] - 100.0
    assert last[1:] == (1000, 0, came[3], True)


def test_ramp_that_has_enough_of_one_stream_gets_no_other(
    monkeypatch: pytest.MonkeyPatch, copy: Path, direct: Direct
) -> None:
    monkeypatch.setattr(downloading, "SMALLEST_BYTES", 100)
    ramp = Counted(3, more=0)

    def waits_for_looks(request: int) -> None:
        assert ramp.enough.wait(WITHIN_S)

    direct.answer = waits_for_looks
    download(file_of(Client()), copy, ramp=ramp)
    assert direct.asked == [(0, 1000)]


def test_ranges_that_are_told_have_as_many_streams_as_are_told_from_the_beginning(
    copy: Path,
) -> None:
    """Whatever earlier files have taught."""
    together = threading.Barrier(40)

    def spoil(data: bytes) -> bytes:
        together.wait(WITHIN_S)
        return data

    ramp = Counted(3)
    download(file_of(Client(spoil)), copy, range_bytes=25, parallel=40, ramp=ramp)
    assert copy.read_bytes() == DATA
    assert ramp.looks == []


@pytest.fixture
def failed(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """What tells the other streams that one has failed."""
    event = threading.Event()
    monkeypatch.setattr(downloading, "threading", SimpleNamespace(Event=lambda: event))
    return event


def test_first_failure_ends_the_other_streams(copy: Path, failed: threading.Event) -> None:
    """One of two refuses while the other waits for it; nothing more is asked for then."""

    def spoil(data: bytes) -> bytes:
        if data == DATA[:400]:
            raise PermissionError("no")
        assert failed.wait(WITHIN_S)
        return data

    client = Client(spoil)
    with pytest.raises(SourceError, match="no permission"):
        download(file_of(client), copy, range_bytes=400, parallel=2)
    assert client.asked in ([(0, 400)], [(0, 400), (400, 800)], [(400, 800), (0, 400)])


def test_stream_that_fails_after_another_is_not_tried_again(
    copy: Path, failed: threading.Event
) -> None:
    """Else a disk that is full would be told only once a silent store has had all its tries."""
    together = threading.Barrier(2)

    def spoil(data: bytes) -> bytes:
        if not failed.is_set():
            together.wait(WITHIN_S)
        if data == DATA[:500]:
            raise PermissionError("no")
        assert failed.wait(WITHIN_S)
        raise ConnectionResetError("reset")

    client = Client(spoil)
    with pytest.raises(SourceError, match="no permission"):
        download(file_of(client), copy, range_bytes=500, parallel=2)
    assert sorted(client.asked) == [(0, 500), (500, 1000)]


def test_what_comes_after_a_failure_is_not_written(
    copy: Path, direct: Direct, failed: threading.Event
) -> None:
    together = threading.Barrier(2)

    def answer(request: int) -> None:
        together.wait(WITHIN_S)
        if direct.asked[request - 1][0] == 0:
            raise PermissionError("no")
        assert failed.wait(WITHIN_S)

    direct.answer = answer
    before = MOVED.size_bytes
    with pytest.raises(SourceError, match="no permission"):
        download(file_of(Client()), copy, range_bytes=500, parallel=2)
    assert copy.read_bytes() == bytes(1000)
    assert MOVED.size_bytes == before
