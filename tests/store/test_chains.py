"""Is a save of changed rows, with all that it stands on, the state that was saved?"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from launch.cli import run as run_command
from orchestrator.errors import CorruptCheckpoint, OutputError, SourceError
from orchestrator.exports.export import TensorFormat, export
from orchestrator.exports.salvage import salvage
from orchestrator.store.bundle.bundle import read_index
from orchestrator.store.bundle.data_writer import DataWriter
from orchestrator.store.bundle.folded import Folded
from orchestrator.store.bundle.index_writer import write_index
from orchestrator.store.bundle.joint_crc import joint_problems
from orchestrator.store.bundle.values import Values
from orchestrator.store.checkpoints.chain_source import newest_state
from orchestrator.store.checkpoints.chains import MAX_LINKS, fold, newest_chain
from orchestrator.store.checkpoints.newest_good import newest_good
from orchestrator.store.checkpoints.pointer import read_pointer
from orchestrator.store.checkpoints.reports import checkpoints_report
from orchestrator.store.checkpoints.retention import prune, retain
from orchestrator.store.checkpoints.run_checkpoints import scan_all
from orchestrator.store.checkpoints.source import resolve_source
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.objects.manifest import ChainLink
from orchestrator.store.run.lineage import record_takeover
from tests.servers.object_stores import HttpStore
from tests.store.chains import Run, add_changed_rows, assert_state, links_of
from tests.store.slices import local, shares

VALUES = "tfresume/changed/00000/values/emb"
FORMATS: tuple[TensorFormat, ...] = ("checkpoint", "safetensors", "npz")


def started(output: Location, changes: int) -> Run:
    """A run with a full save and so many of changed rows after it, one at each step."""
    record_takeover(output, 1, 1, 0)
    run = Run()
    run.train()
    run.saved(output)
    for _ in range(changes):
        run.train()
        run.saved_changes(output)
    return run


@pytest.fixture
def output(tmp_path: Path) -> Location:
    return open_location(str(tmp_path / "out"))


def test_run_goes_on_from_its_newest_state_and_others_from_what_tensorflow_reads(
    output: Location,
) -> None:
    run = started(output, 2)
    source, newest = newest_state(output, deep=True)
    assert source is not None
    assert newest is not None
    assert (source.label, newest.label) == ("a0001-g0001/m-3.changed",) * 2
    assert [files[0].name for files in source.links] == [
        *("m-1.index", "m-2.changed.index", "m-3.changed.index")
    ]
    assert (source.step, source.manifest and source.manifest.step) == (3, 3)
    assert set(source.keys() or ()) == {"emb", "emb/Adam", "global_step", "w", "words"}
    assert Folded.of(source.links).index.entries.keys() == (source.keys() or {}).keys()
    whole = resolve_source(output.url)
    assert whole.label == "a0001-g0001/m-1"
    assert "changed rows up to step 3" in whole.notes[0]

    run.saved(output)
    again, _ = newest_state(output)
    whole = resolve_source(output.url)
    assert again is not None
    assert again.links == ()
    assert whole.notes == ()
    assert again.label == whole.label == "a0001-g0001/m-3"
    assert (again.index_crc32c, again.files) == (whole.index_crc32c, whole.files)
    none = newest_state(
        output, exclude={again.label: "bad", source.label: "bad", "a0001-g0001/m-1": "bad"}
    )
    assert none == (None, None)


def test_chain_is_the_state_of_its_newest_save(store: Location) -> None:
    run = started(store, 3)
    chain, refused = newest_chain(store, deep=True)
    assert refused == ()
    assert_state(chain, run, 4)
    assert read_pointer(store) == "a0001-g0001/m-1"  # TensorFlow's is the full one
    newest = newest_good(store).checkpoint
    assert newest is not None
    assert newest.label == "a0001-g0001/m-1"


def test_rows_of_a_chain_are_read_by_any_number_of_ranks_and_check_together(
    output: Location,
) -> None:
    run = started(output, 2)
    chain, _ = newest_chain(output)
    assert chain is not None
    folded, reads = chain.folded(), []
    for start, stop in shares(400, 3):
        for key, table in run.tables.items():
            block = np.empty((stop - start, 8), np.float32)
            reads += folded.read(key, start, stop, block.reshape(-1).view(np.uint8).data)
            assert block.tobytes() == table[start:stop].tobytes()
    assert len({read.file for read in reads}) >= 4  # of the full save, and of those over it
    assert joint_problems(reads) == []


def test_saves_of_one_row_in_twenty_move_a_tenth_of_the_bytes_at_most(
    http_store: HttpStore,
) -> None:
    def moved() -> int:
        return sum(len(request.body) for request in http_store.proxy.requests)

    record_takeover(http_store.root, 1, 1, 0)
    run = Run(20_000, 64)
    run.train()
    before = moved()
    run.saved(http_store.root)
    full = moved() - before
    assert full >= 2 * 20_000 * 64 * 4
    for _ in range(2):
        run.train(0.05)
        before = moved()
        run.saved_changes(http_store.root)
        assert 0.04 * full < moved() - before <= 0.1 * full
    assert_state(newest_chain(http_store.root)[0], run, 3)


def test_chain_of_all_links_is_the_state_and_a_full_save_stands_on_none(output: Location) -> None:
    run = started(output, MAX_LINKS)
    chain, _ = newest_chain(output, deep=True)
    assert chain is not None
    assert len(chain.links) == MAX_LINKS + 1
    assert links_of(chain) == tuple(run.saves)
    assert_state(chain, run, MAX_LINKS + 1)
    run.train()
    run.saved(output)
    full, _ = newest_chain(output)
    assert full is not None
    assert links_of(full) == tuple(run.saves)
    assert len(full.links) == 1


def test_retention_keeps_what_a_chain_stands_on_and_drops_it_once_outlived(
    store: Location,
) -> None:
    run = started(store, 3)
    done = retain(store, max_to_keep=1, keep_every_hours=10_000, protect={run.saves[-1].label})
    assert done.deleted == ()
    assert_state(newest_chain(store, deep=True)[0], run, 4)
    run.train()
    full = run.saved(store)
    done = retain(store, max_to_keep=1, keep_every_hours=10_000, protect={full.label})
    names = [f"a0001-g0001/m-{step}.changed" for step in (4, 3, 2)]
    assert done.deleted == (*names, "a0001-g0001/m-1")
    left = {file.name.partition(".")[0] for file in store.child("a0001-g0001").list()}
    assert left == {"m-5"}


def test_retention_keeps_an_old_full_save_for_the_chain_over_it(output: Location) -> None:
    """A chain that goes on from before a later full save: what it stands on isn't in the window."""
    run = started(output, 1)
    links = tuple(run.saves)
    run.train()
    run.commit(output, run.save(output))  # m-3, full
    run.train()
    run.touched[:] = True
    run.commit(output, run.save_changes(output, links))  # m-4 over m-1 and m-2
    retain(output, max_to_keep=1, keep_every_hours=10_000)
    labels = [item.label for items in scan_all(output) for item in items]
    assert sorted(labels) == [
        f"a0001-g0001/{name}" for name in ("m-1", "m-2.changed", "m-3", "m-4.changed")
    ]
    assert_state(newest_chain(output, deep=True)[0], run, 4)


