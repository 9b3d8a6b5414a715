"""How does a node get some of a checkpoint's tensors without the others?

Rule: their bytes are copied as they stand, by range, neighbours in one request, into a local
checkpoint of their own that TensorFlow reads; each is compared with its checksum on the way. What
is large and lies between them isn't read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from orchestrator.errors import CorruptCheckpoint
from orchestrator.store.bundle.bundle import BundleIndex, BundleTensor
from orchestrator.store.bundle.deep_verify import runs
from orchestrator.store.bundle.tensor_crc import RunningCrc, tensor_problem
from orchestrator.store.bundle.tensor_writer import TensorWriter
from orchestrator.store.bundle.values import CHUNK_BYTES, Values
from orchestrator.store.objects.location import FileInfo
from orchestrator.store.objects.traffic import MOVED


def fetch_tensors(
    index: BundleIndex, files: Sequence[FileInfo], keys: Collection[str], prefix: Path
) -> None:
    """Writes ``prefix.index`` and its data file with the tensors of ``keys`` alone.

    Args:
        index, files: of the checkpoint, as ``Values`` takes them.
        prefix: in a directory that is there.

    Raises:
        CorruptCheckpoint: a tensor isn't what was saved.
        SourceError, StorageUnavailable: it can't be read.
    """
    with TensorWriter(prefix) as writer:
        if index.format == "V1":
            _rewrite(index, files, keys, writer)
        else:
            for piece, content in _pieces(index, files, keys):
                shape = index.entries[piece.key].shape
                writer.copy(piece, shape, content)
        writer.finish()


def _rewrite(
    index: BundleIndex, files: Sequence[FileInfo], keys: Collection[str], writer: TensorWriter
) -> None:
    values = Values(index, files)
    for key in sorted(keys):
        tensor = index.entries[key]
        if tensor.dtype == "string":
            writer.add_strings(key, tensor.shape, values.strings(key))
        else:
            writer.add(key, tensor.dtype, tensor.shape, values.chunks(key))


def _pieces(
    index: BundleIndex, files: Sequence[FileInfo], keys: Collection[str]
) -> Iterator[tuple[BundleTensor, Iterator[bytes]]]:
    unwanted = {piece for piece in index.pieces if piece.key not in keys}
    for run in runs(index, CHUNK_BYTES, unwanted):
        file = files[1 + run[0].shard]
        begin, end = run[0].offset, run[-1].offset + run[-1].size_bytes
        if end - begin > CHUNK_BYTES and run[0].dtype != "string":
            yield run[0], _in_chunks(file, run[0])
            continue
        data = file.location.read_bytes(begin, end) if end > begin else b""
        MOVED.add(len(data))
        for piece in run:
            at = piece.offset - begin
            content = data[at : at + piece.size_bytes]
            if problem := tensor_problem(piece, content):
                raise _damaged(file, piece, problem)
            yield piece, iter([content])


def _in_chunks(file: FileInfo, piece: BundleTensor) -> Iterator[bytes]:
    crc, end = RunningCrc(piece), piece.offset + piece.size_bytes
    for start in range(piece.offset, end, CHUNK_BYTES):
        stop = min(start + CHUNK_BYTES, end)
        data = file.location.read_bytes(start, stop)
        MOVED.add(len(data))
        if len(data) != stop - start:
            raise _damaged(file, piece, "is cut off")
        crc.add(data)
        yield data
    if problem := crc.problem():
        raise _damaged(file, piece, problem)


def _damaged(file: FileInfo, piece: BundleTensor, problem: str) -> CorruptCheckpoint:
    return CorruptCheckpoint(
        f"{file.name}: tensor {piece.key!r} {problem}",
        remedy="Use another checkpoint, or `tfresume salvage` for what can still be read of this one",
        details={"file": file.name, "tensor": piece.key},
    )
