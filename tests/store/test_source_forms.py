"""What SOURCE may name, under which names, and in which company: large, many, odd, full and
forbidden.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from orchestrator.errors import CorruptCheckpoint, OrchestratorError, OutputError, SourceError
from orchestrator.store.checkpoints.foreign import MAX_REFUSALS
from orchestrator.store.checkpoints.source import Source, resolve_source, source_fingerprint
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.transfer.staging import stage
from tests.fakes.bundles import meta_bytes, model, write_bundle, write_checkpoint, write_pointer
from tests.store.damage import DATA, STEPS, cut, flip, resolved_step


@pytest.mark.parametrize(
    "form", ["m-200", "m-200.meta", "m-200.index", "m-200.data-00000-of-00001"]
)
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


@pytest.mark.parametrize(
    "name", ["mit leer", "日本語", "a*b?[c]", "50%", "x#y", "a::b", "-dash", "model-1-2"]
)
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
    with pytest.raises(
        SourceError, match=r"m-400 doesn't exist; its directory has m-100, m-200, m-300"
    ):
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

    monkeypatch.setattr(
        "orchestrator.store.checkpoints.source.open_location",
        lambda url: replace(location, fs=counting),
    )
    return counting


@pytest.mark.slow
def test_resolve_among_ten_thousand_takes_few_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


@pytest.mark.slow
def test_resolve_ten_thousand_bad_ones_stops_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_stage_claim_of_ten_gigabytes_is_refused_before_a_byte_is_written(
    directory: Path, tmp_path: Path
) -> None:
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
