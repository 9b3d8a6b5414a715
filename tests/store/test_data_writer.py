"""Does a rank's data file hold what it was given, piece by piece, and say where all of it lies?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest

from orchestrator.errors import OutputError
from orchestrator.store.bundle.bundle import BundleTensor, read_index
from orchestrator.store.bundle.data_writer import WRITE_BYTES, DataReport, DataWriter
from orchestrator.store.bundle.packed_strings import packed_strings
from orchestrator.store.bundle.slice_keys import WHOLE_DIMENSION
from orchestrator.store.bundle.tensor_writer import TensorWriter
from orchestrator.store.objects.traffic import MOVED

TEXTS = [b"x", b"yz"]
AGAIN = "Nothing was saved; the next save tries again"


def piece(key: str, shape: tuple[int, ...], content: bytes, **fields: Any) -> BundleTensor:
    """A tensor of int8 as a data file holds it."""
    crc = google_crc32c.value(content)
    return BundleTensor(key, "int8", shape, size_bytes=len(content), crc32c=crc, **fields)


def test_data_file_holds_one_after_the_other_what_it_was_given(tmp_path: Path) -> None:
    before = MOVED.size_bytes
    floats = np.array([[1.5, 2], [3, 4]], np.float32)
    with DataWriter(tmp_path / "m-5", 1, 3) as writer:
        writer.add("a", "int8", (5,), [b"ab", memoryview(b""), b"", memoryview(b"cde")])
        writer.add("b", "float32", (2, 2), [floats.data])
        writer.add_part("c", "int8", (4, 2), ((1, 2), (0, 2)), [b"1234"])
        writer.add_part("none", "int8", (4, 2), ((4, 0), (0, 2)), [])
        writer.add_part("whole", "int8", (1, 2), ((0, 1), (0, 2)), [b"56"])
        writer.add_strings("d", (2,), TEXTS)
        writer.add("no rows", "float32", (0, 2), [floats[:0].data])
        writer.add("e", "int4", (3,), [b"789"])  # of a type that this project doesn't know
        assert writer.shard == 1
        report = writer.close()
    assert writer.data_file == tmp_path / "m-5.data-00001-of-00003"
    data = writer.data_file.read_bytes()
    assert MOVED.size_bytes - before == len(data)
    assert report == DataReport(
        1,
        3,
        (
            piece("a", (5,), b"abcde", shard=1),
            BundleTensor(
                *("b", "float32", (2, 2), 1, 5, 16),
                crc32c=google_crc32c.value(floats.tobytes()),
            ),
            piece("c", (2, 2), b"1234", shard=1, offset=21, extents=((1, 2), (0, 2))),
            piece("whole", (1, 2), b"56", shard=1, offset=25),
            BundleTensor("d", "string", (2,), 1, 27, 9, packed_strings(TEXTS)[1]),
            BundleTensor("no rows", "float32", (0, 2), 1, 36, 0, 0),
            BundleTensor("e", "int4", (3,), 1, 36, 3, google_crc32c.value(b"789")),
        ),
        {"c": (4, 2)},
    )
    assert data[:27] == b"abcde" + floats.tobytes() + b"123456"
    assert data[27:] == b"\1\2" + data[29:33] + b"xyz" + b"789"


def test_share_that_is_given_as_one_piece_is_written_in_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[int] = []
    monkeypatch.setattr(MOVED, "add", moved.append)
    content = bytes(range(256)) * (WRITE_BYTES // 256) + b"more"
    with DataWriter(tmp_path / "m") as writer:
        writer.add("w", "uint8", (len(content),), [memoryview(content)])
        (held,) = writer.close().pieces
    assert moved == [WRITE_BYTES, 4]
    assert held.crc32c == google_crc32c.value(content)
    assert writer.data_file.read_bytes() == content


@pytest.mark.parametrize(
    ("content", "given"), [([b"ab"], 2), ([b"abc", b"d"], 4), ([], 0)], ids=["less", "more", "none"]
)
def test_tensor_of_another_size_than_its_shape_is_refused(
    tmp_path: Path, content: Sequence[bytes], given: int
) -> None:
    with DataWriter(tmp_path / "m") as writer:
        writer.add("before", "int8", (4,), [b"1234"])
        with pytest.raises(OutputError) as refused:
            writer.add("w", "int8", (3, 1), content)
    assert refused.value.message == f"'w' [3, 1] takes 3 bytes and was given {given}"
    assert refused.value.remedy == AGAIN


def test_part_of_a_type_that_tensorflow_takes_whole_says_what_to_do(tmp_path: Path) -> None:
    with DataWriter(tmp_path / "m") as writer:
        writer.add_part("w", "float16", (2,), ((0, 2),), [b"abcd"])
        with pytest.raises(OutputError) as refused:
            writer.add_part("w", "float16", (2,), ((0, 1),), [b"ab"])
    assert refused.value.message == "'w' is float16, of which TensorFlow restores no parts"
    assert refused.value.remedy == "Let one worker hold it whole (--shard-tables without it)"


def test_file_is_closed_also_where_it_was_left_in_the_middle(tmp_path: Path) -> None:
    writer = DataWriter(tmp_path / "m")
    with pytest.raises(OutputError), writer:
        writer.add("w", "int8", (3,), [])
    with pytest.raises(ValueError, match="closed"):
        writer.add("w", "int8", (1,), [b"1"])


def test_copied_tensors_keep_their_checksum_and_their_part(tmp_path: Path) -> None:
    whole = piece("w", (2,), b"ab", shard=4, offset=99)
    columns = piece("emb", (3, 1), b"cde", extents=((0, WHOLE_DIMENSION), (1, 1)))
    unknown = BundleTensor("old", "int8", (1,), size_bytes=1)
    with DataWriter(tmp_path / "m", 1, 2) as writer:
        writer.copy(whole, (2,), [b"a", b"b"])
        writer.copy(columns, (3, 2), [b"cde"])
        writer.copy(unknown, (1,), [b"f"])
        report = writer.close()
    assert writer.data_file.read_bytes() == b"abcdef"
    assert report.pieces == (
        piece("w", (2,), b"ab", shard=1),
        piece("emb", (3, 1), b"cde", shard=1, offset=2, extents=((0, 3), (1, 1))),
        BundleTensor("old", "int8", (1,), 1, 5, 1, 0),
    )
    assert report.shapes == {"emb": (3, 2)}


def test_checkpoint_of_one_file_has_an_index_once_it_is_finished(tmp_path: Path) -> None:
    with TensorWriter(tmp_path / "m-7") as writer:
        writer.add("w", "int8", (2,), [b"ab"])
        assert not writer.index_file.exists()
        writer.finish()
    assert writer.index_file == tmp_path / "m-7.index"
    index = read_index(writer.index_file.read_bytes())
    assert (index.num_shards, index.entries) == (1, {"w": piece("w", (2,), b"ab")})
    assert writer.data_file == tmp_path / "m-7.data-00000-of-00001"
    assert writer.data_file.read_bytes() == b"ab"
