"""Do a tensor's values come out whole and in order, or not at all, in either format?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.errors import CorruptCheckpoint
from orchestrator.store.bundle import values as values_module
from orchestrator.store.bundle.bundle import BundleIndex, BundleTensor, read_index
from orchestrator.store.bundle.slice_keys import Extents, name_prefix, slice_key
from orchestrator.store.bundle.sstable import table_of
from orchestrator.store.bundle.v1 import read_v1
from orchestrator.store.bundle.values import Values, covered, follow_each_other
from orchestrator.store.objects.location import FileInfo, open_location
from tests.fakes.bundles import table_bytes, tensor_bytes, write_bundle
from tests.fakes.v1 import Part, whole, write_v1
from tests.store.damage import flip
from tests.store.slices import joined

TABLE = np.arange(60, dtype=np.float32).reshape(10, 6)
WORDS = [b"a", b"", b"bc", b"def", b"g", b"hi"]
SALVAGE = "Use another checkpoint, or `tfresume salvage` for what can still be read of this one"


def _files(paths: Sequence[Path]) -> list[FileInfo | None]:
    return [open_location(str(path)).info() for path in paths]


class Bundle:
    """A checkpoint whose one data file is written piece by piece.

    Attributes:
        data: the data file.
    """

    def __init__(self, directory: Path) -> None:
        self._content, self._entries = bytearray(), dict[str, BundleTensor]()
        self._slices: list[BundleTensor] = []
        self.data = directory / "m.data-00000-of-00001"

    def _piece(self, key: str, value: Any, extents: Extents = ()) -> BundleTensor:
        dtype, shape, data, crc = tensor_bytes(value)
        offset = len(self._content)
        self._content += data
        return BundleTensor(key, dtype, shape, 0, offset, len(data), crc, extents=extents)

    def whole(self, key: str, value: Any) -> None:
        """One tensor."""
        self._entries[key] = self._piece(key, value)

    def parts(
        self, key: str, shape: tuple[int, ...], dtype: str, *parts: tuple[Extents, Any]
    ) -> None:
        """A partitioned one."""
        self._entries[key] = BundleTensor(key, dtype, shape, slices=max(1, len(parts)))
        self._slices += [self._piece(key, value, extents) for extents, value in parts]

    def values(self) -> Values:
        """Of what was written so far."""
        self.data.write_bytes(self._content)
        index = BundleIndex("V2", 1, self._entries, tuple(self._slices))
        return Values(index, [None, *_files([self.data])])


def _old(directory: Path, *shards: Sequence[Part]) -> tuple[Values, list[Path]]:
    paths = write_v1(directory, "old", *shards)
    tables = [(path.name, table_of(path.read_bytes(), path.name)) for path in paths]
    return Values(read_v1(tables), _files(paths)), paths


BY_ROWS: list[tuple[Extents, np.ndarray]] = [
    (((4, 6), (0, -1)), TABLE[4:]),
    (((0, 4), (0, 6)), TABLE[:4]),
]
BY_COLUMNS: list[tuple[Extents, np.ndarray]] = [
    (((0, 10), (2, 4)), TABLE[:, 2:]),
    (((0, -1), (0, 2)), TABLE[:, :2]),
]
GRID: list[tuple[Extents, np.ndarray]] = [
    (((row, rows), (column, 3)), TABLE[row : row + rows, column : column + 3])
    for row, rows in ((7, 3), (0, 7))
    for column in (3, 0)
]
LAYOUTS = pytest.mark.parametrize("parts", [BY_ROWS, BY_COLUMNS, GRID, [*BY_ROWS, BY_ROWS[0]]])


@LAYOUTS
@pytest.mark.parametrize("at_once", [37, 48, 1000])
def test_parts_in_any_order_come_out_as_the_whole_tensor(
    tmp_path: Path,
    parts: list[tuple[Extents, np.ndarray]],
    at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(values_module, "CHUNK_BYTES", at_once)
    bundle = Bundle(tmp_path)
    bundle.whole("a", np.float32(1))
    bundle.parts("table", TABLE.shape, "float32", *parts)
    bundle.whole("z", TABLE)
    values = bundle.values()
    for key in ("table", "z"):
        pieces = list(values.chunks(key))
        assert joined(pieces) == TABLE.tobytes()
        assert max(len(bytes(piece)) for piece in pieces) <= at_once
    assert joined(list(values.chunks("a"))) == np.float32(1).tobytes()


@LAYOUTS
def test_parts_in_shards_of_the_old_format_come_out_as_the_whole_tensor(
    tmp_path: Path, parts: list[tuple[Extents, np.ndarray]]
) -> None:
    """One that two shards hold counts once; those of another tensor of a like name don't."""
    slices = [Part("table", TABLE.shape, values, extents) for extents, values in parts]
    others = [whole("tab", TABLE[:1]), whole("table/Adam", TABLE + 1), whole("tablf", TABLE[:2])]
    values, _ = _old(tmp_path, [*slices[1:], *others], [slices[0], slices[-1]])
    assert joined(list(values.chunks("table"))) == TABLE.tobytes()
    assert joined(list(values.chunks("table"))) == TABLE.tobytes()
    assert joined(list(values.chunks("table/Adam"))) == (TABLE + 1).tobytes()


