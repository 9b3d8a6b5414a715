"""How does a node get a checkpoint, once for all its workers?

Rule: the first worker that comes downloads, the others wait at a lock file and take what it
brought. Every tensor's checksum is compared before anyone restores from it, and again when an older
entry is taken from the cache: disks flip bits, and a wrong weight trains.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from orchestrator.errors import CorruptCheckpoint, OutputError
from orchestrator.store.bundle.bundle import BundleIndex, BundleTensor, read_index
from orchestrator.store.bundle.deep_verify import damaged_tensors
from orchestrator.store.bundle.sstable import MAGIC
from orchestrator.store.objects.content import describe
from orchestrator.store.objects.failures import translate
from orchestrator.store.objects.layout import shard_of, split_bundle_file
from orchestrator.store.objects.local_files import write_atomically
from orchestrator.store.objects.location import FileInfo, open_location
from orchestrator.store.transfer.cache import SEAL, discard, locked, make_room
from orchestrator.store.transfer.download import ATTEMPTS, PARALLEL, STALL_S, download
from orchestrator.store.transfer.streaming_crc import Arriving
from orchestrator.store.transfer.work_stealing import Ramp

FRESH_S = 120.0
"""An entry that was verified so short a while ago isn't read again: the other workers of the node
come one after the other.
"""

_V1_SHARD = re.compile(r"(?P<prefix>.+)-\d{5}-of-\d{5}", re.DOTALL)


def stage(
    files: Sequence[FileInfo],
    cache_dir: Path,
    *,
    limit_bytes: int | None = None,
    stall_s: float = STALL_S,
    attempts: int = ATTEMPTS,
) -> Path:
    """Brings a checkpoint's files onto this node.

    Args:
        files: of one checkpoint, as ``Source.files`` gives them (the index first), or any other
            files to be brought together.
        cache_dir: the same for all workers of the node.
        limit_bytes: of the whole cache; half of what the disk could give by default.

    Returns:
        The local prefix, as TensorFlow's restore takes it (for other files: the path of the first).

    Raises:
        CorruptCheckpoint: what came isn't what its index or manifest says; names file and tensor.
        SourceError: a file is gone. OutputError: no space here. StorageUnavailable: the store
            doesn't answer.
    """
    key = _key(files)
    entry = cache_dir / key
    try:
        with locked(cache_dir, key):
            if not _is_good(entry, files):
                discard(entry)
                make_room(cache_dir, sum(file.size_bytes for file in files), limit_bytes)
                _fetch(entry, files, stall_s, attempts)
            os.utime(entry / SEAL)
    except OSError as error:
        raise translate(error, str(cache_dir), "write") from error
    return entry / _prefix(files[0].name)


def _key(files: Sequence[FileInfo]) -> str:
    words = [
        [file.location.url, file.name, file.size_bytes, file.tag, file.crc32c] for file in files
    ]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:32]


def _prefix(name: str) -> str:
    parts = split_bundle_file(name)
    if parts is not None:
        return parts[0]
    found = _V1_SHARD.fullmatch(name)
    return found["prefix"] if found else name


def _fetch(entry: Path, files: Sequence[FileInfo], stall_s: float, attempts: int) -> None:
    entry.mkdir()
    try:
        _seal(entry, files, _verified(entry, files, _downloaded(entry, files, stall_s, attempts)))
    except BaseException:
        discard(entry)
        raise


def _downloaded(
    entry: Path, files: Sequence[FileInfo], stall_s: float, attempts: int
) -> frozenset[BundleTensor]:
    """Fetches all files; the tensors that were found good on the way."""
    ramp = Ramp(PARALLEL)
    good: set[BundleTensor] = set()
    index: BundleIndex | None = None
    # The index first, since it says what the rest has to be; then the largest, which teaches how
    # many streams are worth while
    for file in sorted(
        files, key=lambda item: (not item.name.endswith(".index"), -item.size_bytes)
    ):
        shard = shard_of(file.name)
        arriving = None if index is None or shard is None else Arriving(index, shard)
        download(
            file,
            entry / file.name,
            stall_s=stall_s,
            attempts=attempts,
            ramp=ramp,
            arriving=arriving,
        )
        if file.name.endswith(".index"):
            index = _index(entry, files)
        if arriving is not None:
            good |= arriving.good
    return frozenset(good)


def _seal(entry: Path, files: Sequence[FileInfo], crcs: dict[str, int]) -> None:
    content = {
        "crcs": crcs,
        "sizes": {file.name: file.size_bytes for file in files},
        "verified_s": time.time(),
    }
    write_atomically(entry / SEAL, json.dumps(content).encode())


def _verified(
    entry: Path, files: Sequence[FileInfo], known: Collection[BundleTensor] = frozenset()
) -> dict[str, int]:
    """Checksums of the files that no index vouches for; raises where anything is damaged. ``known``
    tensors are good.
    """
    index = _index(entry, files)
    crcs = {}
    for file in files:
        vouched = index is not None and ".data-" in file.name
        if not vouched:
            crcs[file.name] = describe(entry / file.name).crc32c
            if file.crc32c is not None and crcs[file.name] != file.crc32c:
                raise _corrupt(
                    file, f"{file.name} isn't what its manifest says: its checksum differs"
                )
    if index is not None:
        _check_tensors(entry, files, index, known)
    else:
        _check_tables(entry, files)
    return crcs


def _check_tables(entry: Path, files: Sequence[FileInfo]) -> None:
    """V1 files carry a checksum per block; what isn't a table at all (other staged files) has none
    to compare.
    """
    tables = [file for file in files if _ends_like_a_table(entry / file.name)]
    local = [
        FileInfo(file.name, open_location(str(entry / file.name)), file.size_bytes)
        for file in tables
    ]
    problems = damaged_tensors(BundleIndex("V1", len(local), {}), local)
    if problems:
        raise _corrupt(files[0], problems[0])


def _ends_like_a_table(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 8))
        return file.read() == MAGIC.to_bytes(8, "little")


def _index(entry: Path, files: Sequence[FileInfo]) -> BundleIndex | None:
    file = next((item for item in files if item.name.endswith(".index")), None)
    return (
        None if file is None else read_index((entry / file.name).read_bytes(), file.location.shown)
    )


def _check_tensors(
    entry: Path, files: Sequence[FileInfo], index: BundleIndex, known: Collection[BundleTensor]
) -> None:
    by_name = {file.name: file for file in files}
    prefix = _prefix(files[0].name)
    local: list[FileInfo] = []
    for name in [
        f"{prefix}.index",
        *(
            f"{prefix}.data-{shard:05d}-of-{index.num_shards:05d}"
            for shard in range(index.num_shards)
        ),
    ]:
        if name not in by_name:
            raise _corrupt(files[0], f"{name} is missing")
        local.append(FileInfo(name, open_location(str(entry / name)), by_name[name].size_bytes))
    for shard, file in enumerate(local[1:]):
        if file.size_bytes != index.shard_bytes.get(shard, 0):
            raise _corrupt(
                by_name[file.name],
                f"{file.name} has {file.size_bytes} bytes where its index accounts for others",
            )
    problems = damaged_tensors(index, local, known)
    if problems:
        raise _corrupt(files[0], f"{len(problems)} damaged tensors, first: {problems[0]}")


def _corrupt(file: FileInfo, what: str) -> CorruptCheckpoint:
    prefix = file.location.sibling(_prefix(file.name)).shown
    return CorruptCheckpoint(
        f"checkpoint {prefix}: {what}",
        remedy="Use another checkpoint, or copy this one again",
        details={"checkpoint": prefix, "file": file.name},
    )


def _is_good(entry: Path, files: Sequence[FileInfo]) -> bool:
    """Whether what the cache has is whole and still what the store has."""
    try:
        seal: dict[str, Any] = json.loads((entry / SEAL).read_text())
        sizes = {file.name: (entry / file.name).stat().st_size for file in files}
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    if sizes != seal.get("sizes") or not _is_current(entry, files):
        return False
    if 0 <= time.time() - float(seal.get("verified_s", 0.0)) < FRESH_S:
        return True
    try:
        crcs = _verified(entry, files)
    except (CorruptCheckpoint, OutputError):
        return False
    if crcs != seal.get("crcs"):
        return False
    _seal(entry, files, crcs)
    return True


def _is_current(entry: Path, files: Sequence[FileInfo]) -> bool:
    """Where the store tells no change by itself (no tag, no checksum), the index is compared: it
    changes with every tensor.
    """
    index = next((file for file in files if file.name.endswith(".index")), None)
    if all(file.tag or file.crc32c is not None for file in files):
        return True
    if index is None:
        return False
    return index.location.read_bytes() == (entry / index.name).read_bytes()
