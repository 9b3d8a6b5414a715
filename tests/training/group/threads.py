"""How do tests run many members quickly where nobody is to die? One thread each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeVar

from orchestrator.training.group.listener import Listener
from tests.training.group.members import SECRET

Value = TypeVar("Value")
JOIN_S = 60.0


class Threads:
    """A group whose members are threads.

    Args:
        machines: of each member.
    """

    def __init__(self, machines: Sequence[str]) -> None:
        self._pool = ThreadPoolExecutor(len(machines))
        self._listeners = [Listener(SECRET, "127.0.0.1", machine=machine) for machine in machines]
        addresses = [each.address for each in self._listeners]

        def join(rank: int) -> Any:
            return self._listeners[rank].join(
                1, rank, addresses, cancelled=threading.Event(), timeout_s=JOIN_S
            )

        self.groups = list(self._pool.map(join, range(len(machines))))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for group in self.groups:
            group.close()
        for each in self._listeners:
            each.close()
        self._pool.shutdown()

    def each(self, function: Callable[[Any], Value]) -> list[Value]:
        """What the function gives for each member; all at once."""
        return list(self._pool.map(function, self.groups))
