"""How are gradients clipped by their global norm (``--clip-global-norm``)?

Rule: as ``tf.clip_by_global_norm`` writes it, between the gradients and what takes them, for each
operation that trains; so the group exchanges gradients before they are clipped. Rows count with
their values, as there. A graph that updates in a way that isn't known is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from orchestrator.graph.graphdef.edit import constant_attributes, integer_attribute, type_attribute
from orchestrator.graph.graphdef.tensors import FLOATS
from orchestrator.graph.graphdef.view import Edge, Use
from orchestrator.graph.surgery.edits import RefusedEdit, UnderEdit
from orchestrator.graph.surgery.updates import Update, read_updates

SCOPE = "clip_by_global_norm"


def clip_gradients(work: UnderEdit, limit: float) -> None:
    """Clip what every target takes. Raises RefusedEdit."""
    seen: set[str] = set()
    for target in work.targets:
        updates = [
            _before_adding_up(work, one)
            for one in read_updates(work, target)
            if one.node not in seen
        ]
        seen |= {one.node for one in updates}
        if updates:
            _clip(work, updates, limit)
    work.done.append(f"clipped the gradients by their global norm at {limit:g}")


def _before_adding_up(work: UnderEdit, update: Update) -> Update:
    """The same update with its rows as the gradient gives them: TensorFlow clips those, and the
    optimizer adds up what comes twice.
    """
    view, sums = work.graph.view, update.gradient.node
    if update.indices is None or (view.op(sums), view.op(update.indices.node)) != (
        "UnsortedSegmentSum",
        "Unique",
    ):
        return update
    values = view.data[sums][0]
    return replace(update, gradient=values, entries=(Use(sums, 0, values.port),))


def _clip(work: UnderEdit, updates: Sequence[Update], limit: float) -> None:
    dtype = _type_of(work, updates)
    scope = work.unique(SCOPE)
    scale = _scale(work, [one.gradient for one in updates], limit, dtype, scope)
    for number, one in enumerate(updates):
        at = f"{scope}/{SCOPE}/_{number}"
        product = work.unary("Mul", f"{scope}/mul_{number + 1}", one.gradient, scale, dtype=dtype)
        clipped = work.unary("Identity", at, product, dtype=dtype)
        for use in one.entries:
            work.editor.set_input(use.node, use.slot, clipped)


def _type_of(work: UnderEdit, updates: Sequence[Update]) -> str:
    unknown = [one for one in updates if not one.is_known]
    if unknown:
        one = unknown[0]
        raise RefusedEdit(
            f"{one.variable} is updated by {one.node} ({one.kind}), which is no optimizer's operation whose gradient can be told",
            "Leave --clip-global-norm out, or freeze it",
            tuple(each.node for each in unknown),
        )
    types = {work.graph.dtype(one.gradient): one.node for one in updates}
    if len(types) > 1 or not types.keys() <= FLOATS - {"bfloat16"}:
        raise RefusedEdit(
            f"the gradients are of {', '.join(sorted(types))}, which have no one global norm",
            "Leave --clip-global-norm out",
            tuple(types.values()),
        )
    return next(iter(types))


def _scale(
    work: UnderEdit, gradients: Sequence[Edge], limit: float, dtype: str, scope: str
) -> Edge:
    """``limit * min(1 / norm, 1 / limit)``, NaN where the norm isn't finite."""

    def constant(name: str, value: float) -> Edge:
        attributes = constant_attributes(np.asarray(value, dtype))
        return work.add("Const", f"{scope}/{name}", attributes=attributes)

    parts = [
        work.unary("L2Loss", f"{scope}/L2Loss", each, dtype=dtype)
        for each in dict.fromkeys(gradients)
    ]
    # The same gradient twice counts twice, as in the list that TensorFlow is given
    by_gradient = dict(zip(dict.fromkeys(gradients), parts, strict=True))
    every = [by_gradient[each] for each in gradients]
    attributes = {
        "T": type_attribute(dtype),
        "N": integer_attribute(len(every)),
        "axis": integer_attribute(0),
    }
    stack = work.add("Pack", f"{scope}/stack", every, attributes=attributes)
    axis = work.add(
        "Const", f"{scope}/Const", attributes=constant_attributes(np.zeros(1, np.int32))
    )
    total = work.add(
        "Sum",
        f"{scope}/Sum",
        [stack, axis],
        attributes={"T": type_attribute(dtype), "Tidx": type_attribute("int32")},
    )
    double = work.unary("Mul", f"{scope}/mul", total, constant("Const_1", 2.0), dtype=dtype)
    norm = work.unary("Sqrt", f"{scope}/global_norm", double, dtype=dtype)
    inverse = work.unary("RealDiv", f"{scope}/truediv", constant("one", 1.0), norm, dtype=dtype)
    # As TensorFlow does: the limit's inverse is computed by the graph, in the graph's precision
    bound = work.unary(
        "RealDiv",
        f"{scope}/truediv_1",
        constant("one", 1.0),
        constant("clip_norm", limit),
        dtype=dtype,
    )
    least = work.unary("Minimum", f"{scope}/Minimum", inverse, bound, dtype=dtype)
    scale = work.unary("Mul", f"{scope}/mul", constant("clip_norm", limit), least, dtype=dtype)
    finite = work.unary("IsFinite", f"{scope}/IsFinite", norm, dtype=dtype)
    return work.add(
        "Select",
        f"{scope}/Select",
        [finite, scale, constant("nan", float("nan"))],
        attributes={"T": type_attribute(dtype)},
    )
