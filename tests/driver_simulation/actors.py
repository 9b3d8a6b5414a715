"""What does Ray know of an actor, its place, and a call of it?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from ray import exceptions as rex

from tests.driver_simulation.cluster import Group
from tests.driver_simulation.schedule import Process

HELD_UP_S = 1.0
"""Longest time for which others overtake a message. Of a worker whose answer is held up nothing is
heard meanwhile, which isn't to be taken for a hang."""


@dataclass(frozen=True)
class CallFaults:
    """Probabilities for each call of a worker's method, and seconds.

    Ray starts the calls of one driver in their order, but runs those of a worker's control in four
    threads, and a call that couldn't be delivered is made again after later ones. What workers
    answer keeps its order for each of them and for no two of them.

    Attributes:
        late, lost, twice: that it takes ``late_s``; isn't delivered; is delivered twice.
        unanswered: that it's done, and the answer is lost.
        overtaken: that a later call of the same worker is done before it.
        answers_overtaken: that a later answer of another worker comes before its answer.
    """

    latency_s: float = 0.004
    late: float = 0.0
    late_s: float = 3.0
    lost: float = 0.0
    twice: float = 0.0
    unanswered: float = 0.0
    overtaken: float = 0.0
    answers_overtaken: float = 0.0


Reply = Callable[[Any, BaseException | None], None]


class Answering(Protocol):
    """The process of an actor."""

    alive: bool

    def receive(self, method: str, arguments: tuple[Any, ...], reply: Reply) -> None: ...
    def died(self) -> None: ...


class Ref:
    """What a call returns."""

    def __init__(self, caller: Process | None) -> None:
        self.caller = caller
        self.is_done, self.value = False, None
        self.error: BaseException | None = None
        self._then: list[Reply] = []

    def resolve(self, value: Any, error: BaseException | None) -> None:
        if self.is_done:
            return
        self.is_done, self.value, self.error = True, value, error
        for then in self._then:
            then(value, error)

    def then(self, what: Reply) -> None:
        if self.is_done:
            what(self.value, self.error)
        else:
            self._then.append(what)

    def future(self) -> RefFuture:
        return RefFuture(self)


@dataclass(frozen=True)
class RefFuture:
    """``concurrent.futures.Future``, as far as it's used."""

    ref: Ref

    def add_done_callback(self, call: Callable[[RefFuture], None]) -> None:
        self.ref.then(lambda value, error: call(self))

    def exception(self) -> BaseException | None:
        assert self.ref.is_done, "who waits for an answer here stops the world"
        return self.ref.error

    def result(self) -> Any:
        assert self.ref.is_done
        assert self.ref.error is None
        return self.ref.value


@dataclass(eq=False)
class HeldUp:
    """A message that waits for one that was sent later.

    Attributes:
        number: in the order in which they were sent.
        sender: whose later ones don't count.
    """

    number: int
    go_on: Callable[[], None]
    sender: Actor | None = None
    gone_on: bool = False


@dataclass(eq=False)
class Actor:
    """Ray's knowledge of one actor; ``process`` is None until it has been created."""

    name: str
    namespace: str
    group: Group
    process: Any = None
    dead: bool = False
    why: rex.RayActorError | None = None
    waiting: list[Callable[[], None]] = field(default_factory=list)
    unanswered: list[Ref] = field(default_factory=list)
    calls: int = 0
    """That were sent to it."""
    held_up: list[HeldUp] = field(default_factory=list)
    """Calls that later ones are to overtake."""
