"""Is a graph sound enough to be analysed?

Rule: everything after this may rely on what TensorFlow's import would demand of every node
(``wiring``, ``attributes``): names that are unique, inputs that exist and are as many as the OpDef
says, attributes of the right kind. A graph that isn't sound is refused with every fault; no
analysis of it would mean anything.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import islice

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.graph.graphdef.opset import OpSet
from orchestrator.graph.graphdef.view import GraphView
from orchestrator.graph.importing.compat import Compatibility, attribute_problems, compatibility
from orchestrator.graph.importing.wiring import wiring_faults
from orchestrator.graph.problem import Problem

SHOWN_FAULTS = 1000
"""A damaged file can have as many faults as nodes; more than these tell nobody anything."""
REMEDY = (
    "The file is damaged or was cut out of a larger graph; copy it again from where it was written"
)


def soundness_problems(
    meta: MetaGraphDef,
    ops: OpSet,
    view: GraphView | None = None,
    *,
    found: Compatibility | None = None,
) -> tuple[Problem, ...]:
    """What is wrong with the graph's nodes and wiring, one problem per kind and detail; empty for a
    sound graph.

    Args:
        found: ``compatibility(meta, ops)`` where it's known already.
    """
    by_detail: dict[tuple[str, str], list[str]] = defaultdict(list)
    for fault in islice(wiring_faults(meta.graph_def, ops, view), SHOWN_FAULTS):
        by_detail[fault.code, fault.detail].append(fault.node)
    wrong = [
        Problem(code, "error", f"{nodes[0]}: {detail}", REMEDY, tuple(nodes))
        for (code, detail), nodes in by_detail.items()
    ]
    return (*wrong, *attribute_problems(found or compatibility(meta, ops)))
