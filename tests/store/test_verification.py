"""Is a candidate a whole and consistent checkpoint, and which file is named where it isn't?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google_crc32c import value as crc_of

from orchestrator.errors import (
    ConfigError,
    CorruptCheckpoint,
    OrchestratorError,
    SourceError,
    StorageUnavailable,
)
from orchestrator.store.bundle.sstable import table_of
from orchestrator.store.bundle.table_writer import table_bytes
from orchestrator.store.checkpoints import sample, verification
from orchestrator.store.checkpoints.candidates import Candidate, group
from orchestrator.store.checkpoints.verification import check, speaks_of_content
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.objects.manifest import FileRecord, Manifest
from tests.fakes.bundles import model, write_checkpoint
from tests.fakes.v1 import write_v1_checkpoint
from tests.store.damage import cut, flip

DATA = "m-5.data-00000-of-00001"


def candidate_of(directory: Path, prefix: str = "m-5") -> Candidate:
    place = open_location(str(directory))
    return group(place, place.list())[prefix]


def promised(directory: Path, tensors: dict[str, object] | None = None) -> Manifest:
    """A checkpoint ``m-5`` in the directory, and the manifest of what was saved."""
    files = write_checkpoint(directory, "m-5", tensors or model(5))
    records = tuple(
        FileRecord(name=file.name, size_bytes=file.stat().st_size, crc32c=crc_of(file.read_bytes()))
        for file in files
    )
    return Manifest(
        name="m", step=5, attempt=1, generation=1, files=records, step_key="global_step"
    )


def refused(directory: Path, manifest: Manifest | None = None, **how: bool) -> tuple[str, str]:
    """What is wrong, and with which file."""
    with pytest.raises(CorruptCheckpoint) as told:
        check(candidate_of(directory), manifest, deep=how.get("deep", False))
    start = f"checkpoint {directory}/m-5: "
    assert told.value.message.startswith(start)
    assert told.value.remedy == "Use another checkpoint, or copy this one again"
    assert told.value.details.keys() == {"checkpoint", "file", "step"}
    return told.value.message.removeprefix(start), told.value.details["file"]


def test_checkpoint_that_keeps_its_promise_is_described_by_it(tmp_path: Path) -> None:
    manifest = promised(tmp_path)
    candidate = candidate_of(tmp_path)
    checked = check(candidate, manifest)
    crcs = {record.name: record.crc32c for record in manifest.files}
    assert (checked.candidate, checked.manifest) == (candidate, manifest)
    assert (checked.step, checked.step_key) == (5, "global_step")
    assert checked.index.entries.keys() == model(5).keys()
    assert [(file.name, file.crc32c) for file in checked.files] == [
        ("m-5.index", crcs["m-5.index"]),
        (DATA, crcs[DATA]),
    ]
    assert checked.index_crc32c == crcs["m-5.index"]
    alone = check(candidate)
    assert [file.crc32c for file in alone.files] == [None, None]
    assert (alone.manifest, alone.index_crc32c) == (None, checked.index_crc32c)


def with_other_name(directory: Path, manifest: Manifest) -> Manifest:
    return manifest.model_copy(update={"name": "n"})


def without_data(directory: Path, manifest: Manifest) -> Manifest:
    (directory / DATA).unlink()
    return manifest


def with_less_data(directory: Path, manifest: Manifest) -> Manifest:
    cut(directory / DATA, 20)
    return manifest


def with_other_graph(directory: Path, manifest: Manifest) -> Manifest:
    flip(directory / "m-5.meta", 20)
    return manifest


def with_other_index(directory: Path, manifest: Manifest) -> Manifest:
    flip(directory / "m-5.index", 20)
    return manifest


def with_step_elsewhere(directory: Path, manifest: Manifest) -> Manifest:
    return manifest.model_copy(update={"step_key": "training/step"})


def with_other_step(directory: Path, manifest: Manifest) -> Manifest:
    return promised(directory, model(4))


@pytest.mark.parametrize(
    ("broken", "what", "file"),
    [
        (with_other_name, "its manifest speaks of n-5", "m-5.manifest.json"),
        (without_data, f"{DATA} is missing, which its manifest names", DATA),
        (with_less_data, f"{DATA} has 20 bytes, its manifest says 156", DATA),
        (
            with_other_graph,
            "m-5.meta isn't what its manifest says: its checksum differs",
            "m-5.meta",
        ),
        (
            with_other_index,
            "m-5.index isn't what its manifest says: its checksum differs",
            "m-5.index",
        ),
        (
            with_step_elsewhere,
            "it lacks training/step, where its manifest says that the step stands",
            "m-5",
        ),
        (with_other_step, "its data is of step 4, its manifest of step 5", "m-5"),
    ],
)
def test_promise_that_is_not_kept_is_told_with_the_file(
    tmp_path: Path, broken: Callable[[Path, Manifest], Manifest], what: str, file: str
) -> None:
    assert refused(tmp_path, broken(tmp_path, promised(tmp_path))) == (what, file)


def test_manifest_promises_nothing_of_what_it_does_not_name(tmp_path: Path) -> None:
    manifest = promised(tmp_path)
    files = tuple(file for file in manifest.files if file.name != "m-5.meta")
    flip(tmp_path / "m-5.meta", 20)
    nameless = manifest.model_copy(update={"files": files, "step": 5, "step_key": None})
    assert check(candidate_of(tmp_path), nameless).step == 5
    (tmp_path / "m-5.meta").unlink()
    assert check(candidate_of(tmp_path), nameless).step == 5
    write_checkpoint(tmp_path, "m-5", model(4))
    loose = nameless.model_copy(update={"files": ()})
    assert check(candidate_of(tmp_path), loose).step == 4, "no step was promised"


def test_index_says_what_its_data_files_have_to_be(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "m-5", model(5))
    whole = (tmp_path / DATA).read_bytes()
    cut(tmp_path / DATA, 20)
    assert refused(tmp_path) == (f"{DATA} is cut off: 20 bytes of {len(whole)}", DATA)
    (tmp_path / DATA).write_bytes(whole + b"more")
    assert refused(tmp_path) == (
        f"{DATA} has 4 bytes more than its index accounts for: not of one save",
        DATA,
    )
    (tmp_path / DATA).unlink()
    assert refused(tmp_path) == (f"{DATA} is missing", DATA)
    (tmp_path / DATA).write_bytes(whole)
    (tmp_path / "m-5.index").unlink()
    assert refused(tmp_path) == ("m-5.index is missing", "m-5.index")


def test_data_file_without_a_tensor_is_empty(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "m-5", {"global_step": np.int64(5)}, shards=2)
    checked = check(candidate_of(tmp_path))
    assert [file.size_bytes for file in checked.files[1:]] == [8, 0]
    (tmp_path / "m-5.data-00001-of-00002").write_bytes(b"x")
    assert "has 1 bytes more" in refused(tmp_path)[0]


def test_index_that_is_larger_than_any_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path, "m-5", model(5))
    size = (tmp_path / "m-5.index").stat().st_size
    monkeypatch.setattr(verification, "MAX_INDEX_BYTES", size)
    assert check(candidate_of(tmp_path)).step == 5
    monkeypatch.setattr(verification, "MAX_INDEX_BYTES", size - 1)
    told = f"m-5.index claims {size} bytes, which no index has"
    assert refused(tmp_path) == (told, "m-5.index")


def test_every_tensor_is_read_only_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path, "m-5", model(5))
    monkeypatch.setattr(sample, "WHOLE_SHARD_BYTES", 0)
    monkeypatch.setattr(sample, "SAMPLE_TENSOR_BYTES", 8)
    flip(tmp_path / DATA, 40)
    assert check(candidate_of(tmp_path)).step == 5
    what, file = refused(tmp_path, deep=True)
    tensor = f"{DATA}: tensor 'dense/kernel' fails its checksum"
    assert what == f"1 damaged tensors, first: {file}"
    assert file.startswith(tensor)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    ("key", "step"), [("global_step", 5), ("scope/global_step", 5), ("counter", None)]
)
def test_step_is_read_from_where_its_name_tells(
    tmp_path: Path, old: bool, key: str, step: int | None
) -> None:
    tensors = {key: np.int64(5), "other": np.int32(7)}
    if old:
        write_v1_checkpoint(tmp_path, "m-5", {"w": np.arange(3.0)}, tensors)
    else:
        write_checkpoint(tmp_path, "m-5", tensors)
    checked = check(candidate_of(tmp_path))
    assert (checked.step, checked.step_key) == (step, key if step else None)


def test_manifest_knows_better_than_a_name_where_the_step_stands(tmp_path: Path) -> None:
    manifest = promised(tmp_path, {"global_step": np.int64(7), "counter": np.int64(5)})
    there = manifest.model_copy(update={"step_key": "counter"})
    checked = check(candidate_of(tmp_path), there)
    assert (checked.step, checked.step_key) == (5, "counter")
    nothing = manifest.model_copy(update={"step_key": None})
    assert check(candidate_of(tmp_path), nothing).step == 7


def test_checkpoint_of_the_old_format_is_what_its_shards_hold(tmp_path: Path) -> None:
    files = write_v1_checkpoint(
        tmp_path, "m-5", {"w": np.arange(3.0)}, {"global_step": np.int64(5)}
    )
    checked = check(candidate_of(tmp_path), deep=True)
    assert (checked.step, checked.step_key) == (5, "global_step")
    assert checked.index.entries.keys() == {"w", "global_step"}
    assert [file.location.path for file in checked.files] == [str(file) for file in files]
    assert checked.manifest is None
    flip(files[0], files[0].read_bytes().index(np.arange(3.0).tobytes()))
    assert check(candidate_of(tmp_path)).step == 5
    what, _ = refused(tmp_path, deep=True)
    assert what.startswith("1 damaged tensors, first: m-5-00000-of-00002 fails its checksum")


def test_identity_of_the_old_format_is_of_both_ends_of_each_file(tmp_path: Path) -> None:
    """A run's record holds it: what it's of can't change."""
    large = np.random.default_rng(0).normal(size=20_000)
    files = write_v1_checkpoint(
        tmp_path, "m-5", {"w": large}, {"v": large[:9_000]}, {"u": large[:10]}
    )
    parts = [file.read_bytes() for file in files]
    ends = [parts[0][:65536], parts[0][-65536:], parts[1][:65536], parts[1][-65536:], parts[2]]
    assert 65536 < len(parts[1]) < 2 * 65536 < len(parts[0])
    assert check(candidate_of(tmp_path)).index_crc32c == crc_of(b"".join(ends))


