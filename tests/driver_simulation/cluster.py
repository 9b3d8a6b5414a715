"""Which nodes does a simulated cluster have, and who has a place on which of them?

Rule: a place that fits nowhere waits, as Ray lets it wait; one whose node goes is moved to another
that has room, without whoever lay there. A node that is gone never comes back: another one does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from tests.driver_simulation.schedule import Schedule

FIRST = 4
"""Nodes that a cluster begins with."""


@dataclass(eq=False)
class Node:
    """One machine, as Ray shows it."""

    ident: str
    address: str
    alive: bool = True
    draining: bool = False

    @property
    def name(self) -> str:
        """As workers name it."""
        return f"{self.address}/{self.ident}"


@dataclass(eq=False)
class Group:
    """A placement group of one bundle.

    Attributes:
        node: where it is; empty while it's nowhere.
        avoids: identities of nodes that it was made to keep away from.
    """

    ident: str
    name: str
    bundle: dict[str, float]
    avoids: Collection[str] = ()
    node: str = ""
    removed: bool = False
    waiting: list[Callable[[], None]] = field(default_factory=list)
    """What begins once it's somewhere."""

    @property
    def id(self) -> Any:
        return SimpleNamespace(hex=lambda: self.ident)


class Cluster:
    """The nodes, and the groups on them.

    Args:
        slots: how many groups a node takes; 0 for any number.
    """

    def __init__(self, schedule: Schedule, slots: int) -> None:
        self._schedule, self._slots = schedule, slots
        self.nodes: dict[str, Node] = {}
        self.groups: dict[str, Group] = {}
        for _ in range(FIRST):
            self.add_node()

    def add_node(self) -> Node:
        """Who waits is placed on it."""
        number = len(self.nodes)
        node = Node(f"{number:x}" * 8 if number < 16 else f"{number:08x}", f"10.0.0.{number}")
        self.nodes[node.ident] = node
        self._place_who_waits()
        return node

    def remove_node(self, node: Node) -> None:
        """It's gone; its groups are moved. Whoever lay there is the caller's to end, before."""
        node.alive = node.draining = False
        for group in self._on(node):
            group.node = ""
        self._place_who_waits()

    def usable(self) -> list[Node]:
        """Nodes that live and aren't about to go."""
        return [node for node in self.nodes.values() if node.alive and not node.draining]

    def draining(self) -> set[str]:
        """Names of the nodes that are about to go, as ``workers.nodes`` tells them."""
        return {node.name for node in self.nodes.values() if node.draining}

    def room(self) -> int:
        """How many more groups fit."""
        return sum(self._free(node) for node in self.usable()) if self._slots else 1

    def place(self, group: Group) -> None:
        """Find a node for a new group, now or later."""
        self.groups[group.ident] = group
        self._put(group)

    def remove(self, group: Group) -> None:
        """Give its place back."""
        group.removed = True
        group.waiting = []
        if self._slots:
            self._place_who_waits()

    def _put(self, group: Group) -> None:
        fitting = [
            node
            for node in self.usable()
            if node.ident not in group.avoids and (not self._slots or self._free(node))
        ]
        if fitting:
            group.node = self._schedule.random.choice(fitting).ident

    def _place_who_waits(self) -> None:
        for group in self.groups.values():
            if group.node or group.removed:
                continue
            self._put(group)
            if group.node:
                begins, group.waiting = group.waiting, []
                for begin in begins:
                    begin()

    def _on(self, node: Node) -> list[Group]:
        return [
            group
            for group in self.groups.values()
            if group.node == node.ident and not group.removed
        ]

    def _free(self, node: Node) -> int:
        return max(0, self._slots - len(self._on(node)))
