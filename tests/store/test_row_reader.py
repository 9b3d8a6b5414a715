"""Are some rows of a tensor read from any part of it, and refused where a part isn't what was saved?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import google_crc32c
import numpy as np
import pytest

from orchestrator.errors import CorruptCheckpoint, GraphMismatch
from orchestrator.store.bundle import row_reader
from orchestrator.store.bundle.bundle import BundleIndex, BundleTensor, read_index
from orchestrator.store.bundle.joint_crc import PartRead
from orchestrator.store.bundle.row_reader import RowReader, checked
from orchestrator.store.bundle.slice_keys import Extents
from orchestrator.store.bundle.sstable import table_of
from orchestrator.store.bundle.v1 import read_v1
from orchestrator.store.objects.location import FileInfo, Location, open_location
from tests.fakes.bundles import tensor_bytes, write_bundle
from tests.fakes.v1 import Part, whole, write_v1
from tests.store.damage import flip

TABLE = np.arange(60, dtype=np.float32).reshape(10, 6)
SALVAGE = "Use another checkpoint, or `tfresume salvage` for what can still be read of this one"
OTHER_GRAPH = "Resume from a checkpoint that this graph wrote"


def _files(paths: Sequence[Path]) -> list[FileInfo | None]:
    return [open_location(str(path)).info() for path in paths]


def _sliced(directory: Path, *parts: tuple[Extents, np.ndarray]) -> tuple[RowReader, Path]:
    """A table in parts of one data file, the first of them last."""
    path = directory / "m.data-00000-of-00001"
    content, slices = bytearray(b"before"), []
    for extents, values in parts[::-1]:
        dtype, shape, data, crc = tensor_bytes(values)
        place = (0, len(content), len(data), crc)
        slices.append(BundleTensor("t", dtype, shape, *place, extents=extents))
        content += data
    path.write_bytes(content)
    entries = {"t": BundleTensor("t", "float32", TABLE.shape, slices=len(parts))}
    index = BundleIndex("V2", 1, entries, tuple(slices))
    return RowReader(index, [None, *_files([path])]), path


def _old(directory: Path, *shards: Sequence[Part]) -> RowReader:
    paths = write_v1(directory, "old", *shards)
    tables = [(path.name, table_of(path.read_bytes(), path.name)) for path in paths]
    return RowReader(read_v1(tables), _files(paths))


def _rows(
    reader: RowReader, start: int, stop: int, key: str = "t"
) -> tuple[np.ndarray, list[PartRead]]:
    memory = np.full((stop - start, 6), np.nan, np.float32)
    return memory, reader.read(key, start, stop, memory.reshape(-1).view(np.uint8).data)


def _part(rows: tuple[int, int], columns: tuple[int, int]) -> tuple[Extents, np.ndarray]:
    first, many = rows
    column, width = columns
    return (rows, columns), TABLE[first : first + many, column : column + width]


LAYOUTS = {
    "rows": [_part((0, 4), (0, 6)), _part((4, 1), (0, 6)), _part((5, 5), (0, 6))],
    "columns": [_part((0, 10), (0, 2)), _part((0, 10), (2, 4))],
    "grid": [_part((row, 5), (column, 3)) for row in (0, 5) for column in (0, 3)],
}
RANGES = ((0, 10), (3, 7), (4, 5), (9, 10), (4, 4))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Start and end of what was read."""
    found: list[tuple[int, int]] = []
    read = Location.read_bytes

    def noted(self: Location, start: int, end: int) -> bytes:
        found.append((start, end))
        return read(self, start, end)

    monkeypatch.setattr(Location, "read_bytes", noted)
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("at_once", [1, 47, 4096])
def test_rows_are_read_alone_in_requests_of_a_bounded_size(
    tmp_path: Path,
    layout: str,
    at_once: int,
    asked: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of at least one row, which a table's may be longer than."""
    monkeypatch.setattr(row_reader, "REQUEST_BYTES", at_once)
    reader, _ = _sliced(tmp_path, *LAYOUTS[layout])
    for start, stop in RANGES:
        asked.clear()
        found, parts = _rows(reader, start, stop)
        assert found.tobytes() == TABLE[start:stop].tobytes(), (start, stop)
        assert sum(end - begin for begin, end in asked) == found.nbytes
        assert max((end - begin for begin, end in asked), default=0) <= max(at_once, 24)
        assert all(0 < part.end - part.start < part.piece.size_bytes for part in parts)


@pytest.mark.parametrize("layout", ["whole", *LAYOUTS])
def test_rows_of_the_old_format_are_read_from_any_shard(tmp_path: Path, layout: str) -> None:
    parts = [Part("t", TABLE.shape, values, extents) for extents, values in LAYOUTS.get(layout, [])]
    shards = (parts[1:], [*parts[:1], parts[-1]]) if parts else ([whole("t", TABLE)],)
    reader = _old(tmp_path, *shards, [whole("tt", TABLE + 1)])
    for start, stop in RANGES:
        found, reads = _rows(reader, start, stop)
        assert (found.tobytes(), reads) == (TABLE[start:stop].tobytes(), []), (start, stop)


def test_rows_that_parts_of_the_old_format_lack_are_refused(tmp_path: Path) -> None:
    parts = [Part("t", TABLE.shape, values, extents) for extents, values in LAYOUTS["grid"]]
    reader = _old(tmp_path, parts[1:])
    assert _rows(reader, 5, 10)[0].tobytes() == TABLE[5:].tobytes()
    last = Part("last", (60,), TABLE.reshape(-1)[:59], ((0, 59),))
    short = _old(tmp_path, [*parts[1:], last])
    for key, size in (("t", 6 * 24), ("last", 6 * 4)):
        rows = (4, 10) if key == "t" else (54, 60)
        with pytest.raises(CorruptCheckpoint) as raised:
            short.read(key, *rows, memoryview(bytearray(size)))
        assert raised.value.message == f"parts of {key!r} are missing"
        assert raised.value.remedy == SALVAGE


def test_part_of_the_old_format_with_too_many_values_is_refused_alone(tmp_path: Path) -> None:
    good = Part("t", TABLE.shape, TABLE[5:], ((5, 5), (0, 6)))
    reader = _old(tmp_path, [Part("t", TABLE.shape, TABLE, ((0, 5), (0, 6))), good])
    assert _rows(reader, 5, 10)[0].tobytes() == TABLE[5:].tobytes()
    with pytest.raises(CorruptCheckpoint) as raised:
        _rows(reader, 0, 5)
    assert raised.value.message == ("the checkpoint: 't' has 240 bytes of values where 120 are due")


def test_rows_in_slices_that_are_not_the_whole_are_refused(tmp_path: Path) -> None:
    reader, _ = _sliced(tmp_path, *LAYOUTS["rows"][:2])
    with pytest.raises(CorruptCheckpoint) as raised:
        _rows(reader, 0, 1)
    assert raised.value.message == "tensor 't': parts hold 30 of 60 elements"
    assert raised.value.remedy == SALVAGE
    index = BundleIndex("V2", 1, {"t": BundleTensor("t", "float32", TABLE.shape, slices=2)})
    with pytest.raises(CorruptCheckpoint, match="parts hold 0 of 60 elements"):
        _rows(RowReader(index, [None, None]), 0, 1)


def test_data_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    index = read_index(write_bundle(tmp_path, "m", {"a": TABLE, "t": TABLE}, 2)[0].read_bytes())
    with pytest.raises(CorruptCheckpoint) as raised:
        _rows(RowReader(index, [None, None, None]), 0, 1)
    assert raised.value.message == "tensor 't' lies in data file 1, which is missing"
    assert raised.value.remedy == SALVAGE


def test_damaged_and_cut_rows_are_refused_by_file_and_name(tmp_path: Path) -> None:
    reader, path = _sliced(tmp_path, *LAYOUTS["rows"])
    flip(path, path.stat().st_size - 1)
    with pytest.raises(CorruptCheckpoint) as raised:
        _rows(reader, 0, 10)
    assert raised.value.message == f"{path.name}: tensor 't' fails its checksum"
    assert raised.value.remedy == SALVAGE
    assert raised.value.details == {"file": path.name, "tensor": "t"}
    path.write_bytes(path.read_bytes()[:-1])
    assert _rows(reader, 5, 9)[0].tobytes() == TABLE[5:9].tobytes()
    with pytest.raises(CorruptCheckpoint) as raised:
        _rows(reader, 0, 4)
    assert raised.value.message == f"{path.name}: tensor 't' is cut off"


TENSORS = {"t": TABLE, "words": [b"a"], "step": np.int64(3), "none": np.zeros((4, 0), np.float32)}


@pytest.mark.parametrize(
    ("key", "start", "stop", "said", "remedy"),
    [
        ("gone", 0, 1, "the checkpoint holds no rows of 'gone'", OTHER_GRAPH),
        ("words", 0, 1, "the checkpoint holds no rows of 'words'", OTHER_GRAPH),
        ("step", 0, 1, "the checkpoint holds no rows of 'step'", OTHER_GRAPH),
        *(
            (
                *("t", start, stop),
                f"rows {start} to {stop} of 't' are wanted, which has 10",
                f"{OTHER_GRAPH}, or give --grow for more rows",
            )
            for start, stop in ((-1, 2), (3, 2), (9, 11))
        ),
    ],
)
def test_rows_that_a_checkpoint_lacks_are_refused_with_what_to_do(
    tmp_path: Path, key: str, start: int, stop: int, said: str, remedy: str
) -> None:
    paths = write_bundle(tmp_path, "m", TENSORS)
    reader = RowReader(read_index(paths[0].read_bytes()), _files(paths))
    with pytest.raises(GraphMismatch) as raised:
        reader.read(key, start, stop, memoryview(bytearray(24)))
    assert (raised.value.message, raised.value.remedy) == (said, remedy)


def test_no_rows_and_rows_without_elements_are_read_without_a_request(
    tmp_path: Path, asked: list[tuple[int, int]]
) -> None:
    paths = write_bundle(tmp_path, "m", TENSORS)
    reader = RowReader(read_index(paths[0].read_bytes()), _files(paths))
    for key, start, stop in (("none", 0, 4), ("t", 10, 10), ("t", 0, 0)):
        assert reader.read(key, start, stop, memoryview(bytearray())) == []
    assert asked == []


def test_rows_of_a_tensor_of_one_dimension_are_its_elements(tmp_path: Path) -> None:
    row = TABLE.reshape(-1)
    index, *data = write_bundle(tmp_path, "m", {"t": row})
    new = RowReader(read_index(index.read_bytes()), _files([index, *data]))
    slices = [
        Part("t", row.shape, row[:50], ((0, 50),)),
        Part("t", row.shape, row[50:], ((50, 10),)),
    ]
    for reader in (new, _old(tmp_path, slices)):
        into = bytearray(8 * 4)
        reader.read("t", 44, 52, memoryview(into))
        assert into == row[44:52].tobytes()


DATA = TABLE.tobytes()


def _told(start: int, end: int, piece: BundleTensor, file: str = "d/m.data") -> PartRead:
    return PartRead(file, piece, start, end, google_crc32c.value(DATA[start:end]))


def _piece(key: str, crc: int) -> BundleTensor:
    return BundleTensor(key, "float32", TABLE.shape, 0, 7, len(DATA), crc)


def test_pieces_are_checked_once_they_are_whole_and_the_others_are_told() -> None:
    piece, other = _piece("t", google_crc32c.value(DATA)), _piece("u", google_crc32c.value(DATA))
    assert checked([]) == []
    assert checked([_told(0, 100, piece), _told(100, 240, piece)]) == []
    assert checked([_told(24, 100, piece), _told(100, 200, piece)]) == [_told(24, 200, piece)]
    first, elsewhere = _told(0, 100, piece), _told(100, 240, piece, "d/n.data")
    assert checked([first, _told(0, 240, other), elsewhere]) == [first, elsewhere]


@pytest.mark.parametrize("file", ["m.data", "gs://b/d/m.data"])
@pytest.mark.parametrize("cut", [99, 240])
def test_piece_that_is_whole_and_damaged_is_refused(file: str, cut: int) -> None:
    piece = _piece("t", google_crc32c.value(DATA) ^ 1)
    with pytest.raises(CorruptCheckpoint) as raised:
        checked([_told(0, cut, piece, file), _told(cut, 240, piece, file)])
    assert raised.value.message == "m.data: tensor 't' fails its checksum"
    assert raised.value.details == {"file": "m.data", "tensor": "t"}
