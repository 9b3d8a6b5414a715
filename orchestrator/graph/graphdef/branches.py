"""Can two nodes run in the same step, or do they stand on opposite branches of one condition?

Rule: an operation behind a Switch runs where its predicate has the branch's value; a Merge ends
that. Conditionals that ask the same tensor are one condition (``is_training``, asked once for each
layer).
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.graph.graphdef.view import MERGES, NEXT_ITERATIONS, Edge, GraphView, resolve_alias

SWITCHES = frozenset({"Switch", "RefSwitch"})
Branch = tuple[Edge, int]
"""A predicate, and the Switch's output that is alive: 0 where it's false, 1 where it's true."""


class Branches:
    """On which branches each node of a graph stands."""

    def __init__(self, view: GraphView) -> None:
        self._view = view
        self._on: dict[str, frozenset[Branch]] = {}
        for name in view.order()[0]:
            self._on[name] = self._around(name)

    def exclusive(self, one: str, other: str) -> bool:
        """Whether the nodes never run in the same step."""
        return any(
            (predicate, 1 - side) in self._used_on(other) for predicate, side in self._used_on(one)
        )

    def around(self, edge: Edge, depths: Mapping[str, int]) -> tuple[Branch, ...] | None:
        """The conditionals that a value stands in, outermost first; None where they can't be told.

        Args:
            depths: the number of conditionals open at each node (``Flow.depths``).
        """
        if edge.node not in self._on:
            return None
        found = sorted(self._at(edge), key=lambda branch: depths[branch[0].node])
        nested = all(depths[branch[0].node] == level for level, branch in enumerate(found))
        return tuple(found) if nested and depths[edge.node] == len(found) else None

    def _around(self, name: str) -> frozenset[Branch]:
        merges = self._view.ops[name] in MERGES
        found: list[frozenset[Branch]] = []
        for edge in self._view.data[name]:
            if edge.node in self._on and not (
                merges and self._view.ops[edge.node] in NEXT_ITERATIONS
            ):
                found.append(self._at(edge))
        if merges:
            return frozenset.intersection(*found) if found else frozenset()
        found.extend(self._on[source] for source in self._view.controls[name] if source in self._on)
        return frozenset().union(*found)

    def _at(self, edge: Edge) -> frozenset[Branch]:
        if self._view.ops[edge.node] not in SWITCHES:
            return self._on[edge.node]
        return self._on[edge.node] | {(self._predicate(edge.node), edge.port)}

    def _predicate(self, switch: str) -> Edge:
        return resolve_alias(self._view, self._view.data[switch][1], frozenset({"Identity"}))

    def _used_on(self, name: str) -> frozenset[Branch]:
        """A Switch whose value goes one way only counts as standing there: it's read on that branch
        alone.
        """
        ports = {use.port for use in self._view.uses[name]}
        if self._view.ops[name] in SWITCHES and len(ports) == 1:
            return self._on[name] | {(self._predicate(name), ports.pop())}
        return self._on[name]
