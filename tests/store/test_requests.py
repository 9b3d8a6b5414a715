"""How long is one request waited for, how often is it tried, and what counts as an answer?"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import stamina
from fsspec.asyn import get_loop

from orchestrator.errors import OutputError, SourceError, StorageUnavailable
from orchestrator.store.objects import contact, requests
from orchestrator.store.objects.contact import FIRST_CONTACT_S
from orchestrator.store.objects.requests import Request, is_async, once, protocol_of, retried


class Fs:
    """A client whose one method does what a test says."""

    protocol: Any = ("s3", "s3a")
    asynchronous = False
    endpoint_url = ""

    def __init__(self, work: Callable[[], Any] = lambda: "the answer", async_impl: bool = False):
        self.work, self.async_impl = work, async_impl
        self.loop = get_loop()
        self.asked: list[Any] = []

    def ask(self, *given: Any, **options: Any) -> Any:
        self.asked.append(("plainly", given, options))
        return self.work()

    async def _ask(self, *given: Any, **options: Any) -> Any:
        self.asked.append(("in the loop", given, options))
        return self.work()


@pytest.fixture
def path() -> str:
    return f"bucket-{uuid.uuid4().hex}/x"


@pytest.fixture
def now_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still until a test moves it."""
    clock = [100.0]
    monkeypatch.setattr(requests, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    return clock


def request(fs: Fs, path: str, action: Any = "read") -> Request:
    return Request(fs, path, lambda: "s3://shown", action, 60.0, 3)


def test_file_system_is_called_by_its_first_name() -> None:
    assert protocol_of(Fs()) == "s3"
    fs = Fs()
    fs.protocol = "memory"
    assert protocol_of(fs) == "memory"
    assert not is_async(object())


@pytest.mark.parametrize(
    ("async_impl", "asynchronous", "how"),
    [(True, False, "in the loop"), (False, False, "plainly"), (True, True, "in the loop")],
)
def test_one_try_goes_through_the_loop_where_the_client_has_one(
    async_impl: bool, asynchronous: bool, how: str
) -> None:
    fs = Fs(async_impl=async_impl)
    fs.asynchronous = asynchronous
    if asynchronous:
        fs.ask = fs._ask  # type: ignore[method-assign]
        once(fs, 1.0, "ask", "x").close()  # whoever has a loop of his own awaits it himself
        assert fs.asked == []
    else:
        assert once(fs, 1.0, "ask", "x", detail=True) == "the answer"
        assert fs.asked == [(how, ("x",), {"detail": True})]


def test_try_that_hangs_is_given_up_at_its_deadline() -> None:
    class Hangs(Fs):
        async def _ask(self, *given: Any, **options: Any) -> Any:
            await asyncio.sleep(5.0)

    with pytest.raises(TimeoutError):
        once(Hangs(async_impl=True), 0.01, "ask")


@contextmanager
def without_waits() -> Iterator[None]:
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


def failing(times: int, error: Exception) -> tuple[Callable[[], str], list[int]]:
    tries: list[int] = []

    def work() -> str:
        tries.append(1)
        if len(tries) <= times:
            raise error
        return "the answer"

    return work, tries


@pytest.mark.parametrize(
    ("times", "error", "patience_s", "tries"),
    [
        (0, TimeoutError("n"), 9.0, 1),
        (2, TimeoutError("n"), 9.0, 3),
        (3, TimeoutError("n"), 9.0, 3),
        (1, PermissionError("n"), 9.0, 1),
        (1, TimeoutError("n"), 0.0, 1),
    ],
)
def test_what_a_busy_store_refuses_is_tried_again_as_often_as_it_may(
    times: int, error: Exception, patience_s: float, tries: int, now_s: list[float]
) -> None:
    work, made = failing(times, error)
    with without_waits():
        if times < tries:
            assert retried(work, 3, patience_s) == "the answer"
        else:
            with pytest.raises(type(error)):
                retried(work, 3, patience_s)
    assert len(made) == tries


@pytest.mark.parametrize(("took_s", "left_s"), [(2.0, 7.0), (8.9999, 0.001)])
def test_tries_share_one_patience(
    monkeypatch: pytest.MonkeyPatch, now_s: list[float], took_s: float, left_s: float
) -> None:
    asked: list[dict[str, Any]] = []
    real = stamina.retry_context

    def context(**options: Any) -> Any:
        asked.append(options)
        return real(**options)

    def work() -> str:
        if not asked:
            now_s[0] += took_s
            raise TimeoutError
        return "the answer"

    monkeypatch.setattr(requests.stamina, "retry_context", context)  # type: ignore[attr-defined]
    with without_waits():
        assert retried(work, 5, 9.0) == "the answer"
    (options,) = asked
    assert (options["attempts"], options["wait_max"]) == (5, 10.0)
    assert options["timeout"] == pytest.approx(left_s)


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float, float]]:
    """Tries, patience and the deadline of the one try of each request."""
    told: list[tuple[int, float, float]] = []
    deadlines: list[float] = []
    real = requests.once

    def one(fs: Any, deadline_s: float, *given: Any, **options: Any) -> Any:
        deadlines.append(deadline_s)
        return real(fs, deadline_s, *given, **options)

    def tried(work: Callable[[], Any], attempts: int, patience_s: float) -> Any:
        try:
            return work()
        finally:
            told.append((attempts, patience_s, deadlines.pop()))

    monkeypatch.setattr(requests, "once", one)
    monkeypatch.setattr(requests, "retried", tried)
    return told


