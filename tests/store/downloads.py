"""What do the tests of downloads share? A client and a direct way that do what a test says."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.store.objects.location import FileInfo, Location
from orchestrator.store.transfer import download as downloading
from orchestrator.store.transfer.http_range import Link

DATA = random.Random(0).randbytes(1000)
LINK = Link("host", 80, False, "/a", {})
Ranges = list[tuple[int, int]]


class Client:
    """A store's client that answers with bytes of DATA, as long as ``spoil`` raises nothing and takes
    none away.
    """

    protocol, async_impl = "plain", False

    def __init__(self, spoil: Callable[[bytes], bytes] = bytes) -> None:
        self.asked: Ranges = []
        self.spoil = spoil

    def cat_file(self, path: str, start: int, end: int) -> bytes:
        assert path == "bucket/file"
        self.asked.append((start, end))
        return self.spoil(DATA[start:end])


def file_of(client: Client, size_bytes: int = len(DATA)) -> FileInfo:
    return FileInfo("file", Location("plain://bucket/file", "bucket/file", client), size_bytes)


class Direct:
    """The direct way to DATA: it brings at most ``most`` bytes an answer, or what ``answer`` says."""

    def __init__(self, most: int = len(DATA), answer: Callable[[int], None] | None = None) -> None:
        self.most, self.answer = most, answer
        self.asked: Ranges = []
        self.given: list[Any] = []

    def read_range(
        self,
        link: Link,
        descriptor: int,
        start: int,
        end: int,
        stall_s: float,
        came: Callable[[memoryview], int],
    ) -> None:
        self.asked.append((start, end))
        self.given.append((link, stall_s))
        if self.answer:
            self.answer(len(self.asked))
        data = memoryview(DATA)[start : min(end, start + self.most)]
        own = came(data)
        os.pwrite(descriptor, data[:own], start)
        if own == len(data) < end - start:
            raise ConnectionResetError("broke off")


def direct_way(monkeypatch: pytest.MonkeyPatch) -> Direct:
    """The one that downloads take from now on."""
    way = Direct()
    links = {"plain://bucket/file": LINK}
    monkeypatch.setattr(downloading, "link_to", lambda location: links[location.url])
    monkeypatch.setattr(downloading, "read_range", way.read_range)
    return way
