"""Does a large file go up in as many parts at a time as a small one, in bounded memory?"""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.store.transfer import multipart
from orchestrator.store.transfer.multipart import (
    COMPOSE_AT_ONCE,
    IN_FLIGHT_BYTES,
    MAX_PARTS,
    PART_BYTES,
    REQUESTS_AT_ONCE,
    part_bytes,
    send_file,
)
from orchestrator.store.transfer.watchdog import TransferProgress

GIB = 1 << 30


@pytest.mark.parametrize("size", [1 * GIB, 32 * GIB, 50 * GIB, 150 * GIB])
def test_parts_of_a_large_file_fit_the_memory_as_often_as_those_of_a_small_one(size: int) -> None:
    assert IN_FLIGHT_BYTES // part_bytes(size) == IN_FLIGHT_BYTES // PART_BYTES == 4


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
    asyncio.run(send_file(path, target, TransferProgress(), 1024))
    return data


def test_thousands_of_parts_are_composed_in_levels_side_by_side_and_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multipart, "IN_FLIGHT_BYTES", 4 * 1024)
    google = Google()
    data = sent(google, tmp_path, 2100)
    assert google.objects == {"b/data": data}
    assert google.most == {"part": 4, "merge": REQUESTS_AT_ONCE, "delete": REQUESTS_AT_ONCE}
    assert google.merges == 66 + 3 + 1


def test_part_that_cannot_be_taken_away_costs_a_little_space_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    google = Google(refused="00007")
    data = sent(google, tmp_path, 40)
    assert google.objects["b/data"] == data
    assert len(google.objects) == 2
