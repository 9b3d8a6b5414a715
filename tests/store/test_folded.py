"""Are the rows of a checkpoint that stands on others those that the last save of each has given?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from orchestrator.errors import CorruptCheckpoint, GraphMismatch
from orchestrator.store.bundle import folded as folding
from orchestrator.store.bundle import values
from orchestrator.store.bundle.data_writer import DataWriter
from orchestrator.store.bundle.folded import ChainSave, Folded
from orchestrator.store.bundle.index_writer import write_index
from orchestrator.store.bundle.joint_crc import joint_problems
from orchestrator.store.objects.location import open_location
from tests.store.chains import add_changed_rows
from tests.store.slices import joined, local

OLDER = "Use an older checkpoint; `tfresume checkpoints RUN --verify` shows which are good"
SHAPE = (10, 2)
EMB = np.arange(20, dtype=np.float32).reshape(SHAPE)
COUNTS = np.arange(10, dtype=np.int8)

Given = Callable[[DataWriter], None]


def save(directory: Path, name: str, *ranks: Given) -> ChainSave:
    """What each rank gives of it, in a data file of its own."""
    reports = []
    for rank, give in enumerate(ranks):
        with DataWriter(directory / name, rank, len(ranks)) as writer:
            give(writer)
            reports.append(writer.close())
    write_index(directory / name, reports)
    index, files = local(directory, name)
    return ChainSave(index, files, name)


def full(writer: DataWriter) -> None:
    writer.add("emb", "float32", SHAPE, [EMB.tobytes()])
    writer.add("counts", "int8", (10,), [COUNTS.tobytes()])
    writer.add("step", "int64", (), [np.int64(1).tobytes()])
    writer.add_strings("words", (1,), [b"first"])


def changed(key: str, rows: list[int], value: int, dtype: str = "float32") -> Given:
    """Rows of a table of the shape of 'emb' or 'counts' that are all that value now."""

    def give(writer: DataWriter) -> None:
        shape = SHAPE if dtype == "float32" else (10,)
        content = np.full((len(rows), *shape[1:]), value, dtype).tobytes()
        add_changed_rows(writer, key, dtype, shape, np.array(rows, np.int64), content)

    return give


def second(writer: DataWriter) -> None:
    changed("emb", [1, 2, 4], 100)(writer)
    changed("counts", [0, 9], 50, "int8")(writer)
    writer.add("step", "int64", (), [np.int64(2).tobytes()])
    writer.add_strings("words", (1,), [b"second"])


NOW = EMB.copy()
NOW[[1, 2, 4]] = 100
NOW[7] = 200
NOW[[2, 9]] = 300
COUNTED = COUNTS.copy()
COUNTED[[0, 9]] = 50


@pytest.fixture
def saves(tmp_path: Path) -> list[ChainSave]:
    """A full save by two, the second of whom had nothing, and two of changed rows."""
    return [
        save(tmp_path, "m-1", full, lambda writer: None),
        save(tmp_path, "m-2", second, changed("emb", [7], 200)),
        save(tmp_path, "m-3", changed("emb", [2, 9], 300)),
    ]


def rows_of(chain: Folded, key: str, start: int, stop: int, row_bytes: int = 8) -> bytes:
    block = bytearray((stop - start) * row_bytes)
    chain.read(key, start, stop, memoryview(block))
    return bytes(block)


def test_tensors_are_those_of_the_last_save_that_gave_them(saves: list[ChainSave]) -> None:
    chain = Folded(saves)
    assert (chain.index.format, chain.index.num_shards) == ("V2", 2)
    assert chain.index.entries.keys() == {"emb", "counts", "step", "words"}
    assert joined(list(chain.chunks("emb"))) == NOW.tobytes()
    assert joined(list(chain.chunks("counts"))) == COUNTED.tobytes()
    assert joined(list(chain.chunks("step"))) == np.int64(2).tobytes()
    assert chain.strings("words") == [b"second"]


@pytest.mark.parametrize("at_once", [1, 8, 9, 16, 1000])
def test_rows_in_blocks_of_any_size_are_the_tables_and_check_together(
    saves: list[ChainSave], monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    for module in (folding, values):
        monkeypatch.setattr(module, "CHUNK_BYTES", at_once)
    chain = Folded(saves)
    for key, table, row_bytes in (("emb", NOW, 8), ("counts", COUNTED, 1), ("emb", NOW, 8)):
        chunks = list(chain.chunks(key))
        assert joined(chunks) == table.tobytes()
        assert {len(chunk) // row_bytes for chunk in chunks[:-1]} <= {max(1, at_once // row_bytes)}
        reads = []
        for start, stop in ((0, 3), (3, 3), (3, 8), (8, 10)):
            block = bytearray((stop - start) * row_bytes)
            reads += chain.read(key, start, stop, memoryview(block))
            assert block == table[start:stop].tobytes()
        assert joint_problems(reads) == []
    if at_once == 1:
        # A row at a time of each save; those who read others tell of theirs
        assert len(chain.read("emb", 0, 5, memoryview(bytearray(40)))) == 1 + 3 + 1


def test_tensor_that_a_later_save_holds_whole_has_no_changes_from_before(
    saves: list[ChainSave], tmp_path: Path
) -> None:
    expected = EMB + 1000
    saves.append(
        save(tmp_path, "m-4", lambda one: one.add("emb", "float32", SHAPE, [expected.tobytes()]))
    )
    assert joined(list(Folded(saves).chunks("emb"))) == expected.tobytes()
    saves.append(save(tmp_path, "m-5", changed("emb", [3], 7)))
    expected[3] = 7
    assert joined(list(Folded(saves).chunks("emb"))) == expected.tobytes()
    assert rows_of(Folded(saves), "emb", 2, 4) == expected[2:4].tobytes()


def test_table_without_columns_has_changed_rows_without_bytes(tmp_path: Path) -> None:
    def give(writer: DataWriter) -> None:
        writer.add("none", "float32", (3, 0), [])

    def change(writer: DataWriter) -> None:
        add_changed_rows(writer, "none", "float32", (3, 0), np.array([1]), b"")

    chain = Folded([save(tmp_path, "m-1", give), save(tmp_path, "m-2", change)])
    assert joined(list(chain.chunks("none"))) == b""


def test_rows_that_no_save_holds_are_refused(saves: list[ChainSave]) -> None:
    for chain in (Folded(saves), Folded(saves[:1])):
        for key in ("gone", "step", "words"):
            with pytest.raises(GraphMismatch, match=f"no rows of '{key}'"):
                rows_of(chain, key, 0, 1)


@pytest.mark.parametrize(
    ("key", "dtype", "shape", "said"),
    [
        (
            "gone",
            "float32",
            SHAPE,
            "m-2 changes rows of 'gone', which the saves before it don't hold",
        ),
        (
            "emb",
            "int32",
            SHAPE,
            "m-2 changes rows of 'emb', which the saves before it hold as float32 [10, 2]",
        ),
        (
            "emb",
            "float32",
            (10, 3),
            "m-2 changes rows of 'emb', which the saves before it hold as float32 [10, 2]",
        ),
    ],
)
def test_changed_rows_that_do_not_fit_the_table_are_refused(
    tmp_path: Path, key: str, dtype: str, shape: tuple[int, ...], said: str
) -> None:
    def give(writer: DataWriter) -> None:
        add_changed_rows(writer, key, dtype, shape, np.array([1]), bytes(4 * shape[1]))

    with pytest.raises(CorruptCheckpoint) as refused:
        Folded([save(tmp_path, "m-1", full), save(tmp_path, "m-2", give)])
    assert (refused.value.message, refused.value.remedy) == (said, OLDER)


def test_numbers_of_changed_rows_without_their_values_are_refused(tmp_path: Path) -> None:
    def give(writer: DataWriter) -> None:
        writer.add("tfresume/changed/00000/rows/emb", "int64", (1,), [bytes(8)])

    with pytest.raises(
        CorruptCheckpoint, match=r"^m-2: the changed rows of 'emb' and their values"
    ):
        Folded([save(tmp_path, "m-1", full), save(tmp_path, "m-2", give)])


def test_damage_in_any_save_is_found_before_the_last_block_is_given(
    saves: list[ChainSave], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no block has all of a piece, its checksum is that of the blocks together."""
    monkeypatch.setattr(folding, "CHUNK_BYTES", 16)
    for number, key in ((0, "emb"), (1, "tfresume/changed/00000/values/emb")):
        index, files = saves[number].index, saves[number].files
        file = files[1]
        assert file is not None
        path = Path(file.location.path)
        content = bytearray(path.read_bytes())
        content[index.entries[key].offset + 3] ^= 1  # of its first row
        path.write_bytes(content)
        chunks = Folded(saves).chunks("emb")
        given = [next(chunks) for _ in range(4)]
        with pytest.raises(CorruptCheckpoint) as refused:
            next(chunks)
        assert refused.value.message.endswith(f"{path.name}: tensor '{key}' fails its checksum")
        assert refused.value.remedy == OLDER
        assert [len(chunk) for chunk in given] == [16] * 4
        content[index.entries[key].offset + 3] ^= 1
        path.write_bytes(content)
    assert joined(list(Folded(saves).chunks("emb"))) == NOW.tobytes()


