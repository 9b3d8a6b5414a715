"""As much of Ray as the driver uses, in simulated time: named actors, calls, and placement groups.

Calls are delivered late, lost (Ray says that the actor can't be reached), twice, or one after
another that was sent later; a death is told some time after it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

from ray import exceptions as rex

from tests.driver_simulation.actors import (
    HELD_UP_S,
    Actor,
    Answering,
    CallFaults,
    HeldUp,
    Ref,
)
from tests.driver_simulation.cluster import Cluster, Group, Node
from tests.driver_simulation.schedule import Process, Schedule, SimFlag


class SimRay:
    """Ray's API, and what the world does to the cluster."""

    def __init__(
        self, schedule: Schedule, faults: CallFaults, cluster: Cluster, start_s: float = 2.0
    ) -> None:
        self.schedule, self.faults, self.start_s = schedule, faults, start_s
        self.cluster = cluster
        self.actors: list[Actor] = []
        self.make: Callable[[Actor, tuple[Any, ...]], Answering] = _missing
        self.killed_by: Callable[[Process | None, Actor], None] = _nothing
        self.util = SimpleNamespace(list_named_actors=self._list_named_actors)
        self.fired: set[str] = set()
        self._answers = 0
        self._held_up: dict[Process | None, list[HeldUp]] = {}
        """Answers that later ones are to overtake, by whom they go to."""

    # -- Ray's API

    def put(self, value: Any) -> Any:
        return value

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"NodeID": node.ident, "Alive": node.alive, "NodeManagerAddress": node.address}
            for node in self.cluster.nodes.values()
        ]

    def kill(self, handle: Handle, no_restart: bool = True) -> None:
        self.killed_by(self.schedule.process, handle.actor)
        self.die(handle.actor)

    def get_actor(self, name: str, namespace: str) -> Handle:
        for actor in self.actors:
            if not actor.dead and (actor.name, actor.namespace) == (name, namespace):
                return Handle(self, actor)
        raise ValueError(f"no actor is called {name}")

    def wait(self, refs: list[Ref], num_returns: int, timeout: float) -> None:
        flag = SimFlag(self.schedule)
        left = [ref for ref in refs if not ref.is_done]

        def resolved(value: Any, error: BaseException | None) -> None:
            if all(ref.is_done for ref in refs):
                flag.set()

        for ref in left:
            ref.then(resolved)
        if left:
            flag.wait(timeout)

    def get(self, ref: Ref, timeout: float | None = None) -> Any:
        self.wait([ref], 1, 1e9 if timeout is None else timeout)
        if not ref.is_done:
            raise rex.GetTimeoutError("no answer")
        if ref.error is not None:
            raise ref.error
        return ref.value

    def _list_named_actors(self, all_namespaces: bool) -> list[dict[str, str]]:
        return [
            {"name": actor.name, "namespace": actor.namespace}
            for actor in self.actors
            if not actor.dead
        ]

    # -- placement groups, as ``workers.placement`` calls them

    def placement_group(
        self,
        bundles: list[dict[str, float]],
        strategy: str,
        name: str,
        lifetime: str,
        bundle_label_selector: list[dict[str, str]] | None,
    ) -> Group:
        """The one label that is asked for is ``!in(NODE,...)`` of a node's identity."""
        (asked,) = bundle_label_selector or [{"ray.io/node-id": "!in()"}]
        avoids = asked["ray.io/node-id"].removeprefix("!in(").removesuffix(")").split(",")
        group = Group(f"{len(self.cluster.groups) + 1:016x}", name, bundles[0], avoids)
        self.cluster.place(group)
        return group

    def placement_group_table(self, group: Group | None = None) -> Any:
        if group is not None:
            return self._entry(group)
        return {ident: self._entry(each) for ident, each in self.cluster.groups.items()}

    def _entry(self, group: Group) -> dict[str, Any]:
        return {
            "placement_group_id": group.ident,
            "name": group.name,
            "state": "REMOVED" if group.removed else "CREATED" if group.node else "PENDING",
            "bundles": {0: group.bundle},
            "bundles_to_node_id": {0: group.node},
        }

    def remove_placement_group(self, group: Group) -> None:
        for actor in self.actors:
            if actor.group is group and not actor.dead:
                self.die(actor)
        self.cluster.remove(group)

    def lose_node(self, node: Node) -> bool:
        """A node goes, and everybody there; whether there was anybody."""
        lost = [
            actor
            for actor in self.actors
            if not actor.dead and actor.group.node == node.ident and not actor.group.removed
        ]
        for actor in lost:
            self.die(actor, "its node has died")
        self.cluster.remove_node(node)
        return bool(lost)

    # -- actors

    def create(self, name: str, namespace: str, group: Group, arguments: tuple[Any, ...]) -> Actor:
        if any(
            (actor.name, actor.namespace) == (name, namespace) and not actor.dead
            for actor in self.actors
        ):
            raise ValueError(f"an actor is called {name} already")
        actor = Actor(name, namespace, group)
        self.actors.append(actor)

        def created() -> None:
            if not actor.dead:
                actor.process = self.make(actor, arguments)
                for deliver in actor.waiting:
                    deliver()
                actor.waiting = []

        def begin() -> None:
            self.schedule.at(self.start_s * (0.5 + self.schedule.random.random()), created)

        if group.node:
            begin()
        else:
            self.fired.add("waits for room")
            group.waiting.append(begin)
        return actor

    def die(self, actor: Actor, why: str = "") -> None:
        """The actor's process is gone; those who wait for it hear so a little later."""
        if actor.dead:
            return
        actor.dead, actor.why = True, rex.RayActorError(error_msg=why)
        if actor.process is not None:
            actor.process.alive = False
            actor.process.died()
        calls, actor.waiting = actor.waiting, []
        for deliver in calls:
            deliver()
        unanswered, actor.unanswered = actor.unanswered, []
        told_s = self.schedule.random.choice((0.012, 0.05, 1.0))
        for ref in unanswered:
            self._resolve(ref, None, actor.why, told_s)

    def call(self, actor: Actor, method: str, arguments: tuple[Any, ...], ref: Ref) -> None:
        """Send a call. An argument that is a reference is waited for, as Ray does."""
        pending = [each for each in arguments if isinstance(each, Ref) and not each.is_done]
        if pending:
            pending[0].then(lambda value, error: self.call(actor, method, arguments, ref))
            return
        failed = [each.error for each in arguments if isinstance(each, Ref) and each.error]
        if failed:
            self._resolve(ref, None, failed[0], 0.0)
            return
        given = tuple(each.value if isinstance(each, Ref) else each for each in arguments)
        random, faults = self.schedule.random, self.faults
        delay_s = faults.latency_s * (0.5 + random.random())
        if random.random() < faults.late:
            self.fired.add("late")
            delay_s += faults.late_s * random.random()
        if random.random() < faults.lost:
            self.fired.add("lost")
            error = rex.ActorUnavailableError("it can't be reached", None)
            self._resolve(ref, None, error, 0.5)
            return
        actor.calls += 1
        number = actor.calls

        def arrive() -> None:
            self._arrive(actor, method, given, ref)
            if method != "poll":
                self._overtake("overtaken", actor.held_up, number)

        if method != "poll" and faults.overtaken and random.random() < faults.overtaken:
            self._hold_up(actor.held_up, HeldUp(number, arrive))
        else:
            self.schedule.at(delay_s, arrive)
        if method != "poll" and random.random() < faults.twice:
            self.fired.add("twice")
            self.schedule.at(2 * delay_s, lambda: self._arrive(actor, method, given, ref))

    def _hold_up(self, where: list[HeldUp], message: HeldUp) -> None:
        """Until a later one has come, or for so long."""
        where.append(message)
        self.schedule.at(HELD_UP_S, lambda: self._go_on(where, message))

    def _overtake(
        self, fault: str, where: list[HeldUp], number: int, sender: Actor | None = None
    ) -> None:
        """The message of this number has come: those that it has overtaken do."""
        for message in list(where):
            if message.number < number and (sender is None or message.sender is not sender):
                self.fired.add(fault)
                self._go_on(where, message)

    def _go_on(self, where: list[HeldUp], message: HeldUp) -> None:
        if not message.gone_on:
            message.gone_on = True
            where.remove(message)
            message.go_on()

    def _arrive(self, actor: Actor, method: str, arguments: tuple[Any, ...], ref: Ref) -> None:
        if actor.dead:
            self._resolve(ref, None, actor.why, self.schedule.random.choice((0.012, 1.0)))
            return
        if actor.process is None:
            actor.waiting.append(lambda: self._arrive(actor, method, arguments, ref))
            return
        actor.unanswered.append(ref)

        def reply(value: Any, error: BaseException | None) -> None:
            if ref in actor.unanswered:
                actor.unanswered.remove(ref)
                self._answer(actor, ref, value, error)

        actor.process.receive(method, arguments, reply)

    def _answer(self, actor: Actor, ref: Ref, value: Any, error: BaseException | None) -> None:
        """An answer is on its way."""
        random, faults = self.schedule.random, self.faults
        if faults.unanswered and random.random() < faults.unanswered:
            self.fired.add("unanswered")
            self._resolve(ref, None, rex.ActorUnavailableError("it can't be reached", None), 0.5)
            return
        self._answers += 1
        number, held_up = self._answers, self._held_up.setdefault(ref.caller, [])

        def come() -> None:
            ref.resolve(value, error)
            self._overtake("answers_overtaken", held_up, number, actor)

        if faults.answers_overtaken and random.random() < faults.answers_overtaken:
            go_on = functools.partial(self.schedule.at, 0.0, come, ref.caller)
            self._hold_up(held_up, HeldUp(number, go_on, actor))
        else:
            self.schedule.at(faults.latency_s, come, ref.caller)

    def _resolve(self, ref: Ref, value: Any, error: BaseException | None, delay_s: float) -> None:
        self.schedule.at(delay_s, lambda: ref.resolve(value, error), ref.caller)


