"""Which parts of a graph behave otherwise in training, and how are they put to inference?

Rule: only where the graph itself shows how. What a random draw is added to or compared with is a
dropout's share: nothing is dropped at 1 and at 0. A switch is put to the side on which nothing is
drawn and batch norm takes its moving averages. What draws random numbers or normalises by the batch
after that is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.edit import constant_attributes
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.tensors import FLOATS
from orchestrator.graph.graphdef.view import Edge, resolve_alias
from orchestrator.graph.inference.batch_norm import with_averages
from orchestrator.graph.inputs.ports import PLACEHOLDERS

_HANDING = frozenset({"Identity", "Cast"})
_KEPT_SHARE = frozenset({"Add", "AddV2"})
_DROPPED_SHARE = frozenset({"GreaterEqual", "Less"})
_SCALING = frozenset({"Mul", "Add", "AddV2"})
"""What stands between a random draw and what it meets: the range that it's drawn from."""


@dataclass(frozen=True)
class Switched:
    """A graph put to inference.

    Attributes:
        meta: a copy.
        done: what was set, in words.
        left: what still behaves as in training, in words.
    """

    meta: MetaGraphDef
    done: tuple[str, ...]
    left: tuple[str, ...]


def to_inference(graph: Graph, needed: Iterable[str], trainable: frozenset[str]) -> Switched:
    """Put the training switches among ``needed`` to inference; the graph isn't changed itself."""
    within = set(needed)
    values: dict[str, np.ndarray] = {}
    for name in sorted(within):
        share = _dropout_share(graph, name, within)
        if share is not None:
            values[name] = share
        elif _is_bool_placeholder(graph, name):
            side = _inference_side(graph, name, within)
            if side is not None:
                values[name] = np.array(side)
    meta = MetaGraphDef()
    meta.CopyFrom(graph.meta)
    nodes = {node.name: node for node in meta.graph_def.node}
    for name, value in values.items():
        nodes[name].op = "Const"
        del nodes[name].input[:]
        nodes[name].attr.clear()
        for key, said in constant_attributes(value).items():
            nodes[name].attr[key].CopyFrom(said)
    done = [f"{name} is set to {value.item()}" for name, value in values.items()]
    normal, fused, own = with_averages(graph, nodes, within, trainable)
    left = (*own, *_left(graph, within, values, fused))
    return Switched(meta, (*done, *normal), left)


def _is_bool_placeholder(graph: Graph, name: str) -> bool:
    return graph.view.op(name) in PLACEHOLDERS and graph.dtype(Edge(name, 0)) == "bool"


def _dropout_share(graph: Graph, name: str, within: set[str]) -> np.ndarray | None:
    """1 for the share that is kept, 0 for the one that is dropped, None for anything else."""
    dtype = graph.dtype(Edge(name, 0))
    if graph.view.op(name) not in PLACEHOLDERS | {"Const"} or dtype not in FLOATS - {"bfloat16"}:
        return None
    waiting, seen = [name], set[str]()
    while waiting:
        current = waiting.pop()
        for use in graph.view.uses[current]:
            if use.node in seen or use.node not in within:
                continue
            seen.add(use.node)
            op = graph.view.op(use.node)
            if op in _HANDING:
                waiting.append(use.node)
            elif op in _KEPT_SHARE | _DROPPED_SHARE and _meets_a_draw(graph, use.node, current):
                if op in _KEPT_SHARE and not _is_floored(graph, use.node):
                    continue  # noise that is added, or the range of the draw itself
                return np.array(1 if op in _KEPT_SHARE else 0, dtype)
    return None


def _meets_a_draw(graph: Graph, name: str, besides: str) -> bool:
    for edge in graph.view.data[name]:
        if edge.node == besides:
            continue
        source = edge.node
        for _ in range(5):
            if graph.traits(source).random:
                return True
            if graph.view.op(source) not in _SCALING or not graph.view.data[source]:
                break
            source = graph.view.data[source][0].node
    return False


def _is_floored(graph: Graph, name: str) -> bool:
    return any(graph.view.op(use.node) == "Floor" for use in graph.view.uses[name])


def _inference_side(graph: Graph, name: str, within: set[str]) -> bool | None:
    """The value of a switch for inference; None where the graph doesn't tell."""
    training: set[int] = set()
    for switch in within:
        if graph.view.op(switch) not in ("Switch", "RefSwitch"):
            continue
        turned = _turns(graph, graph.view.data[switch][1], name)
        if turned is None:
            continue
        for port in (0, 1):
            if _trains(graph, switch, port, within):
                training.add(port ^ turned)
    return None if len(training) != 1 else training == {0}


def _turns(graph: Graph, edge: Edge, name: str) -> int | None:
    """0 where a switch follows the placeholder, 1 where its contrary, None where another."""
    turned = 0
    for _ in range(10):
        edge = resolve_alias(graph.view, edge, frozenset({"Identity"}))
        if edge.node == name:
            return turned
        if graph.view.op(edge.node) != "LogicalNot":
            return None
        turned ^= 1
        edge = graph.view.data[edge.node][0]
    return None


def _trains(graph: Graph, switch: str, port: int, within: set[str]) -> bool:
    """Whether one side of a switch draws random numbers or normalises by the batch."""
    first = [use.node for use in graph.view.uses[switch] if use.port == port]
    pivots = [node for node in first if graph.view.op(node) == "Identity"]
    side = graph.view.descendants(
        first, within=within, stop=lambda name: graph.view.op(name) in ("Merge", "RefMerge")
    )
    side |= {use for pivot in pivots for use in graph.view.control_uses[pivot]}
    return any(_is_training(graph, name) for name in side)


def _is_training(graph: Graph, name: str) -> bool:
    if graph.view.op(name).startswith("FusedBatchNorm"):
        node = graph.view.nodes[name]
        return "is_training" not in node.attr or attribute(node, "is_training").b
    return graph.traits(name).random


def _left(
    graph: Graph, within: set[str], values: dict[str, np.ndarray], fused: set[str]
) -> Iterator[str]:
    settled = graph.view.descendants(values, control=False, within=within)
    for name in sorted(within):
        if _is_bool_placeholder(graph, name) and name not in values:
            yield f"{name} stays an input: the graph doesn't tell which side is inference"
        elif graph.view.op(name).startswith("FusedBatchNorm") and _is_training(graph, name):
            if name not in settled and name not in fused:
                yield f"{name} normalises by the batch, as in training"
        elif graph.traits(name).random and not _feeds_settled(graph, name, settled):
            yield f"{name} draws random numbers, as in training"


def _feeds_settled(graph: Graph, name: str, settled: set[str]) -> bool:
    """Whether all that a draw flows into was set: it's computed and has no effect."""
    waiting = [name]
    for _ in range(6):
        takers = [use.node for each in waiting for use in graph.view.uses[each]]
        if not takers:
            return False
        if all(taker in settled for taker in takers):
            return True
        waiting = [taker for taker in takers if taker not in settled]
    return False
