"""Which values may differ between the ranks of a group?

Rule: what comes from a batch, a rank's random numbers or the world outside differs, and so does all
that is computed from it, until it passes a seam, where the group's mean makes it equal. Variables
and tables are equal on all ranks, and a writer's result is as equal as its inputs, which are looked
at one by one. Scalar booleans that are fed are settings of the run, the same for all, and so are
scalar integers until they end in a variable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.tensors import INTEGERS
from orchestrator.graph.graphdef.view import Edge, Use, parse_tensor
from orchestrator.graph.worker_graph import STEP_FEED, InputPort

_RNG = parse_tensor(STEP_FEED).node
"""The rank's own key: all that is drawn with it differs between ranks."""


@dataclass(frozen=True)
class RankLocal:
    """What differs between ranks.

    Attributes:
        nodes: nodes whose outputs may differ.
        writes: the inputs of writers that take such values, with the writer and its input number.
    """

    nodes: set[str]
    writes: list[tuple[Edge, Use]] = field(default_factory=list)


def is_setting(port: InputPort, constants: Iterable[str]) -> bool:
    """Whether a fed tensor holds the same on all ranks: given once for the run, or a scalar switch
    or count.
    """
    if is_given(port, constants):
        return True
    if port.dtype == "bool":
        return port.shape in ((), None)
    return port.dtype in INTEGERS and port.shape == ()


def rank_local_sources(
    graph: Graph, closure: set[str], ports: Iterable[InputPort], constants: set[str]
) -> set[str]:
    """The nodes of ``closure`` that bring in what differs between ranks."""
    fed = {parse_tensor(port.tensor).node: port for port in ports}
    found = set()
    for name in closure:
        if name in fed:
            if not is_setting(fed[name], constants):
                found.add(name)
        elif name == _RNG or graph.draws_from_outside(name):
            found.add(name)
    return found


def whole_number_sources(
    closure: set[str], ports: Iterable[InputPort], constants: set[str]
) -> set[str]:
    """The fed whole numbers of ``closure`` that are settings only as long as nobody feeds them by
    batch: an episode's length, a count of tokens.
    """
    return {
        name
        for port in ports
        if port.dtype in INTEGERS and is_setting(port, constants) and not is_given(port, constants)
        if (name := parse_tensor(port.tensor).node) in closure
    }


def is_given(port: InputPort, constants: Iterable[str]) -> bool:
    """Whether a fed tensor is given once for the run."""
    return port.name in constants or port.tensor in constants


def rank_local(
    graph: Graph,
    closure: set[str],
    sources: set[str],
    seams: Mapping[Edge, set[Use]],
    conditionals: Mapping[str, int],
) -> RankLocal:
    """Follow rank-local values forward through ``closure``.

    Args:
        sources: where they come in.
        seams: tensors that are made equal, each with the data inputs that get the equal value.
        conditionals: number of conditionals open at each node; within one, what waits for a branch
            depends on its predicate.
    """
    view = graph.view
    found = RankLocal(set(sources))
    waiting = sorted(sources)
    while waiting:
        name = waiting.pop()
        # A writer's inputs are looked at one by one (``writes``); made equal, so is its result
        if graph.writes(name) and name not in sources:
            continue
        for use in view.uses[name]:
            edge = Edge(name, use.port)
            if use.node not in closure:
                continue
            if use in seams.get(edge, ()):
                continue
            if graph.writes(use.node):
                found.writes.append((edge, use))
            if use.node not in found.nodes:
                found.nodes.add(use.node)
                waiting.append(use.node)
        # Waiting for something within a conditional means to run only where its branch is taken: if
        # the predicate differs between ranks, so does whether a writer runs
        if conditionals.get(name, 0):
            for target in view.control_uses[name]:
                if target in closure and target not in found.nodes and conditionals.get(target, 0):
                    found.nodes.add(target)
                    waiting.append(target)
                    if graph.writes(target):
                        found.writes.append((Edge(name, -1), Use(target, -1, -1)))
    return found
