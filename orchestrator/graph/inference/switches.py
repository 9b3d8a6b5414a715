"""Which parts of a graph behave otherwise in training, and how are they put to inference?

Rule: only where the graph itself shows how. What a random draw is added to or compared with is a
dropout's share: nothing is dropped at 1 and at 0. A switch is put to the side on which nothing is
drawn, no average is moved and batch norm takes its moving averages. What draws random numbers or normalises by the batch
after that is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.graph.graphdef.constants import constant_whole_number
from orchestrator.graph.graphdef.edit import constant_attributes
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.tensors import FLOATS
from orchestrator.graph.graphdef.view import Edge
from orchestrator.graph.inference.batch_norm import with_averages
from orchestrator.graph.inference.sides import dead, inference_side, is_training
from orchestrator.graph.inputs.ports import PLACEHOLDERS

_HANDING = frozenset({"Identity", "Cast", "Enter", "RefEnter"})
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
    chosen: dict[str, bool] = {}
    masks: set[str] = set()
    for name in sorted(within):
        share = _dropout_share(graph, name, within)
        if share is not None:
            values[name], met = share
            masks |= met
        elif _is_bool_placeholder(graph, name):
            side = inference_side(graph, name, within, trainable)
            if side is not None:
                chosen[name] = side
                values[name] = np.array(side)
    live = within - dead(graph, chosen, within)
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
    normal, fused, own = with_averages(graph, nodes, live, trainable)
    left = (*own, *_left(graph, live, values, masks, fused))
    return Switched(meta, (*done, *normal), left)


def _is_bool_placeholder(graph: Graph, name: str) -> bool:
    return graph.view.op(name) in PLACEHOLDERS and graph.dtype(Edge(name, 0)) == "bool"


def _dropout_share(graph: Graph, name: str, within: set[str]) -> tuple[np.ndarray, set[str]] | None:
    """1 for the share that is kept, 0 for the one that is dropped, and where it meets draws; None
    for anything else.
    """
    dtype = graph.dtype(Edge(name, 0))
    if graph.view.op(name) not in PLACEHOLDERS | {"Const"} or dtype not in FLOATS - {"bfloat16"}:
        return None
    found: dict[int, set[str]] = {}
    waiting, seen = [(name, False)], set[str]()
    while waiting:
        current, rest = waiting.pop()
        for use in graph.view.uses[current]:
            if use.node in seen or use.node not in within:
                continue
            seen.add(use.node)
            op = graph.view.op(use.node)
            if op in _HANDING:
                waiting.append((use.node, rest))
            elif op == "Sub" and _is_rest_of_one(graph, use.node, use.slot):
                waiting.append((use.node, not rest))
            elif op in _KEPT_SHARE | _DROPPED_SHARE and _meets_a_draw(graph, use.node, current):
                if op in _KEPT_SHARE and not _is_floored(graph, use.node):
                    continue  # noise that is added, or the range of the draw itself
                found.setdefault(int((op in _KEPT_SHARE) != rest), set()).add(use.node)
    if len(found) != 1:
        return None
    ((share, masks),) = found.items()
    return np.array(share, dtype), masks


def _is_rest_of_one(graph: Graph, name: str, slot: int) -> bool:
    """Whether a subtraction makes of a kept share the dropped one, or the other way round."""
    return slot == 1 and constant_whole_number(graph.view, graph.view.data[name][0]) == 1


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


def _left(
    graph: Graph, live: set[str], values: dict[str, np.ndarray], masks: set[str], fused: set[str]
) -> Iterator[str]:
    for name in sorted(live):
        if _is_bool_placeholder(graph, name) and name not in values:
            yield f"{name} stays an input: the graph doesn't tell which side is inference"
        elif graph.view.op(name).startswith("FusedBatchNorm") and is_training(graph, name):
            if name not in fused:
                yield f"{name} normalises by the batch, as in training"
        elif graph.traits(name).random and not _has_no_effect(graph, name, live, masks):
            yield f"{name} draws random numbers, as in training"


def _has_no_effect(graph: Graph, name: str, live: set[str], masks: set[str]) -> bool:
    """Whether all that a draw flows into are masks that were set to let everything through."""
    waiting = {name}
    for _ in range(6):
        waiting = {
            use.node
            for each in waiting - masks
            for use in graph.view.uses[each]
            if use.node in live
        } | (waiting & masks)
        if waiting <= masks:
            return bool(waiting)
        if any(graph.view.op(each) not in _SCALING | _HANDING for each in waiting - masks):
            return False
    return False
