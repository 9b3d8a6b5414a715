"""Does a quick check read little, and find data and index that aren't of one save?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.errors import CorruptCheckpoint
from orchestrator.store.bundle.bundle import read_index
from orchestrator.store.checkpoints import sample
from orchestrator.store.checkpoints.candidates import group
from orchestrator.store.checkpoints.sample import check_sample
from orchestrator.store.objects.location import Location, open_location
from tests.fakes.bundles import write_bundle
from tests.store.damage import flip

BIG = np.arange(100, dtype=np.float32)


class Checked:
    """A checkpoint of some tensors, and what a quick check of it reads.

    Attributes:
        paths: its data files.
    """

    def __init__(self, directory: Path, tensors: dict[str, Any], shards: int = 1) -> None:
        index, *self.paths = write_bundle(directory, "m-5", tensors, shards)
        self.index = read_index(index.read_bytes())
        self._place = open_location(str(directory))

    def step(self, key: str | None = "global_step") -> int | None:
        """What ``check_sample`` says."""
        found = {file.name: file for file in self._place.list()}
        candidate = group(self._place, found.values())["m-5"]
        return check_sample(candidate, self.index, [found[path.name] for path in self.paths], key)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """File, start and end of what was read."""
    found: list[tuple[str, int, int]] = []
    read = Location.read_bytes

    def noted(self: Location, start: int, end: int) -> bytes:
        found.append((self.name, start, end))
        return read(self, start, end)

    monkeypatch.setattr(Location, "read_bytes", noted)
    return found


@pytest.fixture
def large_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """No data file is small enough to be read whole, and no tensor of more than 40 bytes is read."""
    monkeypatch.setattr(sample, "WHOLE_SHARD_BYTES", 0)
    monkeypatch.setattr(sample, "SAMPLE_TENSOR_BYTES", 40)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (np.int64(41), 41),
        (np.int32(41), 41),
        (np.float32(41), 41),
        (np.float64(41.5), None),
        (np.uint8(41), None),
        (np.array([41]), None),
    ],
)
def test_step_comes_with_the_sample(tmp_path: Path, step: Any, said: int | None) -> None:
    checked = Checked(tmp_path, {"a": BIG, "global_step": step, "z": BIG})
    assert checked.step() == said
    assert (checked.step(None), checked.step("a")) == (None, None)


def test_small_files_are_read_whole_in_one_request_each(
    tmp_path: Path, asked: list[tuple[str, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "WHOLE_SHARD_BYTES", 400)
    tensors = {"a": BIG, "b": BIG[2:], "c": np.zeros(0), "d": np.int8(1)}
    more = {"global_step": np.int64(7), "z": np.int64(5)}
    checked = Checked(tmp_path, {**tensors, **more}, shards=4)
    assert [path.stat().st_size for path in checked.paths] == [408, 400, 0, 1]
    assert checked.step() == 7
    names = [path.name for path in checked.paths]
    assert sorted(asked) == [
        *((names[0], 0, 400), (names[0], 400, 408)),
        *((names[1], 0, 400), (names[3], 0, 1)),
    ]


def test_smallest_tensors_of_large_files_are_read_the_step_first(
    tmp_path: Path, asked: list[tuple[str, int, int]], large_files: None
) -> None:
    tensors: dict[str, Any] = {
        f"k{number:02d}": np.full(number, number, np.float32) for number in range(14)
    }
    tensors["none"] = np.zeros(0, np.float32)  # lies where the step does
    checked = Checked(tmp_path, {**tensors, "step": np.arange(5, dtype=np.int64)})
    assert checked.step("step") is None
    read = {(start, end) for _, start, end in asked}
    pieces = {
        one.key: (one.offset, one.offset + one.size_bytes) for one in checked.index.entries.values()
    }
    assert {key for key, place in pieces.items() if place in read} == {
        *("step", "k01", "k02", "k03", "k04", "k05", "k06", "k07")
    }
    assert len(asked) == 8


def test_tensors_beyond_a_size_are_not_read(
    tmp_path: Path, asked: list[tuple[str, int, int]], large_files: None
) -> None:
    tensors = {"a": np.zeros(41, np.int8), "b": np.zeros(40, np.int8), "c": np.int8(1)}
    checked = Checked(tmp_path, tensors)
    assert checked.step() is None
    name = checked.paths[0].name
    assert sorted(asked) == [(name, 41, 81), (name, 81, 82)]


def test_only_the_first_files_are_read_whole(
    tmp_path: Path, asked: list[tuple[str, int, int]]
) -> None:
    tensors = {f"k{number:02d}": np.array([number, 1], np.int8) for number in range(20)}
    checked = Checked(tmp_path, tensors, shards=10)
    assert checked.step() is None
    assert sorted(asked) == [
        *((path.name, 0, 4) for path in checked.paths[:8]),
        *((path.name, at, at + 2) for path in checked.paths[8:] for at in (0, 2)),
    ]


@pytest.mark.parametrize("key", ["a", "b", "global_step"])
def test_any_damage_in_the_sample_names_file_tensor_and_checkpoint(
    tmp_path: Path, key: str
) -> None:
    tensors = {"a": np.array([1, 2], np.float32), "b": BIG, "global_step": np.int64(41)}
    checked = Checked(tmp_path, tensors, shards=2)
    piece = checked.index.entries[key]
    path = checked.paths[piece.shard]
    flip(path, piece.offset + piece.size_bytes - 1)
    with pytest.raises(CorruptCheckpoint) as raised:
        checked.step()
    assert raised.value.message == (
        f"checkpoint {tmp_path}/m-5: {path.name}: tensor {key!r} fails its checksum, "
        "so data and index aren't of one save, or damaged"
    )
    assert raised.value.details == {
        "checkpoint": f"{tmp_path}/m-5",
        "file": path.name,
        "step": 5,
    }


def test_damage_outside_of_the_sample_is_left_to_a_deep_check(
    tmp_path: Path, large_files: None
) -> None:
    checked = Checked(tmp_path, {"b": BIG, "global_step": np.int64(41)})
    flip(checked.paths[0], 3)
    assert checked.step() == 41
