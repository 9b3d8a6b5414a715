"""What is mended in a graph before the installed TensorFlow imports it?

Rule: only what can be mended without changing the graph's meaning (with ``force`` unknown
attributes too), in memory, and each repair is reported in words. What can't be is a problem
(``compat``).
"""

from __future__ import annotations

from collections import defaultdict

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.graph.graphdef.attributes import faults, rules_of
from orchestrator.graph.graphdef.library import every_node
from orchestrator.graph.graphdef.opset import OpSet
from orchestrator.graph.importing.compat import Compatibility, compatibility
from orchestrator.graph.importing.dangling import drop_dangling_entries, drop_lost_colocations
from orchestrator.graph.importing.versions import mend_versions


def mend(
    meta: MetaGraphDef, ops: OpSet, *, force: bool = False, found: Compatibility | None = None
) -> tuple[MetaGraphDef, tuple[str, ...]]:
    """``meta`` made importable where that doesn't change its meaning.

    Args:
        force: drop unknown attributes that aren't at a known default too.
        found: ``compatibility(meta, ops)`` where it's known already.

    Returns:
        The mended copy and each repair in words; ``meta`` itself and ``()`` where nothing needs
        mending.
    """
    found = found or compatibility(meta, ops)
    mended = MetaGraphDef()
    mended.CopyFrom(meta)
    done = [
        *mend_versions(mended, ops, all_known=found.all_known or (force and not found.missing)),
        *_drop_attributes(mended, ops, found, force=force),
        *_drop_repeated_functions(mended),
        *drop_dangling_entries(mended),
        *drop_lost_colocations(mended.graph_def),
    ]
    return (mended, tuple(done)) if done else (meta, ())


def _drop_attributes(
    meta: MetaGraphDef, ops: OpSet, found: Compatibility, *, force: bool
) -> list[str]:
    """Remove unknown attributes at their default (or all unknown ones with ``force``) in place."""
    if not any(
        fault.kind == "unknown" and (fault.droppable or force) for _, fault in found.attributes
    ):
        return []
    own = {op.name: op for op in meta.meta_info_def.stripped_op_list.op}
    counts: dict[tuple[str, str], int] = defaultdict(int)
    concerned = {op_type for op_type, _ in found.attributes}
    for _, node in every_node(meta.graph_def):
        if node.op not in concerned:
            continue
        for fault in faults(node, rules_of(ops.ops[node.op]), own.get(node.op), in_function=True):
            if fault.kind == "unknown" and (fault.droppable or force):
                del node.attr[fault.attribute]
                counts[node.op, fault.attribute] += 1
    return [
        f"attribute {name} dropped from {count} {op_type} {'node' if count == 1 else 'nodes'}"
        for (op_type, name), count in counts.items()
    ]


def _drop_repeated_functions(meta: MetaGraphDef) -> list[str]:
    """Remove functions that stand in the library twice with the same body, in place."""
    seen: dict[str, bytes] = {}
    kept, done = [], []
    for function in meta.graph_def.library.function:
        name = function.signature.name
        body = function.SerializeToString(deterministic=True)
        if seen.get(name) == body:
            done.append(f"function {name} stood in the library twice; one copy dropped")
            continue
        seen.setdefault(name, body)
        kept.append(function)
    if done:
        copies = [type(function).FromString(function.SerializeToString()) for function in kept]
        del meta.graph_def.library.function[:]
        meta.graph_def.library.function.extend(copies)
    return done
