"""Is a transfer still moving, and what if it isn't?

Rule: no storage client bounds an upload that hangs, so every transfer counts its bytes here. One
that hasn't moved for ``stall_s`` is cancelled, which ends its requests and lets it clean up, and
counts as a transient failure.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

from orchestrator.store.objects.traffic import MOVED

T = TypeVar("T")
CLEAN_UP_S = 10.0
"""Longest wait for a cancelled transfer to abort what it began; the server may be the one that
hangs.
"""


class TransferProgress:
    """Bytes that have arrived at the other side."""

    def __init__(self) -> None:
        self.bytes = 0
        self.marks = 0

    def add(self, size_bytes: int) -> None:
        """So many more."""
        self.bytes += size_bytes
        MOVED.add(size_bytes)
        self.marks += 1


async def watched(work: Coroutine[Any, Any, T], progress: TransferProgress, stall_s: float) -> T:
    """The result of ``work``.

    Raises:
        TimeoutError: it made no progress for ``stall_s``; it has been cancelled.
    """
    task = asyncio.ensure_future(work)
    try:
        while True:
            seen = progress.marks
            done, _ = await asyncio.wait({task}, timeout=stall_s)
            if done:
                return task.result()
            if progress.marks == seen:
                raise TimeoutError(f"no progress for {stall_s:g} s after {progress.bytes} bytes")
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=CLEAN_UP_S)


def run_on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on a loop of another thread; cancels it there if this thread is interrupted."""
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result()
    finally:
        if not future.done():
            future.cancel()


@contextlib.asynccontextmanager
async def undone_by(undo: Any) -> Any:
    """Runs ``undo()`` if the block fails or is cancelled, for at most CLEAN_UP_S; the block's own
    error is the one that counts.
    """
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(undo())), CLEAN_UP_S)
        raise
