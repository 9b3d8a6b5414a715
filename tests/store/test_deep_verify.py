"""Does a deep check read every byte once, and name each tensor that isn't what was saved?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orchestrator.store.bundle import deep_verify
from orchestrator.store.bundle.bundle import BundleIndex, BundleTensor, read_index
from orchestrator.store.bundle.deep_verify import damaged_tensors, runs
from orchestrator.store.objects.location import FileInfo, Location, open_location
from tests.fakes.bundles import write_bundle
from tests.fakes.v1 import whole, write_v1
from tests.store.damage import flip

TENSORS = {
    "a": np.arange(10, dtype=np.int32),
    "b": np.arange(100, dtype=np.float32),
    "c": np.zeros(0, np.float32),
    "d": [b"x" * 90, b"words"],
    "e": np.arange(3, dtype=np.float64),
    "f": np.float16(2),
}


def _infos(paths: list[Path]) -> list[FileInfo]:
    infos = [open_location(str(path)).info() for path in paths]
    return [info for info in infos if info is not None]


def _written(directory: Path, shards: int) -> tuple[BundleIndex, list[Path]]:
    paths = write_bundle(directory, "m", TENSORS, shards)
    return read_index(paths[0].read_bytes()), paths


@pytest.fixture(autouse=True)
def _small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a few tensors each, so that the largest one is read in pieces."""
    monkeypatch.setattr(deep_verify, "LOCAL_RUN_BYTES", 64)
    monkeypatch.setattr(deep_verify, "RUN_BYTES", 1 << 20)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """What was read, in the order of files and places, once asked for: file, start and end."""
    found: list[tuple[str, int, int]] = []
    read = Location.read_bytes

    def noted(self: Location, start: int = 0, end: int | None = None) -> bytes:
        data = read(self, start, end)
        found.append((self.name, start, start + len(data)))
        return data

    monkeypatch.setattr(Location, "read_bytes", noted)
    return found


@pytest.mark.parametrize("shards", [1, 2])
def test_every_byte_of_a_good_checkpoint_is_read_once(
    tmp_path: Path, shards: int, asked: list[tuple[str, int, int]]
) -> None:
    index, paths = _written(tmp_path, shards)
    assert damaged_tensors(index, _infos(paths)) == []
    for path in paths[1:]:
        parts = sorted(part for part in asked if part[0] == path.name)
        assert [0, *(end for _, _, end in parts)] == [
            *(start for _, start, _ in parts),
            path.stat().st_size,
        ]
        texts = index.entries["d"].size_bytes
        assert [end - start for _, start, end in parts if end - start > 64] in ([], [texts])


