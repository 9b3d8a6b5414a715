"""Which tensors of a checkpoint are damaged?

Rule: every byte is read once, in pieces of bounded size and a bounded number at a time, and
compared with the checksum that the index holds for its tensor. V1 files carry a checksum per block,
which reading the table checks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from orchestrator.errors import CorruptCheckpoint
from orchestrator.store.bundle.bundle import BundleIndex, BundleTensor
from orchestrator.store.bundle.sstable import Table
from orchestrator.store.bundle.tensor_crc import RunningCrc, tensor_problem
from orchestrator.store.objects.location import FileInfo
from orchestrator.store.objects.traffic import MOVED

RUN_BYTES = 16 << 20
"""Read at once; with READERS at a time this bounds the memory of a deep check."""
LOCAL_RUN_BYTES = 2 << 20
"""The same for local disks, where a request costs nothing and a worker's memory counts."""
READERS = 8
"""Requests at a time: they hide a store's answering time (some tens of milliseconds), and with
``RUN_BYTES`` stay below 128 MiB of memory.
"""


def damaged_tensors(
    index: BundleIndex, files: Sequence[FileInfo], known: Collection[BundleTensor] = frozenset()
) -> list[str]:
    """What's wrong with each damaged tensor, file and key named; empty for a good checkpoint.

    Args:
        files: in V2 the index and then the data files; in V1 the shards.
        known: tensors that were found good already.

    Raises:
        StorageUnavailable: the store doesn't answer.
    """
    with ThreadPoolExecutor(READERS) as pool:
        if index.format == "V1":
            return [problem for problem in pool.map(_v1_problem, files) if problem]
        shards = files[1:]
        run_bytes = LOCAL_RUN_BYTES if all(file.location.is_local for file in shards) else RUN_BYTES
        found = pool.map(
            lambda run: _problems(shards, run, run_bytes), runs(index, run_bytes, known)
        )
        return [problem for problems in found for problem in problems]


def runs(
    index: BundleIndex, run_bytes: int, known: Collection[BundleTensor] = frozenset()
) -> Iterator[list[BundleTensor]]:
    """The tensors that aren't ``known`` in file order, neighbours put together up to ``run_bytes``;
    a larger tensor alone.
    """
    run: list[BundleTensor] = []
    for piece in index.pieces:
        if piece in known:
            continue
        if run and (
            piece.shard != run[0].shard
            or piece.offset + piece.size_bytes - run[0].offset > run_bytes
        ):
            yield run
            run = []
        run.append(piece)
    if run:
        yield run


def _problems(shards: Sequence[FileInfo], run: list[BundleTensor], run_bytes: int) -> list[str]:
    file = shards[run[0].shard]
    start, end = run[0].offset, run[-1].offset + run[-1].size_bytes
    if end - start > run_bytes and run[0].dtype != "string":
        problem = _large_problem(file, run[0], run_bytes)
        return [f"{file.name}: tensor {run[0].key!r} {problem}"] if problem else []
    data = file.location.read_bytes(start, end) if end > start else b""
    MOVED.add(len(data))
    found = []
    for piece in run:
        problem = tensor_problem(
            piece, data[piece.offset - start : piece.offset - start + piece.size_bytes]
        )
        if problem:
            found.append(f"{file.name}: tensor {piece.key!r} {problem}")
    return found


def _large_problem(file: FileInfo, piece: BundleTensor, run_bytes: int) -> str:
    crc, end = RunningCrc(piece), piece.offset + piece.size_bytes
    for start in range(piece.offset, end, run_bytes):
        data = file.location.read_bytes(start, min(start + run_bytes, end))
        if len(data) != min(start + run_bytes, end) - start:
            return "is cut off"
        crc.add(data)
        MOVED.add(len(data))
    return crc.problem()


def _v1_problem(file: FileInfo) -> str:
    try:
        for _ in Table(
            lambda start, end: file.location.read_bytes(start, end), file.size_bytes, file.name
        ).items():
            pass
    except CorruptCheckpoint as error:
        return error.message
    return ""
