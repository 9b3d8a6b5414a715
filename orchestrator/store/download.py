"""How does a file come down fast, and never short?

Rule: in parallel ranges, each with its own deadline and retries, written to its place in a file of the announced size. A range that's
shorter than asked for is a failure, whatever the server's status said.
"""

from __future__ import annotations

import errno
import http.client
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import stamina

from orchestrator.errors import SourceError, StorageUnavailable
from orchestrator.store.direct import Link, NotDirect, link_to, read_range
from orchestrator.store.failures import is_transient, translate
from orchestrator.store.location import FileInfo

RANGE_BYTES = 8 << 20
RANGES = 8
"""A file is asked for in about so many ranges at least; more, smaller ones cost a request each and win nothing."""
PARALLEL = 8
STALL_S = 60.0
"""A range that's silent for so long is asked for again."""
ATTEMPTS = 5


def download(
    file: FileInfo,
    target: Path,
    *,
    range_bytes: int | None = None,
    parallel: int = PARALLEL,
    stall_s: float = STALL_S,
    attempts: int = ATTEMPTS,
) -> None:
    """Fetches a file whole.

    Args:
        file: its size is believed and held the server to.
        range_bytes: asked for at once; an eighth of the file, 8 MiB at least, by default.
        parallel: ranges asked for at a time.

    Raises:
        SourceError: it isn't there any more, or no permission. OutputError: no space left here.
        StorageUnavailable: the last try of a range failed too.
    """
    try:
        with open(target, "wb") as opened:
            opened.truncate(file.size_bytes)
            if file.location.is_local:
                _copy(file, opened.fileno())
            elif file.size_bytes:
                size = range_bytes or max(RANGE_BYTES, -(-file.size_bytes // RANGES))
                _ranges(file, size, parallel, _reader(file, opened.fileno(), stall_s, attempts))
    except http.client.HTTPException as error:
        raise translate(ConnectionError(str(error)), file.location.shown, "read") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise translate(error, str(target), "write") from error
        raise translate(error, file.location.shown, "read") from error


def _copy(file: FileInfo, descriptor: int) -> None:
    with open(file.location.path, "rb") as source, os.fdopen(os.dup(descriptor), "wb") as target:
        shutil.copyfileobj(source, target, 8 << 20)
        copied = target.tell()
    if copied != file.size_bytes:
        raise SourceError(
            f"{file.location.shown} changed from {file.size_bytes} to {copied} bytes while it was read", remedy="Try again"
        )


def _ranges(file: FileInfo, range_bytes: int, parallel: int, read: Callable[[int, int], None]) -> None:
    with ThreadPoolExecutor(parallel, thread_name_prefix="download") as pool:
        futures = [
            pool.submit(read, start, min(start + range_bytes, file.size_bytes))
            for start in range(0, file.size_bytes, range_bytes)
        ]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _reader(file: FileInfo, descriptor: int, stall_s: float, attempts: int) -> Callable[[int, int], None]:
    link = link_to(file.location)

    def read(start: int, end: int) -> None:
        for attempt in stamina.retry_context(on=_passing, attempts=attempts, timeout=None, wait_initial=0.1, wait_max=10.0):
            with attempt:
                # The client's own path tells no silence from slowness, so its deadline grows
                _read_once(file, link, descriptor, start, end, stall_s if link else stall_s * 2 ** (attempt.num - 1))

    return read


def _passing(error: Exception) -> bool:
    return isinstance(error, http.client.HTTPException | StorageUnavailable) or is_transient(error)


def _read_once(file: FileInfo, link: Link | None, descriptor: int, start: int, end: int, stall_s: float) -> None:
    if link is not None:
        try:
            read_range(link, descriptor, start, end, stall_s)
        except NotDirect:
            link = None
        else:
            return
    location = replace(file.location, deadline_s=stall_s, attempts=1)
    data = location.read_bytes(start, end)
    if len(data) != end - start:
        raise ConnectionError(f"{file.location.shown}: {len(data)} bytes came for the {end - start} from {start} on")
    os.pwrite(descriptor, data, start)
