"""Do a graph and a checkpoint belong to the same model?

Rule: what the graph's saver would restore is compared with the checkpoint's index: a key whose
dtype or shape differs can't be restored (another model of the same directory, an older layer size),
and a saver none of whose keys is there belongs to something else. Keys that are merely missing are
left to the plan, which knows which of them matter and about ``--init-missing``; only where an older
checkpoint could be taken instead do they count here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.graph.variables.checkpoint_keys import CheckpointKeys
from orchestrator.store.bundle.protos import DTYPES

_REF_DTYPES = 100
"""TensorFlow numbers a reference to dtype n as 100 + n."""
_SHOWN = 3
"""Differences named in a message: a graph of another model differs in all of them."""


@dataclass(frozen=True)
class Restored:
    """One output of a restore operation: what the graph expects under a key."""

    key: str
    dtype: str
    shape: tuple[int, ...] | None


def misfit(meta: Any, keys: CheckpointKeys, *, whole: bool = False) -> str:
    """Why the checkpoint isn't one of this graph; empty where it may be.

    Args:
        meta: MetaGraphDef.
        keys: what the checkpoint holds.
        whole: it has to hold every key that the saver restores.
    """
    expected = list(_restored(meta))
    if not expected:
        return ""
    if not any(item.key in keys for item in expected):
        return f"holds none of the {len(expected)} variables that the graph's saver restores: it's another model's"
    missing = [item.key for item in expected if item.key not in keys]
    if whole and missing:
        return f"lacks {len(missing)} of the {len(expected)} variables that its graph's saver restores, such as {missing[0]!r}"
    wrong = [text for item in expected if (text := _difference(item, keys))]
    if not wrong:
        return ""
    more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return "doesn't fit the graph: " + "; ".join(wrong[:_SHOWN]) + more


def _difference(item: Restored, keys: CheckpointKeys) -> str:
    found = keys.get(item.key)
    if found is None:
        return ""
    if found.dtype != item.dtype:
        return f"{item.key!r} is {found.dtype} in it, {item.dtype} in the graph"
    if item.shape is not None and found.shape is not None and tuple(found.shape) != item.shape:
        return f"{item.key!r} has shape {list(found.shape)} in it, {list(item.shape)} in the graph"
    return ""


def _restored(meta: Any) -> Iterator[Restored]:
    nodes = {node.name: node for node in meta.graph_def.node}
    file_name = meta.saver_def.filename_tensor_name.partition(":")[0]
    shapes = dict(_assigned_shapes(nodes))
    for node in meta.graph_def.node:
        if node.op not in ("RestoreV2", "Restore", "RestoreSlice") or (
            file_name and _source(node, 0) != file_name
        ):
            continue
        names, slices = _strings(nodes, _source(node, 1)), _strings(nodes, _source(node, 2))
        dtypes = (
            list(node.attr["dtypes"].list.type)
            if node.op == "RestoreV2"
            else [node.attr["dt"].type]
        )
        for output, (key, number) in enumerate(zip(names, dtypes, strict=False)):
            sliced = output < len(slices) and slices[output] != ""
            dtype = DTYPES.get(number % _REF_DTYPES)
            if dtype:
                yield Restored(key, dtype, None if sliced else shapes.get((node.name, output)))


def _assigned_shapes(nodes: Mapping[str, Any]) -> Iterator[tuple[tuple[str, int], tuple[int, ...]]]:
    """(restore node, output) -> shape of the variable that it's assigned to."""
    for node in nodes.values():
        if node.op not in ("Assign", "AssignVariableOp") or len(node.input) < 2:
            continue
        value = node.input[1]
        for _ in range(3):
            source = nodes.get(value.partition(":")[0])
            if source is None or source.op != "Identity" or not source.input:
                break
            value = source.input[0]
        variable = nodes.get(node.input[0].partition(":")[0])
        if variable is None or "shape" not in variable.attr:
            continue
        shape = variable.attr["shape"].shape
        if not shape.unknown_rank and all(dim.size >= 0 for dim in shape.dim):
            name, _, output = value.partition(":")
            yield (name, int(output or 0)), tuple(dim.size for dim in shape.dim)


def _source(node: Any, position: int) -> str:
    return str(node.input[position]).partition(":")[0] if position < len(node.input) else ""


def _strings(nodes: Mapping[str, Any], name: str) -> list[str]:
    node = nodes.get(name)
    if node is None or node.op != "Const":
        return []
    tensor = node.attr["value"].tensor
    count = 1
    for dim in tensor.tensor_shape.dim:
        count *= max(dim.size, 0)
    values = [value.decode("utf-8", "surrogateescape") for value in tensor.string_val]
    # TensorFlow writes a row of equal values once
    if values and len(values) < count <= 10_000_000:
        values += [values[-1]] * (count - len(values))
    return values
