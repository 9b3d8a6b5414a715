"""How does a file come down fast, and never short?

Rule: in parallel ranges, each with its own deadline and retries, written to its place in a file of the announced size. A range that's
shorter than asked for is a failure, whatever the server's status said.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import stamina

from orchestrator.errors import SourceError
from orchestrator.store.failures import is_transient, translate
from orchestrator.store.location import FileInfo
from orchestrator.store.watchdog import run_on

RANGE_BYTES = 8 << 20
PARALLEL = 8
STALL_S = 60.0
"""A range of 8 MiB that takes longer is asked for again; the deadline doubles with each try, so that a slow link gets there too."""
ATTEMPTS = 5


def download(
    file: FileInfo,
    target: Path,
    *,
    range_bytes: int = RANGE_BYTES,
    parallel: int = PARALLEL,
    stall_s: float = STALL_S,
    attempts: int = ATTEMPTS,
) -> None:
    """Fetches a file whole.

    Args:
        file: its size is believed and held the server to.
        parallel: ranges asked for at a time; with ``range_bytes`` it bounds the memory.

    Raises:
        SourceError: it isn't there any more, or no permission. OutputError: no space left here.
        StorageUnavailable: the last try of a range failed too.
    """
    try:
        with open(target, "wb") as opened:
            opened.truncate(file.size_bytes)
            if file.location.is_local:
                _copy(file, opened.fileno())
            elif file.location.is_async:
                run_on(file.location.fs.loop, _ranges(file, opened.fileno(), range_bytes, parallel, stall_s, attempts))
            else:
                _threads(file, opened.fileno(), range_bytes, parallel)
    except OSError as error:
        local = error.filename is not None and str(error.filename) == str(target)
        raise translate(error, str(target) if local else file.location.shown, "write" if _is_space(error) else "read") from error


def _is_space(error: OSError) -> bool:
    import errno

    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _copy(file: FileInfo, descriptor: int) -> None:
    with open(file.location.path, "rb") as source, os.fdopen(os.dup(descriptor), "wb") as target:
        shutil.copyfileobj(source, target, 8 << 20)
        copied = target.tell()
    if copied != file.size_bytes:
        raise SourceError(
            f"{file.location.shown} changed from {file.size_bytes} to {copied} bytes while it was read", remedy="Try again"
        )


async def _ranges(file: FileInfo, descriptor: int, range_bytes: int, parallel: int, stall_s: float, attempts: int) -> None:
    room = asyncio.Semaphore(parallel)

    async def one(start: int) -> None:
        async with room:
            await _range(file, descriptor, start, min(start + range_bytes, file.size_bytes), stall_s, attempts)

    try:
        async with asyncio.TaskGroup() as tasks:
            for start in range(0, file.size_bytes, range_bytes):
                tasks.create_task(one(start))
    except ExceptionGroup as group:
        raise translate(_first(group), file.location.shown, "read") from group


async def _range(file: FileInfo, descriptor: int, start: int, end: int, stall_s: float, attempts: int) -> None:
    async for attempt in stamina.retry_context(on=is_transient, attempts=attempts, timeout=None, wait_initial=0.1, wait_max=10.0):
        with attempt:
            deadline_s = stall_s * 2 ** (attempt.num - 1)
            data = await asyncio.wait_for(file.location.fs._cat_file(file.location.path, start=start, end=end), deadline_s)
            _place(file, descriptor, start, end, data)


def _threads(file: FileInfo, descriptor: int, range_bytes: int, parallel: int) -> None:
    def one(start: int) -> None:
        end = min(start + range_bytes, file.size_bytes)
        _place(file, descriptor, start, end, file.location.read_bytes(start, end))

    with ThreadPoolExecutor(parallel) as pool:
        list(pool.map(one, range(0, file.size_bytes, range_bytes)))


def _place(file: FileInfo, descriptor: int, start: int, end: int, data: bytes) -> None:
    if len(data) != end - start:
        raise ConnectionError(f"{file.location.shown}: {len(data)} bytes came for the {end - start} from {start} on")
    os.pwrite(descriptor, data, start)


def _first(group: ExceptionGroup[Exception]) -> Exception:
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