@pytest.mark.parametrize("shards", [1, 2])
def test_tensor_with_any_byte_turned_over_is_named_with_its_file(
    tmp_path: Path, shards: int
) -> None:
    index, paths = _written(tmp_path, shards)
    for piece in index.pieces:
        path = paths[1 + piece.shard]
        good = path.read_bytes()
        for at in {piece.offset, piece.offset + piece.size_bytes // 2}:
            if piece.size_bytes:
                flip(path, at)
                (problem,) = damaged_tensors(index, _infos(paths))
                assert problem.startswith(f"{path.name}: tensor {piece.key!r} ")
                path.write_bytes(good)


def test_all_damaged_tensors_are_named_and_known_ones_arent_read(
    tmp_path: Path, asked: list[tuple[str, int, int]]
) -> None:
    index, paths = _written(tmp_path, 1)
    paths[1].write_bytes(bytes(byte ^ 1 for byte in paths[1].read_bytes()))
    file = paths[1].name
    found = damaged_tensors(index, _infos(paths))
    assert [found[0], found[1], *found[3:]] == [
        f"{file}: tensor '{key}' fails its checksum" for key in ("a", "b", "e", "f")
    ]
    assert found[2].startswith(f"{file}: tensor 'd' ")
    known = {index.entries[key] for key in ("a", "b", "d")}
    asked.clear()
    assert damaged_tensors(index, _infos(paths), known) == found[3:]
    assert sum(end - start for _, start, end in asked) == 24 + 2


def test_file_that_became_shorter_since_it_was_listed_is_cut_off(tmp_path: Path) -> None:
    index, paths = _written(tmp_path, 1)
    infos = _infos(paths)
    paths[1].write_bytes(paths[1].read_bytes()[:300])
    found = damaged_tensors(index, infos)
    assert found == [
        f"{paths[1].name}: tensor {said}"
        for said in (
            "'b' is cut off",
            f"'d' ends after 0 of {index.entries['d'].size_bytes} bytes",
            "'e' ends after 0 of 24 bytes",
            "'f' ends after 0 of 2 bytes",
        )
    ]


def test_stores_are_asked_for_larger_pieces_than_disks(
    tmp_path: Path, asked: list[tuple[str, int, int]]
) -> None:
    index, paths = _written(tmp_path, 1)
    place = open_location(f"memory://{tmp_path}")
    for path in paths:
        place.child(path.name).write_bytes(path.read_bytes())
    files = {file.name: file for file in place.list()}
    assert damaged_tensors(index, [files[path.name] for path in paths]) == []
    assert asked == [(paths[1].name, 0, paths[1].stat().st_size)]


def _at(offset: int, size: int, shard: int = 0) -> BundleTensor:
    return BundleTensor(f"{shard}/{offset}", "uint8", (size,), shard, offset, size)


@pytest.mark.parametrize(
    ("pieces", "sizes"),
    [
        ([], []),
        ([_at(0, 4), _at(4, 6)], [2]),
        ([_at(0, 4), _at(4, 7)], [1, 1]),
        ([_at(0, 4), _at(4, 0), _at(4, 40), _at(44, 1), _at(45, 9)], [2, 1, 2]),
        ([_at(0, 4), _at(0, 4, 1), _at(4, 6, 1), _at(10, 1, 1)], [1, 2, 1]),
        ([_at(100, 5), _at(105, 5)], [2]),
        ([_at(100, 5), _at(106, 5)], [1, 1]),
    ],
)
def test_neighbours_are_read_together_up_to_a_size(
    pieces: list[BundleTensor], sizes: list[int]
) -> None:
    index = BundleIndex("V2", 2, {piece.key + str(n): piece for n, piece in enumerate(pieces)})
    found = list(runs(index, 10))
    assert [len(run) for run in found] == sizes
    assert [piece for run in found for piece in run] == pieces


def test_file_is_not_asked_for_tensors_without_bytes(
    tmp_path: Path, asked: list[tuple[str, int, int]]
) -> None:
    """There is no range of none in HTTP."""
    paths = write_bundle(tmp_path, "m", {"nothing": np.zeros((0, 2), np.float32)})
    index = read_index(paths[0].read_bytes())
    assert damaged_tensors(index, _infos(paths)) == []
    assert asked == []


def test_tensors_that_are_known_to_be_good_are_in_no_run() -> None:
    pieces = [_at(0, 4), _at(4, 4), _at(8, 2)]
    index = BundleIndex("V2", 1, {piece.key: piece for piece in pieces})
    assert list(runs(index, 10, {pieces[1]})) == [[pieces[0], pieces[2]]]
    assert list(runs(index, 10, set(pieces))) == []


def test_shards_of_the_old_format_are_read_whole_and_the_damaged_one_is_named(
    tmp_path: Path,
) -> None:
    values = np.arange(8, dtype=np.float32)
    paths = write_v1(
        tmp_path, "old", [whole("a", values)], [whole("b", values)], [whole("c", values)]
    )
    index = BundleIndex("V1", 3, {})
    assert damaged_tensors(index, _infos(paths)) == []
    flip(paths[1], 60)
    assert damaged_tensors(index, _infos(paths)) == [
        f"{paths[1].name} fails its checksum in the block at byte 0"
    ]
    assert damaged_tensors(replace(index, num_shards=1), _infos(paths[:1])) == []
