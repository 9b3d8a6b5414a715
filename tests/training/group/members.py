"""How do tests run the members of a group? One process each, which does what it's told; hosts are
played by machine names.

Rule: they use no TensorFlow, though they're forks of the server that has imported it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, Self

from orchestrator.training.group.listener import Listener
from tests import forked

SECRET = bytes(range(32))
ANSWER_S = 60.0
PLACES = {
    "memory": lambda count: [("127.0.0.1", "one")] * count,
    "sockets": lambda count: [(f"127.0.0.{rank + 1}", f"host{rank}") for rank in range(count)],
    "two a host": lambda count: [
        (f"127.0.0.{rank // 2 + 1}", f"host{rank // 2}") for rank in range(count)
    ],
    "in turns": lambda count: [
        (f"127.0.0.{rank % 2 + 1}", f"host{rank % 2}") for rank in range(count)
    ],
    "one and the rest": lambda count: [
        (f"127.0.0.{min(rank, 1) + 1}", f"host{min(rank, 1)}") for rank in range(count)
    ],
}
"""Where the members are: all on one host, each on its own, two on each, dealt to two in turns, one
alone and the others together.
"""


class Members:
    """A group's processes.

    Args:
        places: (address to listen on, name of the machine) of each; without a name it's the real
            one.
        prepare: by member, what its process does before anything else.
    """

    def __init__(
        self, places: Sequence[tuple[str, str]], *, prepare: Sequence[Callable[[], None]] = ()
    ) -> None:
        self._pipes: list[Connection] = []
        self.processes: list[Any] = []
        for rank, (host, machine) in enumerate(places):
            ours, theirs = multiprocessing.Pipe()
            # Never a fork of this process: a test may have TensorFlow's threads in it, and their
            # locks
            process = forked.fork(_serve, theirs, host, machine, prepare[rank] if prepare else None)
            theirs.close()
            self._pipes.append(ours)
            self.processes.append(process)
        self.addresses = [self.answer(rank) for rank in range(len(places))]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all of them."""
        for process in self.processes:
            # Not os.kill: one that was killed a moment ago may be gone without being known as dead
            process.kill()
            process.join()
        for pipe in self._pipes:
            pipe.close()

    def join(
        self, generation: int, ranks: Sequence[int] | None = None, *, timeout_s: float = 20.0
    ) -> None:
        """Form a group of these members."""
        members = list(range(len(self.processes)) if ranks is None else ranks)
        for place, member in enumerate(members):
            self.tell(
                member,
                _join,
                generation,
                place,
                [self.addresses[each] for each in members],
                timeout_s,
            )
        for member in members:
            self.answer(member)

    def tell(self, member: int, function: Callable[..., Any], *arguments: Any) -> None:
        """Begin ``function(state, *arguments)`` in a member."""
        self._pipes[member].send((function, arguments))

    def answer(self, member: int, within_s: float = ANSWER_S) -> Any:
        """What it returned; raises what it raised."""
        if not self._pipes[member].poll(within_s):
            raise TimeoutError(f"member {member} doesn't answer")
        good, value = self._pipes[member].recv()
        if good:
            return value
        raise value

    def each(
        self, function: Callable[..., Any], *arguments: Any, members: Sequence[int] | None = None
    ) -> list[Any]:
        """The same in all members at once."""
        chosen = list(range(len(self.processes)) if members is None else members)
        for member in chosen:
            self.tell(member, function, *arguments)
        return [self.answer(member) for member in chosen]

    def outcomes(self, members: Sequence[int]) -> list[Any]:
        """What each returned or raised."""
        found: list[Any] = []
        for member in members:
            try:
                found.append(self.answer(member))
            except Exception as error:  # noqa: BLE001 (the test looks at it)
                found.append(error)
        return found

    def signal(self, member: int, number: int = signal.SIGKILL) -> None:
        """Send a signal to a member."""
        os.kill(self.processes[member].pid, number)

    def wait_end(self, member: int) -> None:
        """Until the kernel has closed what a killed member, which was idle, had open."""
        if not self._pipes[member].poll(ANSWER_S):
            raise TimeoutError(f"member {member} doesn't end")


class State:
    """What a member holds between calls."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.group: Any = None
        self.kept: dict[str, Any] = {}


def _serve(pipe: Connection, host: str, machine: str, prepare: Callable[[], None] | None) -> None:
    if prepare is not None:
        prepare()
    state = State(Listener(SECRET, host, machine=machine or None))
    pipe.send((True, state.listener.address))
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            os._exit(0)
        try:
            pipe.send((True, function(state, *arguments)))
        except Exception as error:  # noqa: BLE001 (it travels to the test)
            pipe.send((False, error))


def _join(
    state: State, generation: int, rank: int, addresses: Sequence[str], timeout_s: float
) -> None:
    if state.group is not None:
        state.group.close()
    state.group = None
    state.group = state.listener.join(
        generation, rank, addresses, cancelled=threading.Event(), timeout_s=timeout_s
    )
