"""Does the rest of the store know checkpoints whose tables are in slices of several ranks?"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from orchestrator.errors import CorruptCheckpoint
from orchestrator.exports.export import TensorFormat, export
from orchestrator.exports.salvage import salvage
from orchestrator.store.bundle.bundle import read_index
from orchestrator.store.bundle.sstable import table_of
from orchestrator.store.bundle.table_writer import table_bytes
from orchestrator.store.bundle.values import Values
from orchestrator.store.checkpoints.candidates import group
from orchestrator.store.checkpoints.commits import commit
from orchestrator.store.checkpoints.newest_good import newest_good
from orchestrator.store.checkpoints.retention import prune, retain
from orchestrator.store.checkpoints.run_checkpoints import Checkpoint, list_checkpoints, scan
from orchestrator.store.checkpoints.source import newest_source, resolve_source
from orchestrator.store.checkpoints.verification import check
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.objects.manifest import Manifest
from orchestrator.store.run.lineage import record_takeover
from orchestrator.store.transfer.staging import stage
from orchestrator.store.transfer.upload import upload
from tests.store.slices import joined, local, table, write_sliced

RANKS = 3
TABLES = {"emb": table(50, 4), "emb/Adam": table(50, 4, 1)}
FORMATS: tuple[TensorFormat, ...] = ("checkpoint", "safetensors", "npz")


def whole(step: int) -> dict[str, object]:
    return {"global_step": np.int64(step), "w": np.array([step, 2], np.float32)}


def saved(output: Location, step: int) -> Checkpoint:
    """A committed checkpoint of three ranks."""
    with tempfile.TemporaryDirectory() as scratch:
        files = write_sliced(Path(scratch), f"m-{step}", RANKS, TABLES, whole(step), meta=True)
        records = upload(files, output.child("a0001-g0001"))
    manifest = Manifest(
        name="m", step=step, attempt=1, generation=1, files=records, step_key="global_step"
    )
    return commit(output, manifest)


@pytest.fixture
def output(store: Location) -> Location:
    record_takeover(store, 1, 1, 0)
    return store


def test_checkpoint_in_slices_is_found_verified_and_staged_as_any(
    output: Location, tmp_path: Path
) -> None:
    saved(output, 10)
    last = saved(output, 20)
    assert last.check(deep=True).step == 20
    newest = newest_good(output, deep=True)
    assert newest.checkpoint is not None
    assert (newest.checkpoint.step, newest.refused) == (20, ())
    source, _ = newest_source(output)
    assert source is not None
    assert source.index is not None
    keys = source.keys()
    assert keys is not None
    assert (keys["emb"].shape, keys["emb"].dtype) == ((50, 4), "float32")
    prefix = stage(source.files, tmp_path)
    index, files = local(prefix.parent, prefix.name)
    for key, array in TABLES.items():
        assert joined(list(Values(index, files).chunks(key))) == array.tobytes()


def test_checkpoint_in_slices_is_deleted_with_the_files_of_all_ranks(output: Location) -> None:
    for step in (10, 20, 30):
        saved(output, step)
    with tempfile.TemporaryDirectory() as scratch:  # of a save in which one rank was too late
        files = write_sliced(Path(scratch), "m-40", RANKS, TABLES, whole(40))
        upload([*files[:2], files[3]], output.child("a0001-g0001"))
    done = retain(output, max_to_keep=2, keep_every_hours=10_000)
    assert done.deleted == ("a0001-g0001/m-10",)
    pruned = prune(output, held=False)
    assert len(pruned.leftovers) == 3
    names = [file.name for file in output.child("a0001-g0001").list()]
    assert {name.partition(".")[0] for name in names} == {"m-20", "m-30"}
    assert sum(".data-" in name for name in names) == 2 * RANKS


def test_damage_in_the_file_of_any_rank_is_named(tmp_path: Path) -> None:
    output = open_location(str(tmp_path / "out"))
    record_takeover(output, 1, 1, 0)
    item = saved(output, 10)
    good = item.check().files[1:]
    assert len(good) == RANKS
    for file in good:
        path = Path(file.location.path)
        content = path.read_bytes()
        for at in range(0, len(content), 97):
            path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            with pytest.raises(CorruptCheckpoint, match=file.name):
                scan(output)[0].check(deep=True)
        path.unlink()
        with pytest.raises(CorruptCheckpoint, match=f"{file.name} is missing"):
            scan(output)[0].check()
        path.write_bytes(content)
    assert [one.check(deep=True).step for one in list_checkpoints(output)] == [10]


def test_index_that_lacks_a_slice_is_no_checkpoint(tmp_path: Path) -> None:
    """TensorFlow finds that out when it restores, and no sooner."""
    index = write_sliced(tmp_path, "m", RANKS, TABLES, whole(1))[0]
    records = list(table_of(index.read_bytes(), "m.index").items())
    assert sum(key[:1] == b"\0" for key, _ in records) == RANKS * len(TABLES)
    for number, (key, _) in enumerate(records):
        if key[:1] == b"\0":
            cut = table_bytes(records[:number] + records[number + 1 :])
            with pytest.raises(CorruptCheckpoint, match=r"'emb.*': parts hold 1[0-9]* of 200"):
                read_index(cut, "m.index")
    unlisted = table_bytes([record for record in records if record[0] != b"emb"])
    with pytest.raises(CorruptCheckpoint, match="a slice of 'emb', and no such tensor"):
        read_index(unlisted, "m.index")
    listing = open_location(str(tmp_path))
    assert check(group(listing, listing.list())["m"], deep=True).step == 1


@pytest.mark.parametrize("to", FORMATS)
def test_export_of_a_checkpoint_in_slices_holds_whole_tables(
    tmp_path: Path, to: TensorFormat
) -> None:
    write_sliced(tmp_path / "run", "m-7", RANKS, TABLES, whole(7), meta=True)
    done = export(str(tmp_path / "run" / "m-7"), str(tmp_path / to), to=to, everything=True)
    shapes = {item.key: item.shape for item in done.tensors}
    assert shapes == {"emb": (50, 4), "emb/Adam": (50, 4), "global_step": (), "w": (2,)}
    assert done.compared_bytes == sum(array.nbytes for array in TABLES.values()) + 16
    if to == "npz":
        with np.load(tmp_path / to / "model.npz") as held:
            assert {key: held[key].tobytes() for key in TABLES} == {
                key: array.tobytes() for key, array in TABLES.items()
            }


def test_salvage_without_one_ranks_file_saves_what_others_hold_whole(tmp_path: Path) -> None:
    write_sliced(tmp_path / "run", "m-7", RANKS, TABLES, whole(7), meta=True)
    (tmp_path / "run" / "m-7.data-00002-of-00003").unlink()
    done = salvage(str(tmp_path / "run" / "m-7"), str(tmp_path / "saved"))
    assert set(done.saved) == {"global_step", "w"}
    assert {one.key for one in done.lost} == set(TABLES)
    assert resolve_source(str(tmp_path / "saved"), deep=True).step == 7