def test_old_format_is_read_in_pieces_of_a_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values_module, "CHUNK_BYTES", 100)
    values, _ = _old(tmp_path, [whole("table", TABLE), whole("few", np.array([3, 3]))])
    assert [len(piece) for piece in values.chunks("table")] == [100, 100, 40]
    assert joined(list(values.chunks("few"))) == np.array([3, 3]).tobytes()


def test_tensor_without_elements_has_no_pieces(tmp_path: Path) -> None:
    bundle = Bundle(tmp_path)
    bundle.whole("nothing", np.zeros((0, 3), np.float32))
    bundle.parts("parts", (0, 3), "float32", (((0, 0), (0, -1)), np.zeros((0, 3), np.float32)))
    values = bundle.values()
    assert [list(values.chunks(key)) for key in ("nothing", "parts")] == [[], []]


@pytest.mark.parametrize(
    "parts",
    [
        [(((0, 3), (0, -1)), WORDS)],
        [(((1, 2), (0, 2)), WORDS[2:]), (((0, 1), (0, -1)), WORDS[:2])],
        [(((0, -1), (1, 1)), WORDS[1::2]), (((0, 3), (0, 1)), WORDS[::2])],
    ],
)
def test_strings_in_parts_come_out_in_order_in_either_format(
    tmp_path: Path, parts: list[tuple[Extents, list[bytes]]]
) -> None:
    bundle = Bundle(tmp_path)
    bundle.whole("plain", WORDS)
    bundle.parts("words", (3, 2), "string", *parts)
    values = bundle.values()
    assert (values.strings("plain"), values.strings("words")) == (WORDS, WORDS)
    slices = [Part("words", (3, 2), texts, extents) for extents, texts in parts]
    old, _ = _old(tmp_path, slices, [whole("others", [b"x"])])
    assert (old.strings("words"), old.strings("others")) == (WORDS, [b"x"])


def _refused(values: Values, key: str, *, strings: bool = False) -> CorruptCheckpoint:
    with pytest.raises(CorruptCheckpoint) as raised:
        _ = values.strings(key) if strings else list(values.chunks(key))
    assert raised.value.remedy == SALVAGE
    return raised.value


def test_damaged_and_cut_tensors_are_refused_by_file_and_name(tmp_path: Path) -> None:
    bundle = Bundle(tmp_path)
    bundle.whole("words", WORDS)
    bundle.whole("table", TABLE)
    values, name = bundle.values(), bundle.data.name
    flip(bundle.data, bundle.data.stat().st_size - 1)
    error = _refused(values, "table")
    assert error.message == f"{name}: tensor 'table' fails its checksum"
    assert error.details == {"file": name, "tensor": "table"}
    bundle.data.write_bytes(bundle.data.read_bytes()[:-1])
    assert _refused(values, "table").message == f"{name}: tensor 'table' is cut off"
    assert values.strings("words") == WORDS
    flip(bundle.data, 0)
    error = _refused(values, "words", strings=True)
    assert error.message.startswith(f"{name}: tensor 'words' fails the checksum of its strings'")
    assert error.details == {"file": name, "tensor": "words"}


def test_damage_is_told_before_the_last_piece_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values_module, "CHUNK_BYTES", 60)
    bundle = Bundle(tmp_path)
    bundle.whole("table", TABLE)
    values = bundle.values()
    flip(bundle.data, 0)
    pieces = values.chunks("table")
    assert [len(next(pieces)) for _ in range(3)] == [60, 60, 60]
    with pytest.raises(CorruptCheckpoint):
        next(pieces)


def test_data_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    paths = write_bundle(tmp_path, "m", {"a": TABLE, "b": WORDS}, shards=2)
    index = read_index(paths[0].read_bytes())
    values = Values(index, [*_files(paths[:1]), None, None])
    for key, number in (("a", 0), ("b", 1)):
        error = _refused(values, key, strings=key == "b")
        assert error.message == f"tensor {key!r} lies in data file {number}, which is missing"
    sliced = BundleTensor("s", "float32", (4,), shard=1, slices=2)
    lost = Values(replace(index, entries={"s": sliced}), [*_files(paths[:1]), None, None])
    assert _refused(lost, "s").message == "data file 1: parts of 's' are missing"
    old = Values(BundleIndex("V1", 1, {"s": sliced}), [None, None])
    assert _refused(old, "s").message == "tensor 's' lies in data file 1, which is missing"


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (BY_ROWS[:1], "parts of 'table' are missing"),
        (BY_COLUMNS[1:], "parts of 'table' are missing"),
        ([(BY_ROWS[0][0], TABLE[3:]), BY_ROWS[1]], "a part of 'table' has the wrong size"),
    ],
)
def test_parts_that_are_missing_or_of_another_size_are_refused(
    tmp_path: Path, parts: list[tuple[Extents, np.ndarray]], said: str
) -> None:
    bundle = Bundle(tmp_path)
    bundle.parts("table", TABLE.shape, "float32", *parts)
    assert _refused(bundle.values(), "table").message == f"{bundle.data.name}: {said}"


