"""Are the tensors that somebody wants copied as they were saved, and the others left where they are?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.errors import CorruptCheckpoint
from orchestrator.store.bundle.bundle import BundleIndex, BundleTensor, read_index
from orchestrator.store.bundle.data_writer import DataWriter
from orchestrator.store.bundle.index_writer import index_bytes
from orchestrator.store.bundle.values import Values
from orchestrator.store.objects.location import FileInfo, Location, open_location
from orchestrator.store.objects.traffic import MOVED
from orchestrator.store.transfer import some_tensors
from orchestrator.store.transfer.part_files import (
    IN_FLIGHT_BYTES,
    PART_BYTES,
    send_index,
    send_part,
)
from orchestrator.store.transfer.some_tensors import fetch_tensors
from tests.fakes.bundles import write_bundle

CHUNK = 100
"""Read at once: small enough for these tensors to be large."""
# Of two data files each other tensor is in the second
TENSORS: dict[str, Any] = {
    "a": np.arange(5.0),
    "b": np.arange(25, dtype=np.float32),
    "c": np.arange(60.0).reshape(20, 3),
    "d": np.zeros((0, 3)),
    "e": [b"text " * 60, b"", b"more"],
    "f": np.int64(7),
    "g": np.arange(6.0),
    "h": np.arange(13.0),
    "i": np.float32(3),
}


class Asked:
    """The ranges that are asked for of a checkpoint, by file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ranges: list[tuple[str, int, int]] = []
        real = Location.read_bytes

        def read(place: Location, start: int, end: int) -> bytes:
            self.ranges.append((place.name, start, end))
            return real(place, start, end)

        monkeypatch.setattr(Location, "read_bytes", read)
        monkeypatch.setattr(some_tensors, "CHUNK_BYTES", CHUNK)


@pytest.fixture
def saved(tmp_path: Path) -> list[Path]:
    return write_bundle(tmp_path / "src", "m-5", TENSORS, shards=2)


def listed(paths: Sequence[Path]) -> tuple[BundleIndex, list[FileInfo]]:
    files = [FileInfo(path.name, open_location(str(path)), path.stat().st_size) for path in paths]
    return read_index(paths[0].read_bytes()), files


def held(directory: Path) -> dict[str, Any]:
    """What a checkpoint of one data file holds: type, shape and content."""
    index, files = listed([directory / f"m.{end}" for end in ("index", "data-00000-of-00001")])
    values = Values(index, files)
    return {
        key: (
            tensor.dtype,
            tensor.shape,
            values.strings(key) if tensor.dtype == "string" else b"".join(values.chunks(key)),
        )
        for key, tensor in index.entries.items()
    }


def wanted(keys: Collection[str]) -> dict[str, Any]:
    return {
        key: ("string", (3,), TENSORS[key])
        if key == "e"
        else (TENSORS[key].dtype.name, TENSORS[key].shape, TENSORS[key].tobytes())
        for key in keys
    }


@pytest.mark.parametrize("keys", ["abcdefghi", "a", "bd", "c", "ceg", "fh", "agi", "d", ""])
def test_copy_holds_what_is_wanted_as_it_was_saved_and_nothing_else(
    saved: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: str
) -> None:
    index, files = listed(saved)
    before = MOVED.size_bytes
    with monkeypatch.context() as patch:
        asked = Asked(patch)
        fetch_tensors(index, files, set(keys), tmp_path / "m")
    assert held(tmp_path) == wanted(keys)
    assert MOVED.size_bytes > before or not set(keys) - {"d"}
    size = {key: index.entries[key].size_bytes for key in TENSORS}
    strings = files[1].name, index.entries["e"].offset  # in one piece, however large
    for name, start, end in asked.ranges:
        assert end > start
        assert end - start <= CHUNK or (name, start) == strings
    assert sum(end - start for _, start, end in asked.ranges) >= sum(size[key] for key in keys)