@pytest.mark.parametrize(
    ("async_impl", "small", "first"),
    [(True, True, True), (True, False, False), (False, True, False)],
)
def test_store_that_never_answered_a_small_question_is_given_less_patience(
    async_impl: bool,
    small: bool,
    first: bool,
    path: str,
    now_s: list[float],
    patience: list[tuple[int, float, float]],
) -> None:
    fs = Fs(async_impl=async_impl)
    for _ in range(2):
        assert request(fs, path).answer("ask", 1, small=small, end=2) == "the answer"
    short = (3, FIRST_CONTACT_S, FIRST_CONTACT_S) if first else (3, 180.0, 60.0)
    assert patience == [short, (3, 180.0, 60.0)]
    assert fs.asked[0][1:] == ((1,), {"end": 2})


@pytest.mark.parametrize(("late_s", "deadline_s"), [(130.0, 50.0), (500.0, 0.1)])
def test_try_that_comes_late_has_what_is_left_of_the_patience(
    monkeypatch: pytest.MonkeyPatch, path: str, now_s: list[float], late_s: float, deadline_s: float
) -> None:
    told: list[float] = []

    def one(fs: Any, deadline_s: float, *given: Any) -> None:
        told.append(deadline_s)

    def late(work: Callable[[], Any], *_: Any) -> Any:
        now_s[0] += late_s
        return work()

    monkeypatch.setattr(requests, "once", one)
    monkeypatch.setattr(requests, "retried", late)
    request(Fs(), path).answer("ask")
    assert told == [pytest.approx(deadline_s)]


def raises(error: Exception) -> Callable[[], Any]:
    def work() -> Any:
        raise error

    return work


def test_refusal_is_an_answer_and_silence_is_none(path: str) -> None:
    with without_waits():
        with pytest.raises(StorageUnavailable):
            request(Fs(raises(TimeoutError("n"))), path).answer("ask")
        assert not contact.has_answered("s3", None, path)
        with pytest.raises(SourceError, match="no permission to read s3://shown"):
            request(Fs(raises(PermissionError("n"))), path).answer("ask")
        assert contact.answers("s3", None, path) == 1
        with pytest.raises(OutputError, match="no permission to write s3://shown"):
            request(Fs(raises(PermissionError("n"))), path, "write").answer("ask")
        assert request(Fs(), path).answer("ask") == "the answer"
    assert contact.answers("s3", None, path) == 3


def test_silence_at_the_first_contact_is_told_as_such_and_later_as_what_it_is(path: str) -> None:
    silent = Fs(raises(TimeoutError("n")), async_impl=True)
    with without_waits():
        with pytest.raises(StorageUnavailable, match="no answer within 10 s") as told:
            request(silent, path).answer("ask", small=True)
        assert told.value.message.startswith("the store didn't read s3://shown: ConnectionError")
        with pytest.raises(StorageUnavailable, match="TimeoutError: n"):
            request(silent, path).answer("ask")
        reset = Fs(raises(ConnectionResetError("n")), async_impl=True)
        with pytest.raises(StorageUnavailable, match="ConnectionResetError: n"):
            request(reset, path).answer("ask", small=True)
        silent.endpoint_url = "http://127.0.0.1:1"
        with pytest.raises(StorageUnavailable, match=r"no connection to 127\.0\.0\.1:1"):
            request(silent, path).answer("ask", small=True)
        contact.answered("s3", silent, path)
        with pytest.raises(StorageUnavailable, match="TimeoutError: n"):
            request(silent, path).answer("ask", small=True)
