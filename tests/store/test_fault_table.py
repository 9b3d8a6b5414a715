"""Each way in which a directory of checkpoints can be wrong: one typed error, or a walk back that says why. Never silently wrong."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from orchestrator.errors import CorruptCheckpoint, OrchestratorError, OutputError, SourceError
from orchestrator.store.foreign import MAX_REFUSALS
from orchestrator.store.location import Location, open_location
from orchestrator.store.source import Source, resolve_source, source_fingerprint
from orchestrator.store.staging import stage
from tests.fakes.bundles import meta_bytes, model, write_bundle, write_checkpoint, write_pointer

STEPS = (100, 200, 300)
DATA = "m-300.data-00000-of-00001"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Three good checkpoints of one model and their state file."""
    path = tmp_path / "train dir ü"
    for step in STEPS:
        write_checkpoint(path, f"m-{step}", model(step))
    write_pointer(path, "m-300")
    return path


def resolved_step(directory: Path) -> int | None:
    return resolve_source(str(directory)).step


def cut(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)


def other_step(directory: Path, *suffixes: str) -> None:
    for suffix in suffixes:
        shutil.copyfile(directory / f"m-100{suffix}", directory / f"m-300{suffix}")


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12\n"
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "index truncated": (lambda d: cut(d / "m-300.index", 60), "m-300.index doesn't end in a table's footer"),
    "index empty": (lambda d: cut(d / "m-300.index", 0), "m-300.index is empty"),
    "index tiny": (lambda d: cut(d / "m-300.index", 7), "m-300.index has only 7 bytes"),
    "index missing": (lambda d: (d / "m-300.index").unlink(), "m-300.index is missing"),
    "index flipped": (lambda d: flip(d / "m-300.index", 10), "m-300.index"),
    "index is an LFS pointer": (lambda d: (d / "m-300.index").write_bytes(LFS), "Git LFS pointer"),
    "data truncated": (lambda d: cut(d / DATA, 20), "is cut off: 20 bytes of"),
    "data empty": (lambda d: cut(d / DATA, 0), "is cut off: 0 bytes of"),
    "data missing": (lambda d: (d / DATA).unlink(), f"{DATA} is missing"),
    "data flipped": (lambda d: flip(d / DATA, 9), "fails its checksum"),
    "data extended": (
        lambda d: (d / DATA).write_bytes((d / DATA).read_bytes() + b"more"),
        "4 bytes more than its index accounts for",
    ),
    "data of another step": (lambda d: other_step(d, ".data-00000-of-00001"), "aren't of one save"),
    "index of another step": (lambda d: other_step(d, ".index"), "aren't of one save"),
    "data and index of another step": (
        lambda d: other_step(d, ".index", ".data-00000-of-00001"),
        "its data is of step 100, its name says 300",
    ),
    "meta truncated": (lambda d: cut(d / "m-300.meta", 100), "is not a MetaGraphDef"),
    "meta empty": (lambda d: cut(d / "m-300.meta", 0), "is empty"),
    "meta of another model": (
        lambda d: (d / "m-300.meta").write_bytes(meta_bytes({"dense/kernel": np.zeros((9, 9), np.float32)})),
        r"'dense/kernel' has shape \[8, 4\] in it, \[9, 9\] in the graph",
    ),
    "meta of nothing alike": (
        lambda d: (d / "m-300.meta").write_bytes(meta_bytes({"conv": np.zeros(3, np.float32)})),
        "none of the 1 variables that the graph's saver restores",
    ),
    "meta with another dtype": (
        lambda d: (d / "m-300.meta").write_bytes(meta_bytes({"global_step": np.int32(0)})),
        "'global_step' is int64 in it, int32 in the graph",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_resolve_directory_with_a_bad_newest_walks_back_and_says_why(directory: Path, fault: str) -> None:
    damage, said = FAULTS[fault]
    damage(directory)
    source = resolve_source(str(directory))
    assert source.step == 200
    (refusal,) = source.refused
    assert (refusal.checkpoint, refusal.step) == ("m-300", 300)

    assert re.search(said, refusal.reason), refusal.reason


@pytest.mark.parametrize("fault", FAULTS)
def test_resolve_prefix_that_is_bad_is_one_error_with_file_and_remedy(directory: Path, fault: str) -> None:
    damage, said = FAULTS[fault]
    damage(directory)
    with pytest.raises((CorruptCheckpoint, SourceError), match=said) as caught:
        resolve_source(str(directory / "m-300"))
    assert "m-300" in caught.value.message
    assert caught.value.remedy


def test_resolve_directory_where_all_are_bad_lists_each(directory: Path) -> None:
    for step in STEPS:
        cut(directory / f"m-{step}.index", 5)
    with pytest.raises(CorruptCheckpoint, match="none of the 3 newest checkpoints") as caught:
        resolve_source(str(directory))
    assert [item["step"] for item in caught.value.details["refused"]] == [300, 200, 100]


def test_resolve_large_tensor_flipped_is_found_while_staging_then_walked_back(tmp_path: Path) -> None:
    source_dir = tmp_path / "src"
    for step in (100, 200):
        write_checkpoint(source_dir, f"m-{step}", model(step, rows=300_000))
    flip(source_dir / "m-200.data-00000-of-00001", 3_000_000)
    source = resolve_source(str(source_dir))
    assert source.step == 200  # a quick check reads the small tensors only
    with pytest.raises(CorruptCheckpoint, match=r"m-200\.data-00000-of-00001: tensor 'dense/kernel' fails its checksum"):
        stage(source.files, tmp_path / "cache")
    assert not any(path.is_dir() for path in (tmp_path / "cache").iterdir())
    older = resolve_source(str(source_dir), exclude={source.label: "damaged"})
    assert (older.step, older.refused[0].reason) == (100, "damaged")
    assert stage(older.files, tmp_path / "cache").name == "m-100"
    deep = resolve_source(str(source_dir), deep=True)
    assert deep.step == 100
    assert "1 damaged tensors" in deep.refused[0].reason


def test_resolve_newest_that_lacks_a_variable_is_passed_over_but_can_be_named(directory: Path) -> None:
    tensors = model(400)
    (directory / "m-400.meta").write_bytes(meta_bytes(tensors))
    write_bundle(directory, "m-400", {key: value for key, value in tensors.items() if key != "dense/bias"})
    source = resolve_source(str(directory))
    assert source.step == 300
    assert "lacks 1 of the 4 variables that its graph's saver restores, such as 'dense/bias'" in source.refused[0].reason
    # The plan says what that means, and --init-missing allows it
    assert "dense/bias" not in (resolve_source(str(directory / "m-400")).keys() or {})


# The state file


@pytest.mark.parametrize(
    "named",
    [
        "/home/someone/else/m-300",
        "F:\\\\python\\\\train\\\\m-300",
        "F:\\python\\train\\m-300",
        "../../../etc/m-300",
        "./m-300",
        "gs://other/bucket/m-300",
        "m-999",
        "/etc/passwd",
        "../../../etc/passwd",
        "..",
        "",
        "m-300\x00",
    ],
)
def test_resolve_pointer_of_any_kind_stays_in_the_directory(directory: Path, named: str) -> None:
    write_pointer(directory, named)
    source = resolve_source(str(directory))
    assert source.step == 300
    assert all(Path(file.location.path).parent == directory for file in source.files)


def test_resolve_pointer_absolute_to_a_place_that_exists_takes_the_directory_asked_for(directory: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "old place"
    write_checkpoint(elsewhere, "m-300", model(999))
    write_pointer(directory, str(elsewhere / "m-300"))
    assert resolved_step(directory) == 300


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", b"model_checkpoint_path: m-300\n", b"{}", b'model_checkpoint_path: "\\xZZ"']
)
def test_resolve_pointer_of_garbage_is_ignored(directory: Path, content: bytes) -> None:
    (directory / "checkpoint").write_bytes(content)
    assert resolved_step(directory) == 300


def test_resolve_without_pointer_takes_the_newest(directory: Path) -> None:
    (directory / "checkpoint").rename(directory / "checkpoint@m-100")
    assert resolved_step(directory) == 300


def test_resolve_pointer_to_an_older_step_takes_the_newest_and_says_so(directory: Path) -> None:
    write_pointer(directory, "m-100")
    source = resolve_source(str(directory))
    assert source.step == 300
    assert "names m-100" in source.notes[0]


def test_resolve_several_models_takes_the_pointed_one_and_names_the_others(directory: Path) -> None:
    write_checkpoint(directory, "best", model(7))
    write_checkpoint(directory, "m", model(8))
    source = resolve_source(str(directory))
    assert (source.name, source.step) == ("m", 300)
    assert "best, m" in source.notes[0]


def test_resolve_several_models_without_a_useful_pointer_asks(directory: Path) -> None:
    write_checkpoint(directory, "best", model(7))
    write_pointer(directory, "gone-1")
    with pytest.raises(SourceError, match=r"several models .*gone-1.*best, m-300") as caught:
        resolve_source(str(directory))
    assert caught.value.details["prefixes"] == ["best", "m-300"]
    assert resolve_source(str(directory / "best")).step == 7


def test_resolve_pointer_into_a_subdirectory_follows_it(directory: Path) -> None:
    (directory / "checkpoint").unlink()
    parent = directory.parent
    (parent / "checkpoint").write_text(f'model_checkpoint_path: "{directory.name}/m-200"\n')
    assert resolved_step(parent) == 300


# Names, formats, parts


@pytest.mark.parametrize("form", ["m-200", "m-200.meta", "m-200.index", "m-200.data-00000-of-00001"])
def test_resolve_any_file_of_a_checkpoint_names_it(directory: Path, form: str) -> None:
    source = resolve_source(str(directory / form))
    assert (source.step, source.name, source.step_in_name) == (200, "m", 200)
    assert source.meta.name == "m-200.meta"
    assert source.keys() is not None


def test_resolve_name_without_step_takes_it_from_the_data(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "final.ckpt", model(41))
    source = resolve_source(str(tmp_path))
    assert (source.name, source.step_in_name, source.step) == ("final.ckpt", None, 41)


def test_resolve_names_that_count_epochs_believe_the_data(tmp_path: Path) -> None:
    for epoch in (1, 2):
        write_checkpoint(tmp_path, f"m-{epoch}", model(epoch * 1000))
    source = resolve_source(str(tmp_path))
    assert (source.step_in_name, source.step) == (2, 2000)
    assert "the data counts" in source.notes[0]


@pytest.mark.parametrize("name", ["mit leer", "日本語", "a*b?[c]", "50%", "x#y", "a::b", "-dash", "model-1-2"])
def test_resolve_and_stage_odd_names_work(tmp_path: Path, name: str) -> None:
    write_checkpoint(tmp_path / name, f"{name}-5", model(5))
    write_pointer(tmp_path / name, f"{name}-5")
    source = resolve_source(str(tmp_path / name))
    assert (source.name, source.step) == (name, 5)
    assert stage(source.files, tmp_path / "cache").name == f"{name}-5"


def test_resolve_missing_shard_is_named(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "m-5", model(5), shards=3)
    (tmp_path / "m-5.data-00001-of-00003").unlink()
    with pytest.raises(CorruptCheckpoint, match=r"m-5\.data-00001-of-00003 is missing"):
        resolve_source(str(tmp_path))


def test_resolve_meta_missing_takes_a_neighbour_that_fits(directory: Path) -> None:
    (directory / "m-300.meta").unlink()
    source = resolve_source(str(directory))
    assert (source.step, source.meta.name) == (300, "m-200.meta")
    assert "m-200.meta fits" in source.notes[0]


def test_resolve_meta_lost_in_a_crash_is_said(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "m-5", model(5), meta=False)
    with pytest.raises(SourceError, match=r"m-5\.meta is missing.*TensorFlow writes it last"):
        resolve_source(str(tmp_path))


def test_resolve_meta_alone_has_nothing_to_resume_but_can_be_inspected(tmp_path: Path) -> None:
    (tmp_path / "m-5.meta").write_bytes(meta_bytes(model(5)))
    for url in (tmp_path / "m-5.meta", tmp_path / "m-5", tmp_path):
        with pytest.raises(SourceError, match="no checkpoint"):
            resolve_source(str(url))
        source = resolve_source(str(url), need_checkpoint=False)
        assert (source.prefix, source.keys(), source.name) == (None, None, "m")


def test_resolve_meta_without_own_checkpoint_takes_the_newest_of_its_name(directory: Path) -> None:
    (directory / "m-0.meta").write_bytes(meta_bytes(model(0)))
    source = resolve_source(str(directory / "m-0.meta"))
    assert (source.step, source.meta.name) == (300, "m-0.meta")


def test_resolve_nothing_there_names_what_is(directory: Path) -> None:
    with pytest.raises(SourceError, match=r"m-400 doesn't exist; its directory has m-100, m-200, m-300"):
        resolve_source(str(directory / "m-400"))
    with pytest.raises(SourceError, match="doesn't exist"):
        resolve_source(str(directory / "no" / "where"))
    (directory / "empty").mkdir()
    with pytest.raises(SourceError, match="holds no checkpoint"):
        resolve_source(str(directory / "empty"))


def test_resolve_v1_truncated_and_flipped_are_refused(corpus: Path, tmp_path: Path) -> None:
    original = next(path for path in corpus.rglob("checkpoint-1999") if path.is_file())
    for name in ("checkpoint-1999", "checkpoint-1999.meta"):
        shutil.copyfile(original.with_name(name), tmp_path / name)
    assert resolve_source(str(tmp_path)).format == "V1"
    stage(resolve_source(str(tmp_path)).files, tmp_path / "cache")
    flip(tmp_path / "checkpoint-1999", original.stat().st_size // 2)
    with pytest.raises(CorruptCheckpoint, match="fails its checksum"):
        stage(resolve_source(str(tmp_path)).files, tmp_path / "cache")
    cut(tmp_path / "checkpoint-1999", 1000)
    with pytest.raises(CorruptCheckpoint, match="footer"):
        resolve_source(str(tmp_path))


def test_fingerprint_tells_graphs_and_checkpoints_apart(directory: Path) -> None:
    prints = {source_fingerprint(resolve_source(str(directory / f"m-{step}"))) for step in STEPS}
    assert len(prints) == 3
    moved = directory.with_name("moved")
    directory.rename(moved)
    assert source_fingerprint(resolve_source(str(moved))) in prints


# Many, large, full, forbidden


class Counting:
    """A file system that counts calls and passes them on."""

    def __init__(self, fs: object) -> None:
        self._fs, self.calls = fs, 0

    def __getattr__(self, name: str) -> object:
        value = getattr(self._fs, name)
        if name in ("ls", "info", "cat_file", "find"):
            self.calls += 1
        return value


def counted(location: Location, monkeypatch: pytest.MonkeyPatch) -> Counting:
    counting = Counting(location.fs)
    from dataclasses import replace

    monkeypatch.setattr("orchestrator.store.source.open_location", lambda url: replace(location, fs=counting))
    return counting


def test_resolve_among_ten_thousand_takes_few_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_checkpoint(tmp_path, "m-1", model(1))
    for step in range(2, 2501):
        for file in files:
            (tmp_path / file.name.replace("m-1", f"m-{step}", 1)).hardlink_to(file)
    for step in (2498, 2499, 2500):
        (tmp_path / f"m-{step}.index").unlink()
    counting = counted(open_location(str(tmp_path)), monkeypatch)
    source = resolve_source(str(tmp_path))
    assert source.step_in_name == 2497
    assert len(source.refused) == 3
    assert counting.calls < 30


def test_resolve_ten_thousand_bad_ones_stops_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in range(1000):
        (tmp_path / f"m-{step}.index").write_bytes(b"")
        (tmp_path / f"m-{step}.data-00000-of-00001").write_bytes(b"")
    counting = counted(open_location(str(tmp_path)), monkeypatch)
    with pytest.raises(CorruptCheckpoint, match=f"none of the {MAX_REFUSALS} newest"):
        resolve_source(str(tmp_path))
    assert counting.calls < 4 * MAX_REFUSALS


def test_resolve_directory_full_of_strangers_finds_the_checkpoint(directory: Path) -> None:
    for number in range(500):
        (directory / f"events.out.tfevents.{number}").write_bytes(b"x")
        (directory / f"photo-{number}").write_bytes(b"x")
    (directory / "graph.pbtxt").write_text("node {}")
    (directory / "m-900.meta.tmp").write_bytes(b"x")
    (directory / "m-900.data-00000-of-00001.tempstate123").write_bytes(b"x")
    assert resolved_step(directory) == 300


def test_stage_claim_of_ten_gigabytes_is_refused_before_a_byte_is_written(directory: Path, tmp_path: Path) -> None:
    source = resolve_source(str(directory))
    from dataclasses import replace

    lying = (source.files[0], replace(source.files[1], size_bytes=1 << 60))
    with pytest.raises(OutputError, match="no space left to stage"):
        stage(lying, tmp_path / "cache")


def test_stage_file_that_shrank_since_is_refused(directory: Path, tmp_path: Path) -> None:
    source = resolve_source(str(directory))
    cut(directory / DATA, 10)
    with pytest.raises(OrchestratorError, match="changed from"):
        stage(source.files, tmp_path / "cache")


def test_write_to_a_full_disk_is_one_clear_error() -> None:
    with pytest.raises(OutputError, match="no space left") as caught:
        open_location("/dev/full").call("write", "pipe_file", "/dev/full", b"x" * 100_000)
    assert caught.value.details["full"]


def test_write_below_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError):
        open_location(str(tmp_path / "file" / "run")).child("x").write_bytes(b"1")


def test_resolve_bundle_without_global_step_has_no_step(tmp_path: Path) -> None:
    tensors = {"w": np.zeros(3, np.float32)}
    write_bundle(tmp_path, "m-12", tensors)
    (tmp_path / "m-12.meta").write_bytes(meta_bytes(tensors))
    source: Source = resolve_source(str(tmp_path))
    assert (source.step, source.step_in_name) == (None, 12)
