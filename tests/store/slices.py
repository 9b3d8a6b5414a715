"""What do the tests of checkpoints in slices share?"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.store.bundle.bundle import BundleIndex, read_index
from orchestrator.store.bundle.data_writer import DataReport, DataWriter
from orchestrator.store.bundle.index_writer import write_index
from orchestrator.store.objects.location import FileInfo, Location, open_location
from orchestrator.store.transfer.upload import upload
from tests.fakes.bundles import meta_bytes

Tables = Mapping[str, np.ndarray]


def shares(rows: int, ranks: int) -> list[tuple[int, int]]:
    """Contiguous blocks of rows, first and end, one for each rank; some empty where ranks outnumber
    rows.
    """
    return [(rank * rows // ranks, (rank + 1) * rows // ranks) for rank in range(ranks)]


def add_rows(
    writer: DataWriter,
    key: str,
    dtype: str,
    shape: tuple[int, ...],
    start: int,
    stop: int,
    chunks: Iterable[bytes],
) -> None:
    """Rows ``start`` up to ``stop`` of a tensor of ``shape``."""
    rest = tuple((0, size) for size in shape[1:])
    writer.add_part(key, dtype, shape, ((start, stop - start), *rest), chunks)


def write_rank(
    prefix: Path, rank: int, ranks: int, tables: Tables, whole: Mapping[str, Any]
) -> DataReport:
    """One rank's data file: its rows of each table; rank 0 writes the whole tensors."""
    with DataWriter(prefix, rank, ranks) as writer:
        for key in sorted([*tables, *whole] if rank == 0 else tables):
            if key in tables:
                array = tables[key]
                start, stop = shares(len(array), ranks)[rank]
                content = [array[start:stop].tobytes()]
                add_rows(writer, key, array.dtype.name, array.shape, start, stop, content)
            elif isinstance(whole[key], list):
                writer.add_strings(key, (len(whole[key]),), whole[key])
            else:
                array = np.asarray(whole[key])
                writer.add(key, array.dtype.name, array.shape, [array.tobytes()])
        return writer.close()


def write_sliced(
    directory: Path,
    prefix: str,
    ranks: int,
    tables: Tables,
    whole: Mapping[str, Any],
    *,
    meta: bool = False,
) -> list[Path]:
    """The files of a checkpoint by so many ranks, the index first."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / prefix
    reports = [write_rank(path, rank, ranks, tables, whole) for rank in range(ranks)]
    files = [write_index(path, reports), *sorted(directory.glob(f"{prefix}.data-*"))]
    if meta:
        files.append(path.with_name(f"{prefix}.meta"))
        files[-1].write_bytes(meta_bytes({**tables, **whole}))
    return files


def put_sliced(
    where: Location, prefix: str, ranks: int, tables: Tables, whole: Mapping[str, Any]
) -> tuple[BundleIndex, list[FileInfo]]:
    """The same in a store: its index, and its files as listed, the index first."""
    with tempfile.TemporaryDirectory() as scratch:
        files = write_sliced(Path(scratch), prefix, ranks, tables, whole)
        upload(files, where)
    return listed(where, prefix)


def listed(where: Location, prefix: str) -> tuple[BundleIndex, list[FileInfo]]:
    """Index and files of a checkpoint in a directory."""
    found = {file.name: file for file in where.list()}
    index = read_index(found[f"{prefix}.index"].location.read_bytes())
    data = sorted(name for name in found if name.startswith(f"{prefix}.data-"))
    return index, [found[f"{prefix}.index"], *(found[name] for name in data)]


def local(directory: Path, prefix: str) -> tuple[BundleIndex, list[FileInfo]]:
    """The same of a local directory."""
    return listed(open_location(str(directory)), prefix)


def table(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Numbers of which no two are alike."""
    return np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)


def joined(chunks: Sequence[bytes | memoryview]) -> bytes:
    """Pieces as one."""
    return b"".join(bytes(chunk) for chunk in chunks)
