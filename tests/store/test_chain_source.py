"""What is taken for a source where a save of changed rows may be meant too?"""

from __future__ import annotations

import shutil
from pathlib import Path

import google_crc32c
import pytest

from orchestrator.errors import CorruptCheckpoint, SourceError
from orchestrator.store.bundle.folded import Folded
from orchestrator.store.bundle.values import Values
from orchestrator.store.checkpoints import sample
from orchestrator.store.checkpoints.chain_source import newest_state, resolve_values
from orchestrator.store.checkpoints.chains import newest_chain
from orchestrator.store.checkpoints.run_checkpoints import scan_all
from orchestrator.store.checkpoints.source import resolve_source
from orchestrator.store.objects.location import Location, open_location
from tests.fakes.bundles import model, write_checkpoint
from tests.store.chains import Run, full_and_two_changes
from tests.store.damage import flip

FULL, SECOND, THIRD = (f"a0001-g0001/{name}" for name in ("m-1", "m-2.changed", "m-3.changed"))
RUN = Run(40, 2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Location:
    """A full save and two of changed rows over it."""
    return full_and_two_changes(tmp_path_factory.mktemp("made"), RUN)


@pytest.fixture
def output(made: Location, tmp_path: Path) -> Location:
    shutil.copytree(made.path, tmp_path / "out")
    return open_location(str(tmp_path / "out"))


def place(output: Location, label: str) -> Path:
    return Path(output.path, label)


def without_manifest(output: Location, *labels: str) -> None:
    for label in labels:
        Path(f"{place(output, label)}.manifest.json").unlink()


def table_at(step: int, values: Values | Folded) -> bool:
    return b"".join(bytes(one) for one in values.chunks("emb")) == RUN.at[step]["emb"]


def test_output_of_a_run_means_its_newest_state_folded(output: Location) -> None:
    source, values = resolve_values(output.url)
    meta = place(output, f"{FULL}.meta")
    assert (source.url, source.label, source.name) == (output.shown, THIRD, "m")
    assert (source.step, source.step_in_name, source.format) == (3, 3, "V2")
    assert (source.meta.path, source.meta_data) == (str(meta), meta.read_bytes())
    assert (source.refused, len(source.links), len(source.files)) == ((), 3, 9)
    assert table_at(3, values)
    without_manifest(output, THIRD)
    source, values = resolve_values(output.url)
    assert (source.label, [one.checkpoint for one in source.refused]) == (SECOND, [THIRD])
    assert table_at(2, values)


def test_run_whose_newest_state_is_a_checkpoint_is_a_source_as_any(output: Location) -> None:
    without_manifest(output, SECOND, THIRD)
    source, values = resolve_values(output.url)
    assert source == resolve_source(output.url)
    assert isinstance(values, Values)
    assert table_at(1, values)
    without_manifest(output, FULL)
    with pytest.raises(CorruptCheckpoint, match="was never committed"):
        resolve_values(output.url)


def test_directory_of_others_is_never_taken_for_a_run(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "m-5", model(5))
    (tmp_path / "events").mkdir()
    (tmp_path / "a0001-g0001").write_bytes(b"a file of that name is no run's")
    source, values = resolve_values(str(tmp_path))
    assert (source.step, source.links, type(values)) == (5, (), Values)


@pytest.mark.parametrize("suffix", ["", ".index", ".data-00001-of-00002", ".manifest.json"])
def test_save_of_changed_rows_is_meant_by_its_name_and_by_each_of_its_files(
    output: Location, suffix: str
) -> None:
    asked = f"{output.url}/{SECOND}{suffix}"
    source, values = resolve_values(asked)
    assert (source.url, source.label, source.refused) == (asked, SECOND, ())
    assert table_at(2, values)


def test_save_of_changed_rows_that_is_not_there_is_refused_with_who_lists_them(
    output: Location,
) -> None:
    without_manifest(output, THIRD)
    for label in (THIRD, "a0001-g0001/m-9.changed"):
        with pytest.raises(SourceError) as told:
            resolve_values(f"{output.url}/{label}")
        assert told.value.message == f"{output.url}/{label} isn't there as a save of a run's"
        assert told.value.remedy == "`tfresume checkpoints RUN` lists a run's saves"
        assert told.value.details == {"url": f"{output.url}/{label}", "missing": True}


def test_state_that_is_a_full_checkpoint_is_described_as_that(output: Location) -> None:
    without_manifest(output, SECOND, THIRD)
    source, newest = newest_state(output)
    whole = resolve_source(output.url)
    assert source is not None
    assert newest is not None
    assert (newest.label, source.links) == (FULL, ())
    assert source.index is not None
    assert whole.index is not None
    assert source.index.entries == whole.index.entries
    assert source.index.pieces == whole.index.pieces
    assert (source.format, source.index_crc32c) == (whole.format, whole.index_crc32c)
    assert [one.reason for one in source.refused] == [
        "it was never committed: the save didn't finish"
    ] * 2


def test_every_byte_is_read_only_where_that_is_asked_for(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "WHOLE_SHARD_BYTES", 0)
    monkeypatch.setattr(sample, "SAMPLE_TENSOR_BYTES", 8)
    flip(Path(f"{place(output, THIRD)}.data-00001-of-00002"), 20)
    quick = newest_state(output)[1]
    source, deep = newest_state(output, deep=True)
    assert quick is not None
    assert deep is not None
    assert source is not None
    assert (quick.label, deep.label) == (THIRD, SECOND)
    assert "fails its checksum" in source.refused[0].reason


def test_fingerprint_of_a_chain_is_of_all_its_links_as_runs_have_recorded_it(
    output: Location,
) -> None:
    chain, _ = newest_chain(output)
    source, _ = newest_state(output)
    assert chain is not None
    assert source is not None
    links = [checked.index_crc32c.to_bytes(4, "big") for checked in chain.checked]
    assert source.index_crc32c == google_crc32c.value(b"".join(links))


def test_chain_over_a_checkpoint_without_a_graph_says_so(output: Location) -> None:
    full = scan_all(output)[0][0]
    manifest = full.manifest()
    files = [file for file in manifest.files if not file.name.endswith(".meta")]
    Path(f"{place(output, FULL)}.manifest.json").write_bytes(
        manifest.model_copy(update={"files": tuple(files)}).to_bytes()
    )
    place(output, f"{FULL}.meta").unlink()
    with pytest.raises(CorruptCheckpoint) as told:
        newest_state(output)
    assert told.value.message == f"checkpoint {full.prefix.shown} has no .meta"
    assert told.value.remedy == "Give an older checkpoint as the source by its prefix"
