"""What is left of Horovod in a graph once the exchange between workers is this project's own?

Rule: its operations do in a group of one what its library does there: reductions, gathers and
broadcasts hand their tensor on, the size is one and the rank zero. What was reduced is divided by
the size that Horovod had when the graph was built, a constant by then: that division goes, since
the exchange takes the group's mean. Operations that the operator's own library runs stay; the
division goes all the same, because each worker's Horovod is alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.constants import constant_integer, constant_whole_number
from orchestrator.graph.graphdef.edit import Editor, constant_attributes
from orchestrator.graph.graphdef.view import GraphView, resolve_alias

REDUCTIONS = frozenset({"HorovodAllreduce", "HorovodAllgather", "HorovodReducescatter"})
IDENTITIES = REDUCTIONS | {"HorovodBroadcast"}
NUMBERS = {"HorovodSize": 1, "HorovodLocalSize": 1, "HorovodRank": 0, "HorovodLocalRank": 0}
_DIVISIONS = frozenset({"RealDiv", "Div", "FloorDiv", "DivNoNan"})
_PASSING = frozenset({"Identity", "Cast", "Reshape", "ExpandDims", "Squeeze", "StopGradient"})
"""What a reduced tensor passes before it's divided: decompression, and what gives it its shape."""


@dataclass(frozen=True)
class _Division:
    """A division of a reduced tensor.

    Attributes:
        size: by how many processes; None where the graph asks Horovod for it.
        sure: it's Horovod's own: of a size that was cast. A float may be a loss scale as well.
    """

    node: str
    size: int | None
    sure: bool


def without_horovod(meta: MetaGraphDef, *, bypass: bool) -> tuple[MetaGraphDef, tuple[str, ...]]:
    """A copy without Horovod's part in it, and what was done in words; ``meta`` itself where it has
    none.

    Args:
        bypass: its operations too; False where a library that implements them is loaded.
    """
    kinds = {node.op for node in meta.graph_def.node} & (IDENTITIES | set(NUMBERS))
    if not kinds:
        return meta, ()
    view = GraphView(meta.graph_def)
    editor = Editor(meta)
    done = []
    if bypass:
        replaced = [name for name, op in view.ops.items() if op in kinds]
        for name in replaced:
            _replace(editor, view, name)
        done.append(
            f"{len(replaced)} operations ({', '.join(sorted(kinds))}) bypassed: the identity for a single process"
        )
    divisions = _divisions(view)
    sizes = {division.size for division in divisions if division.sure}
    ours = [division for division in divisions if division.size in sizes]
    for division in ours:
        _hand_on(editor, view, division.node)
    if ours:
        size = ", ".join(sorted("size()" if one is None else str(one) for one in sizes))
        done.append(
            f"{len(ours)} divisions by {size}, Horovod's number of processes, taken out: the exchange takes the mean"
        )
    kept = [division for division in divisions if division.size not in sizes]
    if kept:
        done.append(
            f"{kept[0].node} still divides by {kept[0].size} what Horovod reduced: a loss scale, or a number of processes that isn't these"
        )
    return (editor.meta, tuple(done)) if ours or bypass else (meta, ())


def _divisions(view: GraphView) -> list[_Division]:
    """Where reduced tensors are divided first."""
    waiting = [name for name, op in view.ops.items() if op in REDUCTIONS]
    seen: set[str] = set()
    found: list[_Division] = []
    while waiting:
        for use in view.uses[waiting.pop()]:
            if use.node in seen or use.slot:
                continue
            seen.add(use.node)
            if view.op(use.node) in _PASSING:
                waiting.append(use.node)
            elif view.op(use.node) in _DIVISIONS:
                found.extend(_division(view, use.node))
    return found


def _division(view: GraphView, name: str) -> list[_Division]:
    edge = view.data[name][1]
    source = resolve_alias(view, edge, frozenset({"Identity", "Cast"}))
    if view.op(source.node) == "HorovodSize":
        return [_Division(name, None, True)]
    number = constant_whole_number(view, source)
    if number is None or number < 1:
        return []
    whole = constant_integer(view, source) is not None
    return [_Division(name, number, whole)]


def _replace(editor: Editor, view: GraphView, name: str) -> None:
    op = view.ops[name]
    if op in NUMBERS:
        value = constant_attributes(np.array(NUMBERS[op], np.int32))
        editor.change_op(name, "Const", (), view.controls[name], value)
    else:
        _hand_on(editor, view, name)


def _hand_on(editor: Editor, view: GraphView, name: str) -> None:
    """Let a node give its first input; what it waits for stays."""
    kept = {"T": attribute(view.nodes[name], "T")}
    editor.change_op(name, "Identity", view.data[name][:1], view.controls[name], kept)