def test_prune_keeps_what_a_chain_stands_on_and_takes_unfinished_saves(output: Location) -> None:
    run = started(output, 2)
    run.train()
    run.save_changes(output, tuple(run.saves))  # never committed
    done = prune(output, held=False)
    assert done.checkpoints == ()
    assert len(done.leftovers) == 3
    assert all(".changed" in name and "m-4" in name for name in done.leftovers)
    assert_state(newest_chain(output, deep=True)[0], run, 3)


def test_prune_takes_a_fenced_save_of_changed_rows(output: Location) -> None:
    run = started(output, 3)
    record_takeover(output, 2, 1, 2, parent=scan_all(output)[0][0].generation_id)
    assert_state(newest_chain(output)[0], run, 2)
    done = prune(output, held=False)
    assert done.checkpoints == ("a0001-g0001/m-4.changed", "a0001-g0001/m-3.changed")
    assert_state(newest_chain(output, deep=True)[0], run, 2)


@pytest.mark.parametrize("broken", ["m-1", "m-2.changed", "m-3.changed"])
def test_chain_with_a_broken_link_falls_back_to_what_is_whole(
    output: Location, broken: str
) -> None:
    run = started(output, 3)
    directory = Path(output.path) / "a0001-g0001"
    data = directory / f"{broken}.data-00001-of-00002"
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    chain, refused = newest_chain(output, deep=True)
    if broken == "m-1":
        assert chain is None
    else:
        assert_state(chain, run, int(broken[2]) - 1)
    assert all(broken in one.reason for one in refused)
    rows = checkpoints_report(output, verify=True).checkpoints
    bad = [row.label for row in rows if row.state == "corrupt"]
    assert bad == [one.checkpoint for one in refused]
    (directory / f"{broken}.manifest.json").unlink()
    assert len(newest_chain(output)[1]) == len(refused)