def test_step_of_the_old_format_that_is_not_there_is_not_known_and_one_that_is_damaged_told(
    tmp_path: Path,
) -> None:
    (file,) = write_v1_checkpoint(tmp_path, "m-5", {"global_step": np.int64(5)})
    (first, (key, _)) = table_of(file.read_bytes(), "m-5").items()
    file.write_bytes(table_bytes([first]))
    checked = check(candidate_of(tmp_path))
    assert (checked.step, checked.step_key) == (None, None)
    file.write_bytes(table_bytes([first, (key, b"\xff")]))
    with pytest.raises(CorruptCheckpoint, match=r"^m-5 holds a damaged V1Entry record"):
        check(candidate_of(tmp_path))


def test_large_file_of_the_old_format_is_read_in_parts_and_not_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_v1_checkpoint(tmp_path, "m-5", {"global_step": np.int64(5), "w": np.zeros(20_000)})
    sizes: list[int] = []
    read = Location.read_bytes

    def counted(place: Location, *words: Any, **how: Any) -> bytes:
        data = read(place, *words, **how)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(Location, "read_bytes", counted)
    assert check(candidate_of(tmp_path)).step == 5
    assert max(sizes) == 65536


def test_shards_of_the_old_format_are_complete_and_of_one_save(tmp_path: Path) -> None:
    files = write_v1_checkpoint(
        tmp_path, "m-5", *({f"w{number}": np.arange(3.0)} for number in range(3))
    )
    content = files[1].read_bytes()
    files[1].unlink()
    assert refused(tmp_path) == ("2 of 3 shards are there", "m-5")
    files[1].write_bytes(content)
    (tmp_path / "m-5-00000-of-00002").write_bytes(content)
    assert refused(tmp_path) == ("4 of 3 shards are there", "m-5")
    files[1].unlink()
    files[2].unlink()
    assert refused(tmp_path) == ("2 of 3 shards are there", "m-5"), "of two saves"
    for file in (files[0], tmp_path / "m-5-00000-of-00002"):
        file.unlink()
    assert refused(tmp_path) == ("it has no data, only a .meta", "m-5")


