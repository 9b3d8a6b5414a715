"""Which staged checkpoints stay on this node's disk?

Rule: one directory per staged checkpoint, one lock file beside it. What was used longest ago goes
first, until the rest and the newcomer fit; what's locked or was used within KEEP_S is never
evicted, since a worker may be reading it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import OutputError

SEAL = "staged.json"
"""Written last into an entry: without it the entry is the rest of a try that died."""
KEEP_S = 600.0
"""A restore reads the files without holding the lock, since TensorFlow opens them by itself, after
they were staged: so long it may take to begin and end.
"""
RESERVE_BYTES = 64 << 20
"""Left free on the disk: Ray and logs need it."""


@contextlib.contextmanager
def locked(cache_dir: Path, key: str, *, wait: bool = True) -> Iterator[bool]:
    """Holds an entry's lock; yields whether it was got. The system lets go of it when a process
    dies.
    """
    cache_dir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(cache_dir / f"{key}.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class CacheEntry:
    """A staged checkpoint on disk. ``used_s`` is when it was last used, by this machine's clock."""

    key: str
    path: Path
    size_bytes: int
    used_s: float


def entries(cache_dir: Path) -> list[CacheEntry]:
    """All entries, longest unused first."""
    found = []
    for path in cache_dir.iterdir() if cache_dir.is_dir() else ():
        if path.is_dir():
            with contextlib.suppress(FileNotFoundError):
                size = sum(file.stat().st_size for file in path.iterdir())
                seal = path / SEAL
                found.append(
                    CacheEntry(
                        path.name, path, size, (seal if seal.exists() else path).stat().st_mtime
                    )
                )
    return sorted(found, key=lambda entry: entry.used_s)


def make_room(
    cache_dir: Path, needed_bytes: int, limit_bytes: int | None, now_s: float | None = None
) -> None:
    """Evicts until ``needed_bytes`` more fit.

    Args:
        limit_bytes: of the whole cache; None for half of what the disk could give it.

    Raises:
        OutputError: the disk is too full, even so.
    """
    cache_dir.mkdir(parents=True, exist_ok=True)
    now_s = time.time() if now_s is None else now_s
    present = entries(cache_dir)
    total = sum(entry.size_bytes for entry in present)
    limit = (shutil.disk_usage(cache_dir).free + total) // 2 if limit_bytes is None else limit_bytes
    for entry in present:
        free = shutil.disk_usage(cache_dir).free
        if total + needed_bytes <= limit and needed_bytes + RESERVE_BYTES <= free:
            return
        if now_s - entry.used_s >= KEEP_S and _evict(cache_dir, entry):
            total -= entry.size_bytes
    free = shutil.disk_usage(cache_dir).free
    if needed_bytes + RESERVE_BYTES > free:
        raise OutputError(
            f"no space left to stage {needed_bytes} bytes in {cache_dir}: {free} bytes are free",
            remedy="Free space there, or point TMPDIR at a larger disk",
            details={"full": True, "needed_bytes": needed_bytes, "free_bytes": free},
        )


def _evict(cache_dir: Path, entry: CacheEntry) -> bool:
    with locked(cache_dir, entry.key, wait=False) as mine:
        if mine:
            discard(entry.path)
        return mine


def discard(path: Path) -> None:
    """Deletes an entry, its seal first, so that what a crash leaves is never taken for whole."""
    with contextlib.suppress(FileNotFoundError):
        (path / SEAL).unlink()
    shutil.rmtree(path, ignore_errors=True)