@pytest.mark.slow
@pytest.mark.parametrize("damaged", ["m-1", "m-2.changed"])
def test_damage_in_a_chain_that_is_read_block_by_block_is_found_at_its_end(
    output: Location, damaged: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no block has all of a piece, its checksum is that of the blocks together."""
    monkeypatch.setattr("orchestrator.store.bundle.folded.CHUNK_BYTES", 64)  # two rows
    run = started(output, 1)
    chain, _ = newest_chain(output)
    assert_state(chain, run, 2)
    assert chain is not None
    index, files = chain.checked[0 if damaged == "m-1" else 1].index, Path(output.path)
    piece = next(one for one in index.pieces if one.key in ("emb", VALUES))
    path = files / "a0001-g0001" / f"{damaged}.data-{piece.shard:05d}-of-00002"
    content = bytearray(path.read_bytes())
    content[piece.offset + 3] ^= 1  # of its first row
    path.write_bytes(content)
    with pytest.raises(CorruptCheckpoint, match=f"{path.name}.*fails its checksum"):
        list(chain.folded().chunks("emb"))


def test_chain_over_another_save_of_the_same_name_is_refused(output: Location) -> None:
    run = started(output, 1)
    other = (ChainLink(label=run.saves[0].label, save_id="another"), *run.saves[1:])
    run.train()
    run.commit(output, run.save_changes(output, other))
    chain, refused = newest_chain(output)
    assert_state(chain, run, 2)
    assert "m-1 is another save than the one" in refused[0].reason


def test_changed_rows_over_what_is_gone_are_never_committed(output: Location) -> None:
    run = started(output, 1)
    run.train()
    manifest = run.save_changes(output, tuple(run.saves))
    (Path(output.path) / "a0001-g0001" / "m-1.manifest.json").unlink()
    with pytest.raises(OutputError, match="stands on a0001-g0001/m-1, which isn't there"):
        run.commit(output, manifest)
    assert not (Path(output.path) / "a0001-g0001" / "m-3.changed.manifest.json").exists()


def test_report_lists_saves_of_changed_rows_and_what_they_stand_on(output: Location) -> None:
    started(output, 2)
    rows = checkpoints_report(output).as_dict()["checkpoints"]
    assert [(row["label"].partition("/")[2], row["state"]) for row in rows] == [
        ("m-3.changed", "good"),
        ("m-2.changed", "good"),
        ("m-1", "good"),
    ]
    assert rows[0]["stands_on"] == ("a0001-g0001/m-1", "a0001-g0001/m-2.changed")
    assert rows[2]["stands_on"] == ()


@pytest.mark.slow
@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("named", ["", "/a0001-g0001/m-3.changed"])
def test_export_of_a_chain_holds_the_folded_state(
    output: Location, tmp_path: Path, to: TensorFormat, named: str
) -> None:
    run = started(output, 2)
    done = export(output.url + named, str(tmp_path / to), to=to, everything=True, omit=["words"])
    assert done.step == 3
    assert {item.key for item in done.tensors} == {"emb", "emb/Adam", "global_step", "w"}
    if to == "npz":
        with np.load(tmp_path / to / "model.npz") as held:
            assert {key: held[key].tobytes() for key in run.tables} == run.at[3]


def test_save_of_changed_rows_is_no_source_by_itself(output: Location) -> None:
    started(output, 1)
    with pytest.raises(SourceError, match="no checkpoint by itself") as raised:
        resolve_source(f"{output.url}/a0001-g0001/m-2.changed")
    # What the remedies say is done, one after the other, and gives a checkpoint
    (command,) = re.findall("`tfresume (.*?)`", raised.value.remedy or "")
    folded = f"{output.url}-folded"
    assert run_command(shlex.split(command.replace("DIRECTORY", folded))) == 0
    with pytest.raises(SourceError, match=r"Copy the \.meta"):
        resolve_source(folded)
    shutil.copy(Path(output.path) / "a0001-g0001/m-1.meta", Path(folded) / "model.ckpt.meta")
    whole = resolve_source(folded).index
    assert whole is not None
    assert {"emb", "emb/Adam", "w", "words"} <= set(whole.entries)
    with pytest.raises(SourceError, match="no checkpoint by itself"):
        salvage(f"{output.url}/a0001-g0001/m-2.changed", f"{output.url}-saved")
    assert resolve_source(output.url).step == 1
    (Path(output.path) / "checkpoint").unlink()
    assert resolve_source(f"{output.url}/a0001-g0001").step == 1
    with pytest.raises(SourceError, match="isn't there"):
        export(f"{output.url}/a0001-g0001/m-9.changed", output.url + "x", to="npz")


def test_fold_writes_one_plain_checkpoint(output: Location, tmp_path: Path) -> None:
    run = started(output, 2)
    chain, _ = newest_chain(output)
    assert chain is not None
    fold(chain, tmp_path / "m-3")
    index, files = local(tmp_path, "m-3")
    assert (index.num_shards, set(index.entries)) == (1, {*run.tables, *run.whole})
    for key, content in run.at[3].items():
        assert b"".join(bytes(piece) for piece in Values(index, files).chunks(key)) == content


def test_changed_rows_that_are_none_of_the_table_are_refused(tmp_path: Path) -> None:
    with DataWriter(tmp_path / "m") as writer:
        for rows, words in (([2, 1], "aren't ascending"), ([1, 1], "aren't"), ([3, 9], "outside")):
            with pytest.raises(OutputError, match=words):
                add_changed_rows(
                    writer, "emb", "float32", (5, 2), np.array(rows, np.int64), bytes(16)
                )
        add_changed_rows(writer, "emb", "float32", (5, 2), np.array([], np.int64), b"")
        path = write_index(tmp_path / "m", [writer.close()])
    assert not read_index(path.read_bytes()).entries


def test_changes_of_a_table_that_the_full_save_lacks_are_refused(output: Location) -> None:
    run = started(output, 0)
    run.tables["late"] = np.zeros((400, 3), np.float32)
    run.train()
    run.saved_changes(output)
    chain, refused = newest_chain(output)
    assert chain is not None
    assert chain.newest.step == 1
    assert "a0001-g0001/m-2.changed changes rows of 'late'" in refused[0].reason
    with pytest.raises(CorruptCheckpoint, match="'late'"):
        export(f"{output.url}/a0001-g0001/m-2.changed", output.url + "x", to="npz")
