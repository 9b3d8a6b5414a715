"""Which tensors does a quick check read, and are they what the index says?

Rule: whole data files where they are small, else the smallest tensors, the step's first: all of it
in one round trip. They change with every step as large ones do, so a checksum that differs gives
away data and index of different saves, or damage.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from orchestrator.store.bundle.bundle import BundleIndex
from orchestrator.store.bundle.counters import COUNTERS, whole_number
from orchestrator.store.bundle.tensor_crc import tensor_problem
from orchestrator.store.checkpoints.candidates import Candidate, corrupt
from orchestrator.store.objects.location import FileInfo

SAMPLE_TENSORS = 8
"""Tensors, or files, whose checksum is compared: so many reads fit side by side into one round
trip. Every tensor's is a deep check's.
"""
SAMPLE_TENSOR_BYTES = 1 << 20
"""Larger tensors aren't sampled: a megabyte comes about as fast as a store answers at all."""
WHOLE_SHARD_BYTES = 1 << 20
"""A data file up to this size is checked whole at once: one request, and nothing left to doubt."""


def check_sample(
    candidate: Candidate, index: BundleIndex, shards: list[FileInfo], step_key: str | None
) -> int | None:
    """Checks the sample's checksums; the step's value comes with it."""
    ranges = _sample(index, shards, step_key)
    with ThreadPoolExecutor(SAMPLE_TENSORS) as pool:
        texts = pool.map(lambda item: shards[item[0]].location.read_bytes(item[1], item[2]), ranges)
        step: int | None = None
        for (shard, start, end), data in zip(ranges, texts, strict=True):
            for piece in index.pieces:
                if (
                    piece.shard != shard
                    or piece.offset < start
                    or piece.offset + piece.size_bytes > end
                ):
                    continue
                content = data[piece.offset - start : piece.offset - start + piece.size_bytes]
                problem = tensor_problem(piece, content)
                if problem:
                    where = f"{shards[shard].name}: tensor {piece.key!r} {problem}, so data and index aren't of one save, or damaged"
                    raise corrupt(candidate, where, shards[shard].name)
                if piece.key == step_key and piece.shape == () and piece.dtype in COUNTERS:
                    step = whole_number(content, piece.dtype)
    return step


def _sample(
    index: BundleIndex, shards: list[FileInfo], step_key: str | None
) -> list[tuple[int, int, int]]:
    """(shard, start, end) of what a quick check reads."""
    whole = {
        number
        for number, file in enumerate(shards[:SAMPLE_TENSORS])
        if file.size_bytes <= WHOLE_SHARD_BYTES
    }
    ranges = [
        (number, 0, shards[number].size_bytes)
        for number in sorted(whole)
        if shards[number].size_bytes
    ]
    rest = [
        piece
        for piece in index.pieces
        if piece.shard not in whole and 0 < piece.size_bytes <= SAMPLE_TENSOR_BYTES
    ]
    rest.sort(key=lambda piece: (piece.key != step_key, piece.size_bytes))
    return ranges + [
        (piece.shard, piece.offset, piece.offset + piece.size_bytes)
        for piece in rest[:SAMPLE_TENSORS]
    ]
