"""What does Ray know of an actor, its place, and a call of it?"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Protocol

from ray import exceptions as rex

from tests.driver_simulation.schedule import Process

NODES = tuple(f"{number}" * 8 for number in range(4))


@dataclass(frozen=True)
class CallFaults:
    """Probabilities for each call of a worker's method, and seconds."""

    latency_s: float = 0.004
    late: float = 0.0
    late_s: float = 3.0
    lost: float = 0.0
    twice: float = 0.0


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

    def future(self) -> Future[Any]:
        future: Future[Any] = Future()
        self.then(
            lambda value, error: (
                future.set_result(value) if error is None else future.set_exception(error)
            )
        )
        return future


@dataclass(eq=False)
class Group:
    """A placement group of one bundle."""

    ident: str
    name: str
    bundle: dict[str, float]
    node: str
    removed: bool = False

    @property
    def id(self) -> Any:
        return SimpleNamespace(hex=lambda: self.ident)


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
