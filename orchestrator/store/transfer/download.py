"""How is a file downloaded fast, and never cut short?

Rule: in as many streams as make it faster, each with its own deadline and retries, written to their
places in a file of the announced size. An answer that's shorter than asked for is a failure,
whatever the server's status said; what it brought stays.
"""

from __future__ import annotations

import errno
import http.client
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import stamina

from orchestrator.errors import SourceError, StorageUnavailable
from orchestrator.store.objects.client_errors import is_transient
from orchestrator.store.objects.failures import translate
from orchestrator.store.objects.location import FileInfo
from orchestrator.store.objects.traffic import MOVED
from orchestrator.store.transfer.http_range import (
    Link,
    NotDirect,
    NotWritten,
    link_to,
    read_range,
    write_at,
)
from orchestrator.store.transfer.streaming_crc import Arriving, Consumer
from orchestrator.store.transfer.work_stealing import Ramp, Segment, Segments

RANGE_BYTES = 8 << 20
"""Asked for at once where the store's client fetches: it holds a range in memory."""
SMALLEST_BYTES = 8 << 20
"""A stream takes half of another's rest over only where each gets this much."""
PARALLEL = 8
"""Streams at a time where nobody found out how many are faster: one stream of a cloud store brings
some tens of MB/s, a machine's network some hundreds.
"""
TICK_S = 0.02
"""How often the number of streams is thought over: within ``work_stealing.WINDOW_S``, in which the
rate is measured, five times.
"""
STALL_S = 60.0
"""A range that's silent for so long is asked for again."""
ATTEMPTS = 5
"""Tries per range, with back-off between them, and what has come isn't fetched again: a store that
is busy or restarts answers the third or fourth.
"""


