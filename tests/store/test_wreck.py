"""Which files are left of a damaged checkpoint, and what does it say that it holds?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orchestrator.errors import SourceError
from orchestrator.graph.variables.checkpoint_keys import CheckpointKeys, CheckpointTensor
from orchestrator.store.bundle.bundle import BundleTensor
from orchestrator.store.bundle.sstable import table_of
from orchestrator.store.bundle.table_writer import table_bytes
from orchestrator.store.bundle.values import Values
from orchestrator.store.checkpoints.wreck import Wreck, find_wreck, read_wreck
from tests.fakes.bundles import write_bundle, write_pointer
from tests.fakes.v1 import write_v1_checkpoint
from tests.store.damage import cut, flip
from tests.store.slices import table, write_sliced

TENSORS = {f"k{number:02d}": np.full(2, number, np.float32) for number in range(20)}
EXPECTED: CheckpointKeys = {key: CheckpointTensor("float32", (2,)) for key in TENSORS}
DATA = "m-5.data-00000-of-00001"
FIRST, SECOND = (f"m-5.data-0000{number}-of-00002" for number in (0, 1))


def found(url: Path) -> str:
    candidate = find_wreck(str(url))
    return f"{Path(candidate.directory.path).name}/{candidate.prefix}"


def refused(url: Path) -> SourceError:
    with pytest.raises(SourceError) as told:
        find_wreck(str(url))
    return told.value


@pytest.fixture
def some(tmp_path: Path) -> Path:
    """Two checkpoints of one model, both of them empty files."""
    directory = tmp_path / "some"
    directory.mkdir()
    for step in (5, 40):
        for suffix in (".index", ".data-00000-of-00001", ".meta"):
            (directory / f"m-{step}{suffix}").write_bytes(b"")
    return directory


def test_damaged_checkpoint_is_found_by_its_name_by_its_files_and_by_its_directory(
    some: Path,
) -> None:
    for name in ("m-5", "m-5.index", "m-5.data-00000-of-00001", "m-5.meta"):
        assert found(some / name) == "some/m-5"
    assert found(some) == "some/m-40"
    (some / "n-7.index").write_bytes(b"")
    write_pointer(some, "n-7")
    assert found(some) == "some/n-7", "the directory's own file tells which model is meant"
    write_pointer(some, "m-5")
    assert found(some) == "some/m-40"


def test_pointer_into_a_directory_below_is_followed_as_for_a_source(
    some: Path, tmp_path: Path
) -> None:
    """Else a directory whose pointer was copied without what it names would have no wreck."""
    write_pointer(tmp_path, "some/m-5")
    assert found(tmp_path) == "some/m-40"
    write_pointer(some, "gone/m-6")
    assert found(some) == "some/m-40"
    write_pointer(tmp_path, "gone/m-6")
    assert refused(tmp_path).message == f"{tmp_path} holds no checkpoint"


def test_what_no_checkpoint_is_there_for_is_refused_with_what_to_give(some: Path) -> None:
    (some / "graph.meta").write_bytes(b"")
    for name in ("m-6", "graph", "graph.meta"):
        told = refused(some / name)
        assert told.message == f"{some / name}: there are no files of such a checkpoint"
        assert told.remedy == "Give a checkpoint's prefix, one of its files or its directory"
    (some / "m-8.changed.index").write_bytes(b"")
    changes = refused(some / "m-8.changed.index")
    assert changes.message.startswith(f"{some / 'm-8.changed'} holds the rows that changed since")
    (some / "n-7.index").write_bytes(b"")
    several = refused(some)
    assert several.message == f"{some} holds several models: m-40, n-7"
    assert several.remedy == "Give the prefix of the checkpoint to salvage"
    (some / "empty").mkdir()
    assert refused(some / "empty").message == f"{some / 'empty'} holds no checkpoint"


def wreck_of(directory: Path, expected: CheckpointKeys = EXPECTED) -> Wreck:
    return read_wreck(find_wreck(str(directory / "m-5")), expected)


def names(wreck: Wreck) -> list[str | None]:
    return [file.name if file else None for file in wreck.files]


def readable(wreck: Wreck) -> dict[str, bytes]:
    values = Values(wreck.index, wreck.files)
    return {key: b"".join(bytes(one) for one in values.chunks(key)) for key in wreck.index.entries}


CONTENT = {key: value.tobytes() for key, value in TENSORS.items()}


def test_good_checkpoint_has_all_and_nothing_to_tell(tmp_path: Path) -> None:
    write_bundle(tmp_path, "m-5", TENSORS, shards=2)
    wreck = wreck_of(tmp_path)
    assert names(wreck) == ["m-5.index", FIRST, SECOND]
    assert (wreck.index.format, wreck.index.num_shards) == ("V2", 2)
    assert readable(wreck) == CONTENT
    assert (wreck.lost, wreck.problems) == (frozenset(), ())
    assert wreck.candidate.prefix == "m-5"


def test_data_file_that_is_gone_is_named_and_has_its_place(tmp_path: Path) -> None:
    write_bundle(tmp_path, "m-5", TENSORS, shards=2)
    (tmp_path / FIRST).unlink()
    wreck = wreck_of(tmp_path)
    assert names(wreck) == ["m-5.index", None, SECOND]
    assert wreck.problems == (f"{FIRST} is missing",)
    assert wreck.index.entries.keys() == TENSORS.keys()
    (tmp_path / SECOND).unlink()
    none = wreck_of(tmp_path)
    assert names(none) == ["m-5.index", None, None], "the index tells how many there were"
    assert none.problems == (f"{FIRST} is missing", f"{SECOND} is missing")
    (tmp_path / "m-5.index").write_bytes(bytes(9))
    nothing = wreck_of(tmp_path)
    assert names(nothing) == ["m-5.index", None]
    assert nothing.problems == (
        "m-5.index has only 9 bytes: not a checkpoint index",
        "m-5.data-00000-of-00001 is missing",
    )


def test_data_files_of_an_earlier_save_in_other_shards_are_not_taken_for_its_own(
    tmp_path: Path,
) -> None:
    write_bundle(tmp_path, "m-5", {key: value + 1 for key, value in TENSORS.items()})
    index = write_bundle(tmp_path, "m-5", TENSORS, shards=2)[0]
    wreck = wreck_of(tmp_path)
    assert names(wreck) == ["m-5.index", FIRST, SECOND]
    assert (readable(wreck), wreck.problems) == (CONTENT, ())
    index.write_bytes(index.read_bytes().replace(b"\x08\x02", b"\x08\x03", 1))
    assert names(wreck_of(tmp_path)) == ["m-5.index", DATA], "no three files are there"


def test_without_its_index_nothing_of_a_checkpoint_can_be_told(tmp_path: Path) -> None:
    (write_bundle(tmp_path, "m-5", TENSORS)[0]).unlink()
    with pytest.raises(SourceError) as told:
        wreck_of(tmp_path)
    assert told.value.message == (
        "m-5.index is missing, and only it tells what lies where in the data"
    )
    assert told.value.remedy == (
        "Look for a copy of the index: TensorFlow wrote it beside the data"
    )


def test_records_of_a_damaged_block_count_as_far_as_the_graph_vouches_for_them(
    tmp_path: Path,
) -> None:
    index = write_bundle(tmp_path, "m-5", TENSORS)[0]
    whole = table_of(index.read_bytes(), "m-5.index")
    assert [key for key, _ in whole.block_items(1)] == [b"k15", b"k16", b"k17", b"k18", b"k19"]
    flip(index, sum(whole.block_place(1)) + 2)  # in its checksum: what it says is as it was
    wreck = wreck_of(tmp_path)
    assert readable(wreck) == CONTENT
    assert (wreck.lost, len(wreck.problems)) == (frozenset(), 1)
    assert "fails its checksum" in wreck.problems[0]

    without = {key: known for key, known in EXPECTED.items() if key != "k17"}
    assert wreck_of(tmp_path, without).lost == {"k17", "k18", "k19"}
    alone = wreck_of(tmp_path, {})
    assert alone.lost == {f"k{number}" for number in range(15, 20)}
    assert alone.index.entries.keys() == TENSORS.keys() - alone.lost


def test_pointer_in_the_place_of_an_index_is_told_with_its_name(tmp_path: Path) -> None:
    write_bundle(tmp_path, "m-5", TENSORS)
    (tmp_path / "m-5.index").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(SourceError, match=r"^m-5\.index is a Git LFS pointer"):
        wreck_of(tmp_path)


@pytest.mark.parametrize(
    ("known", "taken"),
    [
        (CheckpointTensor("float32", (6, 4)), True),
        (CheckpointTensor("float64", (6, 4)), False),
        (CheckpointTensor("float32", (None, 4)), False),
        (CheckpointTensor("float32", None), False),
        (None, False),
    ],
)
def test_partitioned_tensor_whose_record_is_lost_is_known_from_the_graph(
    tmp_path: Path, known: CheckpointTensor | None, taken: bool
) -> None:
    tables = {"emb": table(6, 4), "other": table(6, 4, 1), "whole": table(6, 4, 2)}
    index = write_sliced(tmp_path, "m-5", 2, tables, {})[0]
    records = list(table_of(index.read_bytes(), "m-5.index").items())
    left = [(key, value) for key, value in records if key not in (b"emb", b"other")]
    index.write_bytes(table_bytes(left))
    due = CheckpointTensor("float32", (6, 4))
    expected = {"other": due, "whole": due, **({"emb": known} if known else {})}
    wreck = wreck_of(tmp_path, expected)
    assert wreck.index.entries.get("emb") == (
        BundleTensor("emb", "float32", (6, 4), slices=1) if taken else None
    )
    due_now = {"other", "whole", *(["emb"] if taken else [])}
    assert readable(wreck) == {key: tables[key].tobytes() for key in due_now}
    assert (wreck.index.format, wreck.index.num_shards) == ("V2", 2)
    assert wreck.index.entries["whole"].slices == 2, "its own record counts where it's there"


OLD = ({"a": np.arange(3.0), "b": np.zeros((0, 3))}, {"c": np.arange(2)})
KNOWN: CheckpointKeys = {
    "a": CheckpointTensor("float64", (3,)),
    "b": CheckpointTensor("float64", (0, 3)),
    "c": CheckpointTensor("int64", (2,)),
    "open": CheckpointTensor("int64", (None, 2)),
    "any": CheckpointTensor("int64", None),
}
SHARDS = ["m-5-00000-of-00002", "m-5-00001-of-00002"]


def test_good_checkpoint_of_the_old_format_has_what_its_shards_hold(tmp_path: Path) -> None:
    write_v1_checkpoint(tmp_path, "m-5", *OLD)
    wreck = wreck_of(tmp_path, {})
    assert readable(wreck) == {
        key: np.asarray(value).tobytes() for shard in OLD for key, value in shard.items()
    }
    assert (wreck.index.format, wreck.index.num_shards) == ("V1", 2)
    assert (names(wreck), wreck.lost, wreck.problems) == (SHARDS, frozenset(), ())
    assert wreck.candidate.prefix == "m-5"


def test_shard_of_the_old_format_that_is_no_table_is_left_out_and_the_next_one_read(
    tmp_path: Path,
) -> None:
    first, second = write_v1_checkpoint(tmp_path, "m-5", *OLD)
    cut(first, 60)
    wreck = wreck_of(tmp_path, KNOWN)
    assert (names(wreck), wreck.index.num_shards) == (SHARDS[1:], 1)
    assert readable(wreck) == {"c": np.arange(2).tobytes()}
    (problem,) = wreck.problems
    assert problem.startswith(f"{SHARDS[0]} doesn't end in a table's footer")
    cut(second, 0)
    with pytest.raises(SourceError) as told:
        wreck_of(tmp_path, KNOWN)
    assert told.value.message == (
        f"no shard of {tmp_path}/m-5 can be read: {problem}; "
        f"{SHARDS[1]} is empty: not a checkpoint index"
    )
    assert told.value.remedy == "Look for another copy, or for an older checkpoint"


def test_old_file_that_lost_the_list_of_what_it_holds_is_read_by_what_the_graph_expects(
    tmp_path: Path,
) -> None:
    (file,) = write_v1_checkpoint(tmp_path, "m-5", OLD[0])
    flip(file, 20)
    wreck = wreck_of(tmp_path, KNOWN)
    assert {key: (one.dtype, one.shape) for key, one in wreck.index.entries.items()} == {
        "a": ("float64", (3,)),
        "b": ("float64", (0, 3)),
        "c": ("int64", (2,)),
    }
    assert len(wreck.problems) == 1
    assert b"".join(map(bytes, Values(wreck.index, wreck.files).chunks("a"))) == CONTENT_OF_A
    with pytest.raises(SourceError, match="fails its checksum in the block at byte 0"):
        wreck_of(tmp_path, {})


CONTENT_OF_A = np.arange(3.0).tobytes()