def test_numbers_of_changed_rows_are_looked_at_where_that_is_asked_for(
    saves: list[ChainSave], tmp_path: Path
) -> None:
    Folded(saves).check_rows()

    def give(writer: DataWriter) -> None:
        rows = np.array([5, 3], np.int64)
        writer.add("tfresume/changed/00000/rows/emb", "int64", (2,), [rows.tobytes()])
        writer.add("tfresume/changed/00000/values/emb", "float32", (2, 2), [bytes(16)])

    chain = Folded([*saves, save(tmp_path, "m-4", give)])
    with pytest.raises(
        CorruptCheckpoint, match=r"^m-4: the changed rows of 'emb' aren't ascending"
    ):
        chain.check_rows()


def test_some_tensors_of_a_chain_are_written_as_one_plain_checkpoint(
    saves: list[ChainSave], tmp_path: Path
) -> None:
    links = [[file for file in one.files if file is not None] for one in saves]
    chain = Folded.of(links)
    (tmp_path / "plain").mkdir()
    chain.write(tmp_path / "plain" / "m", ["words", "emb", "step"])
    index, files = local(tmp_path / "plain", "m")
    assert {key: tensor.shape for key, tensor in index.entries.items()} == {
        "emb": SHAPE,
        "step": (),
        "words": (1,),
    }
    assert [piece.key for piece in index.pieces] == ["emb", "step", "words"]
    plain = values.Values(index, files)
    assert joined(list(plain.chunks("emb"))) == NOW.tobytes()
    assert joined(list(plain.chunks("step"))) == np.int64(2).tobytes()
    assert plain.strings("words") == [b"second"]
    assert len(open_location(str(tmp_path / "plain")).list()) == 2


def test_save_of_a_chain_is_named_by_its_index_where_its_changes_do_not_fit(tmp_path: Path) -> None:
    first, other = save(tmp_path, "m-1", full), save(tmp_path, "m-2", changed("gone", [1], 1))
    links = [[file for file in one.files if file is not None] for one in (first, other)]
    with pytest.raises(CorruptCheckpoint, match=r"^m-2\.index changes rows of 'gone'"):
        Folded.of(links)