def test_neighbours_come_in_one_request_and_a_large_tensor_in_several(
    saved: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the first data file: a, c, e, g and i, of 40, 480, 319, 48 and 4 bytes."""
    index, files = listed(saved)
    asked = Asked(monkeypatch)
    fetch_tensors(index, files, {"a", "c", "g", "i"}, tmp_path / "m")
    at = index.entries["g"].offset
    assert asked.ranges == [
        (files[1].name, 0, 40),
        *((files[1].name, start, min(start + CHUNK, 520)) for start in range(40, 520, CHUNK)),
        (files[1].name, at, at + 52),
    ]


def test_tensor_of_exactly_one_chunk_comes_with_one_request(
    saved: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, files = listed(saved)
    asked = Asked(monkeypatch)
    fetch_tensors(index, files, {"b"}, tmp_path / "m")
    assert asked.ranges == [(files[2].name, 0, CHUNK)]


@pytest.mark.parametrize(
    ("key", "cut", "said"),
    [
        ("a", False, "fails its checksum"),
        ("c", False, "fails its checksum"),
        ("i", True, "ends after 0 of 4 bytes"),
        ("h", True, "is cut off"),
    ],
)
def test_tensor_that_is_not_what_was_saved_is_told_by_file_and_name(
    saved: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    cut: bool,
    said: str,
) -> None:
    index, files = listed(saved)
    file = saved[1 + index.entries[key].shard]
    data = bytearray(file.read_bytes())
    if cut:
        del data[index.entries[key].offset :]
    else:
        data[index.entries[key].offset + 1] ^= 1
    file.write_bytes(data)
    monkeypatch.setattr(some_tensors, "CHUNK_BYTES", CHUNK)
    with pytest.raises(CorruptCheckpoint) as told:
        fetch_tensors(index, files, {key}, tmp_path / "m")
    assert told.value.message == f"{file.name}: tensor {key!r} {said}"
    assert told.value.remedy.startswith("Use another checkpoint, or `tfresume salvage`")
    assert told.value.details == {"file": file.name, "tensor": key}
    fetch_tensors(index, files, {"f"}, tmp_path / "m")  # nobody asks for the damaged one


def test_table_whose_rows_lie_in_two_data_files_is_copied_with_its_parts(tmp_path: Path) -> None:
    rows = np.arange(8.0).reshape(4, 2)
    reports = []
    for rank in range(2):
        with DataWriter(tmp_path / "s", rank, 2) as writer:
            extents = ((2 * rank, 2), (0, 2))
            writer.add_part("t", "float64", (4, 2), extents, [rows[2 * rank :][:2].tobytes()])
            reports.append(writer.close())
    (tmp_path / "s.index").write_bytes(index_bytes(reports))
    names = ("s.index", "s.data-00000-of-00002", "s.data-00001-of-00002")
    fetch_tensors(*listed([tmp_path / name for name in names]), {"t"}, tmp_path / "m")
    assert held(tmp_path) == {"t": ("float64", (4, 2), rows.tobytes())}


def test_tensors_of_v1_are_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = BundleIndex(
        "V1",
        1,
        {
            "n": BundleTensor("n", "float64", (2,)),
            "s": BundleTensor("s", "string", (2,)),
            "unwanted": BundleTensor("unwanted", "float64", (2,)),
        },
    )
    shards: list[FileInfo] = []

    class Tables:
        """The values of its tables."""

        def __init__(self, given: BundleIndex, files: Sequence[FileInfo]) -> None:
            assert given is index
            assert files is shards

        def chunks(self, key: str) -> Iterator[bytes]:
            assert key == "n"
            yield np.array([1.0]).tobytes()
            yield np.array([2.0]).tobytes()

        def strings(self, key: str) -> list[bytes]:
            assert key == "s"
            return [b"one", b"two"]

    monkeypatch.setattr(some_tensors, "Values", Tables)
    fetch_tensors(index, shards, {"s", "n"}, tmp_path / "m")
    assert held(tmp_path) == {
        "n": ("float64", (2,), np.array([1.0, 2.0]).tobytes()),
        "s": ("string", (2,), [b"one", b"two"]),
    }


def test_parts_of_two_ranks_and_the_index_over_them_are_one_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.store.transfer import part_files

    told: list[dict[str, int]] = []
    real = part_files.upload  # type: ignore[attr-defined]

    def noted(files: Any, directory: Location, **options: int) -> Any:
        told.append(options)
        return real(files, directory, **options)

    monkeypatch.setattr(part_files, "upload", noted)
    where, reports = open_location(str(tmp_path / "run")), []
    for rank in range(2):
        with DataWriter(tmp_path / "m", rank, 2) as writer:
            writer.add(f"w{rank}", "float64", (1,), [np.array([float(rank)]).tobytes()])
            reports.append(writer.close())
        (record,) = send_part([writer.data_file], where)
        assert (record.name, record.size_bytes) == (writer.data_file.name, 8)
    (record,) = send_index("m", reports[::-1], where)
    assert record.name == "m.index"
    index = read_index((tmp_path / "run" / "m.index").read_bytes())
    files = [
        where.child("m.index").info(),
        *(where.child(f"m.data-0000{rank}-of-00002").info() for rank in range(2)),
    ]
    values = Values(index, files)
    assert [b"".join(values.chunks(f"w{rank}")) for rank in range(2)] == [
        np.array([float(rank)]).tobytes() for rank in range(2)
    ]
    # A rank has little memory beside its rows
    assert told[:2] == [{"part_bytes": PART_BYTES, "in_flight_bytes": IN_FLIGHT_BYTES}] * 2