def download(
    file: FileInfo,
    target: Path,
    *,
    range_bytes: int | None = None,
    parallel: int = PARALLEL,
    stall_s: float = STALL_S,
    attempts: int = ATTEMPTS,
    ramp: Ramp | None = None,
    arriving: Arriving | None = None,
) -> None:
    """Fetches a file whole.

    Args:
        file: its size is believed and held the server to.
        range_bytes: asked for at once; by default as much as comes in one stream, or 8 MiB where
            the store's client fetches.
        parallel: streams at a time, at most, where no ``ramp`` says it.
        ramp: what earlier files of this store taught about the number of streams.
        arriving: is shown every stream's bytes; a local file's are left to be read.

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
                link = link_to(file.location)
                cut = range_bytes or (file.size_bytes if link else RANGE_BYTES)
                segments = Segments(file.size_bytes, cut, SMALLEST_BYTES)
                fetcher = _Fetcher(
                    file, link, opened.fileno(), segments, stall_s, attempts, arriving
                )
                at_once = (
                    Ramp(parallel, parallel) if cut < file.size_bytes else ramp or Ramp(parallel)
                )
                _in_streams(segments, file.size_bytes, at_once, fetcher.fetch)
    except NotWritten as error:
        raise translate(error.args[0], str(target), "write") from error
    except http.client.HTTPException as error:
        raise translate(ConnectionError(str(error)), file.location.shown, "read") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise translate(error, str(target), "write") from error
        raise translate(error, file.location.shown, "read") from error


def _copy(file: FileInfo, descriptor: int) -> None:
    with open(file.location.path, "rb") as source, os.fdopen(os.dup(descriptor), "wb") as target:
        while piece := source.read(8 << 20):
            target.write(piece)
            MOVED.add(len(piece))
        copied = target.tell()
    if copied != file.size_bytes:
        raise SourceError(
            f"{file.location.shown} changed from {file.size_bytes} to {copied} bytes while it was read",
            remedy="Try again",
        )


def _in_streams(
    segments: Segments,
    size_bytes: int,
    ramp: Ramp,
    fetch: Callable[[Segment, threading.Event], None],
) -> None:
    """Fetches all segments, in as many threads as ``ramp`` says; the first failure ends them all."""
    failed = threading.Event()

    def stream() -> None:
        while not failed.is_set() and (segment := segments.take()) is not None:
            fetch(segment, failed)

    running: set[Future[None]] = set()
    shared_out = False
    began_s, waited_s = time.monotonic(), 0.0
    with ThreadPoolExecutor(ramp.most, thread_name_prefix="download") as pool:
        try:
            while running or not shared_out:
                if not shared_out:
                    running |= {pool.submit(stream) for _ in range(ramp.streams - len(running))}
                ended, running = wait(running, TICK_S, FIRST_COMPLETED)
                # a stream ends where nothing is left that's worth dividing
                shared_out = shared_out or bool(ended)
                for stream_ended in ended:
                    stream_ended.result()
                now_s, come = time.monotonic(), segments.come_bytes
                waited_s = waited_s or (now_s - began_s if come else 0.0)
                ramp.look(
                    now_s, come, size_bytes - come, waited_s=waited_s, flowing=segments.flowing
                )
        except BaseException:
            failed.set()
            raise


class _Fetcher:
    """Fetches segments of one file to their places, each with its retries; what has come isn't
    asked for again.
    """

    def __init__(
        self,
        file: FileInfo,
        link: Link | None,
        descriptor: int,
        segments: Segments,
        stall_s: float,
        attempts: int,
        arriving: Arriving | None,
    ) -> None:
        self._arriving = arriving
        self._file, self._link, self._descriptor, self._segments = file, link, descriptor, segments
        self._stall_s, self._attempts = stall_s, attempts

    def fetch(self, segment: Segment, failed: threading.Event) -> None:
        """All of a segment. Returns early where ``failed`` is set."""
        show = self._arriving.consumer(segment.position) if self._arriving else _nobody
        while segment.position < segment.end and not failed.is_set():
            retries = stamina.retry_context(
                on=_passing, attempts=self._attempts, timeout=None, wait_initial=0.1, wait_max=10.0
            )
            for attempt in retries:
                with attempt:
                    # Once another has failed for good, tries would only keep its error back
                    if not failed.is_set():
                        self._some(segment, show, failed, attempt.num)
        self._segments.done(segment)

    def _some(
        self, segment: Segment, show: Consumer, failed: threading.Event, attempt: int
    ) -> None:
        """As much of a segment as one answer brings. An answer that broke off in its middle was
        one; the next begins where it ended.
        """
        begun, link = segment.position, self._link  # another stream may find the direct way closed
        try:
            if link is None or not self._directly(link, segment, show, failed):
                # The client's own path tells no silence from slowness, so its deadline grows
                self._by_the_client(
                    segment, show, self._stall_s if link else self._stall_s * 2 ** (attempt - 1)
                )
        except Exception as error:
            if segment.position == begun or not _passing(error):
                raise

    def _directly(
        self, link: Link, segment: Segment, show: Consumer, failed: threading.Event
    ) -> bool:
        def came(data: memoryview) -> int:
            own = 0 if failed.is_set() else self._segments.came(segment, len(data))
            show(data[:own])
            MOVED.add(own)
            return own

        try:
            read_range(link, self._descriptor, segment.position, segment.end, self._stall_s, came)
        except NotDirect:
            self._link = None
            return False
        return True

    def _by_the_client(self, segment: Segment, show: Consumer, deadline_s: float) -> None:
        location = replace(self._file.location, deadline_s=deadline_s, attempts=1)
        start, end = segment.position, min(segment.position + RANGE_BYTES, segment.end)
        data = location.read_bytes(start, end)
        if len(data) != end - start:
            raise ConnectionError(
                f"{self._file.location.shown}: {len(data)} bytes came for the {end - start} from {start} on"
            )
        own = memoryview(data)[: self._segments.came(segment, len(data))]
        show(own)
        MOVED.add(len(own))
        write_at(self._descriptor, own, start)


def _nobody(_data: memoryview) -> None:
    """Nothing is added up."""


def _passing(error: Exception) -> bool:
    return isinstance(error, http.client.HTTPException | StorageUnavailable) or is_transient(error)
