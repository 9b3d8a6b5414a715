"""Is what was staged compared with what it has to be, and what is told where it isn't that?"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from orchestrator.errors import CorruptCheckpoint, OutputError
from orchestrator.store.bundle.bundle import BundleTensor
from orchestrator.store.objects.content import describe
from orchestrator.store.objects.location import FileInfo, open_location
from orchestrator.store.transfer import staging
from orchestrator.store.transfer.cache import KEEP_S, SEAL, entries, locked, make_room
from orchestrator.store.transfer.download import PARALLEL
from orchestrator.store.transfer.staging import FRESH_S, stage
from tests.fakes.bundles import table_bytes, write_checkpoint

TENSORS = {"a": np.arange(12.0), "b": np.arange(100.0), "c": np.arange(7.0)}


def files_of(paths: Sequence[Path]) -> list[FileInfo]:
    """As a source gives them, of a store that tells nothing by which a change is known."""
    return [FileInfo(path.name, open_location(str(path)), path.stat().st_size) for path in paths]


@pytest.fixture
def saved(tmp_path: Path) -> list[Path]:
    """Index, two data files and graph."""
    return write_checkpoint(tmp_path / "src", "m-5", TENSORS, shards=2)


class Downloads:
    """What is fetched, with what it's told."""

    def __init__(self, real: Callable[..., None]) -> None:
        self.real, self.names, self.told = real, list[str](), list[dict[str, Any]]()
        self.beside: Callable[[Path], None] = lambda entry: None

    def __call__(self, file: FileInfo, target: Path, **told: Any) -> None:
        self.names.append(file.name)
        self.told.append(told)
        self.beside(target.parent)
        self.real(file, target, **told)


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> Downloads:
    fetched = Downloads(staging.download)  # type: ignore[attr-defined]
    monkeypatch.setattr(staging, "download", fetched)
    return fetched


