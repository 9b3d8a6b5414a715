"""Is a transfer that stands still ended and cleaned up, and one that moves left alone?"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from fsspec.asyn import get_loop

from orchestrator.store.objects.traffic import MOVED, Moved
from orchestrator.store.transfer import watchdog
from orchestrator.store.transfer.watchdog import TransferProgress, run_on, undone_by, watched

real_wait = asyncio.wait
Step = Callable[[], None]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Step | None]:
    """What happens before each look at a transfer, None for its end; the waits are over at once."""
    steps: list[Step | None] = []

    async def wait(tasks: set[asyncio.Task[Any]], *, timeout: float) -> Any:
        assert timeout in (7.0, watchdog.CLEAN_UP_S)
        if steps and (step := steps.pop(0)):
            step()
        elif timeout == 7.0:
            return await real_wait(tasks)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return {task for task in tasks if task.done()}, set()

    monkeypatch.setattr(watchdog.asyncio, "wait", wait)  # type: ignore[attr-defined]
    return steps


def test_transfer_that_moves_or_gives_a_sign_of_life_goes_on(looks: list[Step | None]) -> None:
    progress, before = TransferProgress(), MOVED.size_bytes

    async def main() -> str:
        gate = asyncio.Event()

        async def work() -> str:
            await gate.wait()
            return "done"

        looks[:] = [
            lambda: progress.add(10),
            lambda: progress.add(0),
            lambda: progress.add(5),
            gate.set,
        ]
        return await watched(work(), progress, 7.0)

    assert asyncio.run(main()) == "done"
    assert (progress.bytes, progress.marks) == (15, 3)
    assert MOVED.size_bytes - before == 15


def test_transfer_that_stands_still_is_cancelled_and_cleans_up(looks: list[Step | None]) -> None:
    progress = TransferProgress()
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            seen.append("cleaned up")

    looks[:] = [lambda: progress.add(1234), lambda: None, lambda: None]
    with pytest.raises(TimeoutError, match="no progress for 7 s after 1234 bytes"):
        asyncio.run(watched(work(), progress, 7.0))
    assert seen == ["cleaned up"]
    assert looks == []


def test_failure_of_a_transfer_is_its_own() -> None:
    async def work() -> None:
        raise PermissionError("no")

    with pytest.raises(PermissionError):
        asyncio.run(watched(work(), TransferProgress(), 7.0))


def test_moved_counts_every_piece() -> None:
    moved = Moved()
    assert moved.size_bytes == 0
    moved.add(3)
    moved.add(4)
    assert moved.size_bytes == 7


def test_work_on_another_threads_loop_gives_its_result() -> None:
    async def work() -> threading.Thread:
        return threading.current_thread()

    assert run_on(get_loop(), work()) is not threading.current_thread()


def test_work_is_cancelled_where_the_thread_that_waits_for_it_is_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, cancelled = threading.Event(), threading.Event()
    real = asyncio.run_coroutine_threadsafe

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def interrupted(*given: Any) -> Future[None]:
        future = real(*given)

        def result() -> None:
            assert begun.wait(10.0)
            raise KeyboardInterrupt

        future.result = result  # type: ignore[method-assign, assignment]
        return future

    monkeypatch.setattr(watchdog.asyncio, "run_coroutine_threadsafe", interrupted)  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt):
        run_on(get_loop(), work())
    assert cancelled.wait(10.0)


class Undo:
    """Takes away what a block made; ``fails`` or takes until it's let go on."""

    def __init__(self, fails: bool = False, hangs: bool = False) -> None:
        self.fails, self.hangs, self.done = fails, hangs, 0
        self.go_on = asyncio.Event()

    async def __call__(self) -> None:
        if self.fails:
            raise ConnectionResetError("reset")
        if self.hangs:
            await self.go_on.wait()
        self.done += 1


async def undone(undo: Undo, error: BaseException | None) -> None:
    async with undone_by(undo):
        if error:
            raise error


def test_block_that_ends_well_is_not_undone() -> None:
    undo = Undo()
    asyncio.run(undone(undo, None))
    assert undo.done == 0


@pytest.mark.parametrize("error", [PermissionError("no"), asyncio.CancelledError()])
@pytest.mark.parametrize("fails", [False, True])
def test_block_that_fails_or_is_cancelled_is_undone_and_its_error_counts(
    error: BaseException, fails: bool
) -> None:
    undo = Undo(fails)
    with pytest.raises(type(error)):
        asyncio.run(undone(undo, error))
    assert undo.done == (0 if fails else 1)


def test_undoing_that_hangs_is_not_waited_for_and_goes_on_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watchdog, "CLEAN_UP_S", 0.001)

    async def main() -> None:
        undo = Undo(hangs=True)
        with pytest.raises(PermissionError):
            await undone(undo, PermissionError("no"))
        assert undo.done == 0
        undo.go_on.set()
        for _ in range(3):
            await asyncio.sleep(0)
        assert undo.done == 1

    asyncio.run(main())
