"""How is one call of a store made, and what is done when it fails?

Rule: every call has a deadline, is retried when the store is merely busy, and fails with an error
of ours that names the URL. A store that has never answered this process is given less patience
(``contact``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import stamina
from fsspec.asyn import sync

from orchestrator.store.objects import contact
from orchestrator.store.objects.client_errors import is_transient
from orchestrator.store.objects.failures import Action, translate

REQUEST_DEADLINE_S = 60.0
"""Longest wait for one small request. Hung requests are bounded by no client of its own accord."""

Answer = TypeVar("Answer")


def protocol_of(fs: Any) -> str:
    """The first of a file system's names."""
    return str(fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0])


def is_async(fs: Any) -> bool:
    """Whether a file system works through an event loop."""
    return bool(getattr(fs, "async_impl", False))


def once(fs: Any, deadline_s: float, method: str, *args: Any, **kwargs: Any) -> Any:
    """What the file system's method gives at one try; raises what the client raises."""
    if is_async(fs) and not fs.asynchronous:
        return sync(fs.loop, getattr(fs, f"_{method}"), *args, timeout=deadline_s, **kwargs)
    return getattr(fs, method)(*args, **kwargs)


def retried(work: Callable[[], Answer], attempts: int, patience_s: float) -> Answer:
    """What ``work`` gives at one of so many tries; it's tried again where the store is merely busy,
    and raises what it raised last.

    To set up the waiting between tries takes longer than a request of a near store, so that's done
    only once one has failed.
    """
    until_s = time.monotonic() + patience_s
    try:
        return work()
    except Exception as error:
        if not is_transient(error) or time.monotonic() >= until_s:
            raise
        failed: Exception | None = error
    for attempt in stamina.retry_context(
        on=is_transient,
        attempts=attempts,
        timeout=max(0.001, until_s - time.monotonic()),
        wait_max=10.0,
    ):
        with attempt:
            if failed is not None:
                first, failed = failed, None
                raise first  # it counts as a try
            return work()
    raise AssertionError("unreachable: the retry context returns or raises")


class Request(NamedTuple):
    """A call of a file system, with the patience that it is given.

    Attributes:
        path: whose bucket is waited for.
        shown: the URL without credentials, for errors; asked for where there is one.
        action: what the call is for, for its error.
        deadline_s: longest wait for one try.
        attempts: tries on top of the client's own.
    """

    fs: Any
    path: str
    shown: Callable[[], str]
    action: Action
    deadline_s: float
    attempts: int

    def answer(self, method: str, *args: Any, small: bool = False, **kwargs: Any) -> Any:
        """What the file system's method gives.

        Args:
            small: the answer is, so that a store's first one is waited for less long.

        Raises:
            SourceError, OutputError: by the action, the store refused it.
            StorageUnavailable: the store didn't answer, or was busy at every try.
        """
        # Who has never answered is given less patience; a large answer may rightly take long
        first = small and is_async(self.fs) and not contact.has_answered(*self._place)
        patience_s = contact.FIRST_CONTACT_S if first else 3 * self.deadline_s
        until_s = time.monotonic() + patience_s

        def work() -> Any:
            left_s = max(0.1, until_s - time.monotonic())
            return self._tried(method, min(self.deadline_s, left_s), *args, **kwargs)

        try:
            return retried(work, self.attempts, patience_s)
        except Exception as error:
            if first and isinstance(error, TimeoutError):
                error = ConnectionError(contact.why_silent(self.fs))
            raise translate(error, self.shown(), self.action) from error

    @property
    def _place(self) -> tuple[str, Any, str]:
        return protocol_of(self.fs), self.fs, self.path

    def _tried(self, method: str, deadline_s: float, *args: Any, **kwargs: Any) -> Any:
        try:
            answer = once(self.fs, deadline_s, method, *args, **kwargs)
        except Exception as error:
            # A refusal is an answer: the store is there
            if not is_transient(error):
                contact.answered(*self._place)
            raise
        contact.answered(*self._place)
        return answer