@pytest.fixture
def now_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of what is staged."""
    clock = [1000.0]
    monkeypatch.setattr(staging, "time", SimpleNamespace(time=lambda: clock[0]))
    return clock


def test_index_comes_first_and_then_the_largest_all_in_one_ramp(
    saved: list[Path], tmp_path: Path, downloads: Downloads
) -> None:
    """The index says what the rest has to be; the largest teaches how many streams are worth it."""
    stage(files_of(saved)[::-1], tmp_path / "cache", stall_s=7.0, attempts=3)
    first, *rest = downloads.names
    assert first == "m-5.index"
    sizes = {path.name: path.stat().st_size for path in saved}
    assert rest == sorted(rest, key=lambda name: -sizes[name])
    assert {(told["stall_s"], told["attempts"]) for told in downloads.told} == {(7.0, 3)}
    (ramp,) = {id(told["ramp"]): told["ramp"] for told in downloads.told}.values()
    assert (ramp.streams, ramp.most) == (1, PARALLEL)
    watched = {
        name: told["arriving"] is not None
        for name, told in zip(downloads.names, downloads.told, strict=True)
    }
    assert watched == {name: ".data-" in name for name in sizes}


def test_tensors_that_came_good_in_any_data_file_are_not_read_again(
    saved: list[Path], tmp_path: Path, downloads: Downloads, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[BundleTensor] = []
    real = staging.damaged_tensors  # type: ignore[attr-defined]

    def shown(file: FileInfo, target: Path, **told: Any) -> None:
        downloads(file, target, **told)
        if told["arriving"]:
            told["arriving"].consumer(0)(memoryview(target.read_bytes()))

    def looked(index: Any, files: Any, given: frozenset[BundleTensor]) -> list[str]:
        known.extend(given)
        problems: list[str] = real(index, files, given)
        return problems

    monkeypatch.setattr(staging, "download", shown)
    monkeypatch.setattr(staging, "damaged_tensors", looked)
    stage(files_of(saved), tmp_path / "cache")
    assert {piece.key for piece in known} == {"a", "b", "c"}


def test_seal_holds_the_sums_of_what_no_index_vouches_for(
    saved: list[Path], tmp_path: Path, now_s: list[float]
) -> None:
    prefix = stage(files_of(saved), tmp_path / "cache")
    assert prefix.name == "m-5"
    assert json.loads((prefix.parent / SEAL).read_text()) == {
        "crcs": {path.name: describe(path).crc32c for path in (saved[0], saved[-1])},
        "sizes": {path.name: path.stat().st_size for path in saved},
        "verified_s": 1000.0,
    }


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("model.ckpt-5-00000-of-00002", "model.ckpt-5"),
        ("a-of-b-00001-of-00002", "a-of-b"),
        ("part1-of-8", "part1-of-8"),
        ("train-0-of-3", "train-0-of-3"),
        ("vocab.txt", "vocab.txt"),
        ("graph.meta", "graph"),
        ("m-5.data-00000-of-00001", "m-5"),
    ],
)
def test_what_is_staged_is_told_as_tensorflow_takes_it_or_as_its_file(
    tmp_path: Path, name: str, prefix: str
) -> None:
    (tmp_path / name).write_bytes(b"x")
    staged = stage(files_of([tmp_path / name]), tmp_path / "cache")
    assert staged.name == prefix
    assert (staged.parent / name).read_bytes() == b"x"


def test_entry_that_is_being_made_is_locked_and_its_neighbours_are_not(
    saved: list[Path], tmp_path: Path, downloads: Downloads
) -> None:
    cache = tmp_path / "cache"
    locks: list[tuple[bool, bool]] = []

    def looks(entry: Path) -> None:
        with (
            locked(cache, entry.name, wait=False) as own,
            locked(cache, "other", wait=False) as its,
        ):
            locks.append((own, its))

    downloads.beside = looks
    stage(files_of(saved), cache)
    assert locks == [(False, True)] * 4


def test_entry_in_use_is_not_evicted_by_whoever_stages_another(
    saved: list[Path], tmp_path: Path
) -> None:
    files = files_of(saved)
    entry = stage(files, tmp_path / "cache").parent
    os.utime(entry / SEAL, (0.0, 0.0))
    assert stage(files, tmp_path / "cache").parent == entry
    make_room(tmp_path / "cache", 1, 1)
    assert entry.is_dir()
    make_room(tmp_path / "cache", 1, 1, now_s=(entry / SEAL).stat().st_mtime + KEEP_S)
    assert not entry.is_dir()


def test_cache_that_cannot_be_made_is_told_as_such(saved: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=f"can't write {tmp_path}/file/cache: ") as told:
        stage(files_of(saved), tmp_path / "file" / "cache")
    assert told.value.details["action"] == "write"


def spoilt(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)


def wrong(saved: list[Path], what: str) -> list[FileInfo]:
    """A checkpoint with one thing wrong."""
    index, first, second, meta = saved
    if what in ("tensor", "index"):
        spoilt(first if what == "tensor" else index)
    if what == "longer":
        second.write_bytes(second.read_bytes() + b"x")
    files = files_of([path for path in saved if what != "missing" or path != second])
    if what == "manifest":
        files[-1] = replace(files[-1], crc32c=describe(meta).crc32c ^ 1)
    return files


@pytest.mark.parametrize(
    ("what", "said", "file"),
    [
        ("tensor", ": 1 damaged tensors, first: m-5.data-00000-of-00002: tensor ", "m-5.index"),
        ("missing", ": m-5.data-00001-of-00002 is missing", "m-5.index"),
        (
            "longer",
            ": m-5.data-00001-of-00002 has 801 bytes where its index accounts for others",
            "m-5.data-00001-of-00002",
        ),
        ("manifest", ": m-5.meta isn't what its manifest says: its checksum differs", "m-5.meta"),
    ],
)
def test_what_is_not_what_it_has_to_be_is_told_by_checkpoint_and_file(
    saved: list[Path], tmp_path: Path, what: str, said: str, file: str
) -> None:
    checkpoint = str(tmp_path / "src" / "m-5")
    with pytest.raises(CorruptCheckpoint) as told:
        stage(wrong(saved, what), tmp_path / "cache")
    assert f"checkpoint {checkpoint}{said}" in told.value.message
    assert told.value.remedy == "Use another checkpoint, or copy this one again"
    assert told.value.details == {"checkpoint": checkpoint, "file": file}
    assert entries(tmp_path / "cache") == []


def test_damaged_index_is_told_by_its_own_name_and_nothing_stays(
    saved: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(CorruptCheckpoint, match=str(tmp_path / "src" / "m-5.index")):
        stage(wrong(saved, "index"), tmp_path / "cache")
    assert entries(tmp_path / "cache") == []


def test_what_its_manifest_says_is_good(saved: list[Path], tmp_path: Path) -> None:
    files = [
        replace(file, crc32c=describe(path).crc32c)
        for file, path in zip(files_of(saved), saved, strict=True)
    ]
    assert stage(files, tmp_path / "cache").name == "m-5"


def test_data_file_without_a_tensor_is_empty_and_good(tmp_path: Path) -> None:
    saved = write_checkpoint(tmp_path / "src", "m-5", TENSORS, shards=4)
    assert saved[4].stat().st_size == 0
    assert stage(files_of(saved), tmp_path / "cache").name == "m-5"


def tables(tmp_path: Path) -> list[Path]:
    """Two files of V1, and one beside them that is no table."""
    for number in range(2):
        data = table_bytes([(b"key %d" % each, b"v" * 50) for each in range(9)])
        (tmp_path / f"m-5-0000{number}-of-00002").write_bytes(data)
    (tmp_path / "short").write_bytes(b"abc")
    return [tmp_path / f"m-5-0000{number}-of-00002" for number in range(2)] + [tmp_path / "short"]


def test_tables_of_v1_are_compared_block_by_block(tmp_path: Path) -> None:
    paths = tables(tmp_path)
    assert stage(files_of(paths), tmp_path / "cache").name == "m-5"
    spoilt(paths[0])
    with pytest.raises(CorruptCheckpoint, match="m-5-00000-of-00002") as told:
        stage(files_of(paths), tmp_path / "cache")
    assert told.value.details == {"checkpoint": str(tmp_path / "m-5"), "file": paths[0].name}


def counted(downloads: Downloads, files: Sequence[FileInfo], cache: Path) -> int:
    """How many files are fetched."""
    before = len(downloads.names)
    stage(files, cache)
    return len(downloads.names) - before


@pytest.mark.parametrize(
    ("later_s", "read_again"),
    [(0.0, False), (FRESH_S - 0.1, False), (FRESH_S, True), (-0.1, True)],
)
def test_entry_is_read_again_once_it_is_not_fresh(
    saved: list[Path],
    tmp_path: Path,
    downloads: Downloads,
    now_s: list[float],
    later_s: float,
    read_again: bool,
) -> None:
    """A clock that was set back says nothing about how long ago that was."""
    files = files_of(saved)
    prefix = stage(files, tmp_path / "cache")
    spoilt(Path(f"{prefix}.data-00001-of-00002"))
    now_s[0] += later_s
    assert counted(downloads, files, tmp_path / "cache") == (4 if read_again else 0)


@pytest.mark.parametrize("name", ["m-5.index", "m-5.data-00001-of-00002", "m-5.meta"])
def test_older_entry_with_any_damaged_file_is_fetched_anew(
    saved: list[Path], tmp_path: Path, downloads: Downloads, now_s: list[float], name: str
) -> None:
    # The store tells itself that nothing has changed there
    files = [replace(file, tag="1") for file in files_of(saved)]
    prefix = stage(files, tmp_path / "cache")
    for _ in range(2):
        now_s[0] += 2 * FRESH_S
        assert counted(downloads, files, tmp_path / "cache") == 0
    spoilt(prefix.parent / name)
    now_s[0] += 2 * FRESH_S
    assert counted(downloads, files, tmp_path / "cache") == 4


def test_seal_that_does_not_say_when_is_of_long_ago(
    saved: list[Path], tmp_path: Path, downloads: Downloads
) -> None:
    files = files_of(saved)
    prefix = stage(files, tmp_path / "cache")
    seal = json.loads((prefix.parent / SEAL).read_text())
    del seal["verified_s"]
    (prefix.parent / SEAL).write_text(json.dumps(seal))
    assert counted(downloads, files, tmp_path / "cache") == 0
    assert "verified_s" in json.loads((prefix.parent / SEAL).read_text())


def test_checkpoint_that_changed_in_a_silent_store_is_known_by_its_index(
    saved: list[Path], tmp_path: Path, downloads: Downloads
) -> None:
    files = files_of(saved)
    assert [counted(downloads, files, tmp_path / "cache") for _ in range(2)] == [4, 0]
    shutil.rmtree(tmp_path / "src")
    write_checkpoint(
        tmp_path / "src", "m-5", {key: value + 1 for key, value in TENSORS.items()}, shards=2
    )
    assert files_of(saved) == files
    assert [counted(downloads, files, tmp_path / "cache") for _ in range(2)] == [4, 0]


@pytest.mark.parametrize(
    ("told", "fetched"), [({}, [1, 1]), ({"tag": "1"}, [1, 0]), ({"crc32c": None}, [1, 0])]
)
def test_file_without_an_index_is_kept_where_the_store_tells_changes(
    tmp_path: Path, downloads: Downloads, told: dict[str, Any], fetched: list[int]
) -> None:
    (tmp_path / "vocab").write_bytes(b"words")
    files = [replace(file, **told) for file in files_of([tmp_path / "vocab"])]
    if "crc32c" in told:  # as a manifest says it
        files = [replace(files[0], crc32c=describe(tmp_path / "vocab").crc32c)]
    assert [counted(downloads, files, tmp_path / "cache") for _ in range(2)] == fetched