@dataclass(frozen=True)
class Handle:
    """Ray's handle of an actor."""

    ray: SimRay
    actor: Actor

    def __getattr__(self, method: str) -> Method:
        return Method(self.ray, self.actor, method)


class Method(NamedTuple):
    """Of an actor's handle."""

    ray: SimRay
    actor: Actor
    name: str

    def remote(self, *arguments: Any) -> Ref:
        ref = self._ref()
        self.ray.call(self.actor, self.name, arguments, ref)
        return ref

    def options(self, num_returns: int) -> SimpleNamespace:
        return SimpleNamespace(remote=functools.partial(self._several, num_returns))

    def _several(self, count: int, *arguments: Any) -> tuple[Ref, ...]:
        whole, each = self._ref(), tuple(self._ref() for _ in range(count))

        def split(value: Any, error: BaseException | None) -> None:
            for place, ref in enumerate(each):
                ref.resolve(None if error else value[place], error)

        whole.then(split)
        self.ray.call(self.actor, self.name, arguments, whole)
        return each

    def _ref(self) -> Ref:
        return Ref(self.ray.schedule.process)


class ActorClass:
    """What ``fleet.actor_class`` returns."""

    def __init__(self, ray: SimRay) -> None:
        self._ray = ray

    def options(
        self, name: str, namespace: str, scheduling_strategy: Any, **_: Any
    ) -> SimpleNamespace:
        group = scheduling_strategy.placement_group

        def remote(*arguments: Any) -> Handle:
            return Handle(self._ray, self._ray.create(name, namespace, group, arguments))

        return SimpleNamespace(remote=remote)


def _missing(actor: Actor, arguments: tuple[Any, ...]) -> Any:
    raise AssertionError("nobody makes workers")


def _nothing(process: Process | None, actor: Actor) -> None:
    """Nobody looks."""