def test_parts_of_a_type_without_a_known_width_are_refused(tmp_path: Path) -> None:
    bundle = Bundle(tmp_path)
    bundle.parts("t", (4,), "int4", (((0, 4),), np.zeros(4, np.int8)))
    said = f"{bundle.data.name}: a part of 't' has the wrong size"
    assert _refused(bundle.values(), "t").message == said


@pytest.mark.parametrize(
    ("key", "record", "said"),
    [
        (slice_key("t", ((0, 4),)), b"\x12\x02\x1a\x09", "holds a damaged record (a field beyond"),
        (name_prefix("t") + b"\x01", b"", "has a damaged slice key"),
    ],
)
def test_damage_in_the_old_format_is_called_by_its_file(
    tmp_path: Path, key: bytes, record: bytes, said: str
) -> None:
    path = tmp_path / "old"
    path.write_bytes(table_bytes([(key, record)]))
    index = BundleIndex("V1", 1, {"t": BundleTensor("t", "float32", (4,))})
    with pytest.raises(CorruptCheckpoint) as raised:
        list(Values(index, _files([path])).chunks("t"))
    assert raised.value.message.startswith(f"old {said}")
    flip(path, 3)
    with pytest.raises(
        CorruptCheckpoint, match=r"^old fails its checksum in the block at byte 0\b"
    ):
        list(Values(index, _files([path])).chunks("t"))


def test_part_that_two_shards_hold_stands_for_no_other_one(tmp_path: Path) -> None:
    half = Part("t", TABLE.shape, TABLE[:5], ((0, 5), (0, 6)))
    words = Part("w", (2, 1), WORDS[:1], ((0, 1), (0, 1)))
    old, _ = _old(tmp_path, [half, words], [half, words])
    assert _refused(old, "t").message.endswith("parts of 't' are missing")
    assert _refused(old, "w", strings=True).message == "parts of 'w' are missing"


def test_parts_that_shards_of_the_old_format_lack_are_refused(tmp_path: Path) -> None:
    (extents, values), _ = BY_COLUMNS
    old, (path, _) = _old(
        tmp_path, [Part("table", TABLE.shape, values, extents)], [whole("b", TABLE)]
    )
    assert _refused(old, "table").message == f"{path.name}: parts of 'table' are missing"
    beyond = Part("table", TABLE.shape, TABLE, ((0, 10), (0, 5)))
    rest = Part("table", TABLE.shape, TABLE[:, 5:], ((0, 10), (5, 1)))
    old, (path,) = _old(tmp_path, [beyond, rest])
    with pytest.raises(CorruptCheckpoint) as raised:
        list(old.chunks("table"))
    assert raised.value.message == f"{path.name}: 'table' has 240 bytes of values where 200 are due"


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([(((0, 2), (0, -1)), WORDS[:4])], "parts of 'words' are missing"),
        ([], "parts of 'words' are missing"),
        (
            [(((0, 2), (0, -1)), WORDS[:4]), (((2, 1), (0, 1)), WORDS[4:5])],
            "parts of 'words' are missing",
        ),
        ([(((0, 3), (0, -1)), WORDS[:5])], "a part of 'words' lacks strings"),
    ],
)
def test_strings_that_are_missing_are_refused(
    tmp_path: Path, parts: list[tuple[Extents, list[bytes]]], said: str
) -> None:
    bundle = Bundle(tmp_path)
    bundle.parts("words", (3, 2), "string", *parts)
    assert _refused(bundle.values(), "words", strings=True).message == said


@pytest.mark.parametrize(
    ("parts", "follow"),
    [
        ([], True),
        ([()], True),
        ([((0, 4), (0, 3))], True),
        ([((0, 1), (0, 3)), ((1, 3), (0, 3))], True),
        ([((0, 1), (0, 3)), ((2, 2), (0, 3))], False),
        ([((0, 2), (0, 3)), ((1, 3), (0, 3))], False),
        ([((0, 4), (0, 2)), ((0, 4), (2, 1))], False),
        ([((0, 2), (0, 3)), ((2, 2), (1, 2))], False),
    ],
)
def test_parts_follow_each_other_where_they_are_rows_that_touch(
    parts: list[Extents], follow: bool
) -> None:
    assert follow_each_other(parts, (4, 3) if parts != [()] else ()) == follow


def test_elements_of_parts_are_counted() -> None:
    assert covered([((0, 4), (1, 3)), ((7, 2), (0, 5))]) == 22
    assert (covered([]), covered([()])) == (0, 1)
