"""Reading bundles in themselves: what a good one holds, and that no damaged byte is believed."""

from __future__ import annotations

import csv
import struct
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import CorruptCheckpoint, SourceError
from orchestrator.store.bundle.bundle import read_index
from orchestrator.store.bundle.snappy import uncompress
from orchestrator.store.bundle.sstable import mask, table_of, unmask
from orchestrator.store.bundle.tensor_crc import tensor_problem
from orchestrator.store.checkpoints.source import resolve_source
from tests.fakes.bundles import serialize, table_bytes, tensor_bytes, write_bundle

VALUES = {
    "a/kernel": np.arange(12, dtype=np.float32).reshape(3, 4),
    "a/bias": np.zeros(0, np.float64),
    "flags": np.array([True, False]),
    "global_step": np.int64(41),
    "names": [b"", b"one", "zwei ü".encode()],
    "small": np.float16(2.5),
}


def test_read_index_good_bundle_gives_every_tensor(tmp_path: Path) -> None:
    index_file, *shards = write_bundle(tmp_path, "m-1", VALUES, shards=2)
    index = read_index(index_file.read_bytes(), "m-1.index")
    assert (index.num_shards, index.format, index.step_key()) == (2, "V2", "global_step")
    assert {key: (tensor.dtype, tensor.shape) for key, tensor in index.entries.items()} == {
        "a/kernel": ("float32", (3, 4)),
        "a/bias": ("float64", (0,)),
        "flags": ("bool", (2,)),
        "global_step": ("int64", ()),
        "names": ("string", (3,)),
        "small": ("float16", ()),
    }
    for number, shard in enumerate(shards):
        data = shard.read_bytes()
        assert index.shard_bytes.get(number, 0) == len(data)
        for piece in index.pieces:
            if piece.shard == number:
                assert (
                    tensor_problem(piece, data[piece.offset : piece.offset + piece.size_bytes])
                    == ""
                )


def test_read_index_every_single_byte_flipped_is_refused_or_harmless(tmp_path: Path) -> None:
    data = write_bundle(tmp_path, "m-1", VALUES)[0].read_bytes()
    good = read_index(data).entries
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x40
        try:
            found = read_index(bytes(damaged)).entries
        except (CorruptCheckpoint, SourceError):
            continue
        assert found == good, f"byte {position} changed what was read"


def test_read_index_every_truncation_is_refused(tmp_path: Path) -> None:
    data = write_bundle(tmp_path, "m-1", VALUES)[0].read_bytes()
    for length in range(len(data)):
        with pytest.raises(CorruptCheckpoint, match=r"m\.index (is empty|has only|doesn't end)"):
            read_index(data[:length], "m.index")


@given(st.binary(max_size=300))
def test_read_index_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises((CorruptCheckpoint, SourceError)):
        read_index(data)


def test_read_index_with_an_uninitialised_byte_order_is_read() -> None:
    assert (
        read_index(
            table_bytes([(b"", serialize("BundleHeader", num_shards=1, endianness=205))])
        ).num_shards
        == 1
    )


@pytest.mark.parametrize("key", ["names", "a/kernel"])
def test_tensor_problem_any_flipped_byte_is_seen(key: str, tmp_path: Path) -> None:
    index = read_index(write_bundle(tmp_path, "m", VALUES)[0].read_bytes())
    data = tensor_bytes(VALUES[key])[2]
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1
        assert tensor_problem(index.entries[key], bytes(damaged)) != ""
    assert "ends after" in tensor_problem(index.entries[key], data[:-1])


@given(st.integers(0, 2**32 - 1))
def test_mask_and_unmask_undo_each_other(crc: int) -> None:
    assert unmask(mask(crc)) == crc


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=12), st.binary(max_size=40)), max_size=60))
def test_table_any_keys_round_trip(items: list[tuple[bytes, bytes]]) -> None:
    ordered = sorted(dict(items).items())
    assert list(table_of(table_bytes(ordered, per_block=7), "t").items()) == ordered


def test_table_compressed_block_is_read() -> None:
    block = b"\x00\x01\x02kvv" + struct.pack("<II", 0, 1)
    packed = bytes([len(block)]) + bytes([(len(block) - 1) << 2]) + block
    content = packed + b"\x01"
    out = content + struct.pack("<I", mask(google_crc32c.value(content)))
    index = b"\x00\x01\x02k\x00" + bytes([len(packed)]) + struct.pack("<II", 0, 1)
    position = len(out)
    out += index + b"\0" + struct.pack("<I", mask(google_crc32c.value(index + b"\0")))
    footer = b"\0\0" + bytes([position, len(index)])
    out += footer + b"\0" * (40 - len(footer)) + struct.pack("<Q", 0xDB4775248B80FB57)
    assert list(table_of(out, "t").items()) == [(b"k", b"vv")]


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_snappy_random_bytes_raise_or_keep_the_limit(data: bytes) -> None:
    try:
        assert len(uncompress(data, 1000)) <= 1000
    except ValueError:
        return


def test_corpus_every_checkpoint_is_read_and_verified(corpus: Path) -> None:
    with open(corpus / "corpus.tsv") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) > 20
    for row in rows:
        prefix = corpus / row["entry"]
        if row["restore"] != "ok":
            with pytest.raises(CorruptCheckpoint, match="missing"):
                resolve_source(str(prefix))
            continue
        source = resolve_source(str(prefix), deep=True)
        assert source.index is not None
        assert source.format == ("V1" if row["saver"] in ("V1", "LEGACY") else "V2")
        assert source.refused == ()