@pytest.mark.parametrize("size", [0, 23, 24, 200])
def test_pointer_in_the_place_of_a_file_of_the_old_format_is_told_with_what_to_do(
    tmp_path: Path, size: int
) -> None:
    (file,) = write_v1_checkpoint(tmp_path, "m-5", model(5))
    file.write_bytes((b"version https://git-lfs.github.com/spec/v1\n" + bytes(200))[:size])
    with pytest.raises(SourceError if size else CorruptCheckpoint) as told:
        check(candidate_of(tmp_path))
    if size:
        assert told.value.message == "m-5 is a Git LFS pointer, not the file itself"
        assert told.value.remedy == "Fetch the files with `git lfs pull`"
    else:
        assert "m-5 is empty" in told.value.message


@pytest.mark.parametrize(
    ("error", "speaks"),
    [
        (CorruptCheckpoint("bad"), True),
        (SourceError("a Git LFS pointer"), True),
        (SourceError("gone", details={"action": "read", "missing": True}), True),
        (SourceError("no permission", details={"action": "read"}), False),
        (SourceError("no permission", details={"action": "read", "missing": False}), False),
        (StorageUnavailable("503"), False),
        (ConfigError("no such protocol"), False),
    ],
)
def test_only_what_says_that_a_checkpoint_is_bad_leads_to_an_older_one(
    error: OrchestratorError, speaks: bool
) -> None:
    assert speaks_of_content(error) is speaks
