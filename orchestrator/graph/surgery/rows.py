"""How does a new optimizer update the rows of a table?

Rule: as TensorFlow 1 does: rows that come twice are added up first, except by plain descent; Adam
on rows decays the moments of the whole table and is written out in assignments; the others have an
operation for it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from tensorboard.compat.proto.attr_value_pb2 import AttrValue

from orchestrator.graph.graphdef.edit import constant_attributes, type_attribute
from orchestrator.graph.graphdef.view import Edge
from orchestrator.graph.surgery.edits import UnderEdit
from orchestrator.graph.surgery.new_variables import NewVariable
from orchestrator.graph.surgery.optimizers import Optimizer
from orchestrator.graph.surgery.updates import Update


def apply(
    work: UnderEdit,
    update: Update,
    new: Optimizer,
    edges: Mapping[str, Edge],
    slots: Mapping[str, NewVariable],
    dtype: str,
    scope: str,
) -> None:
    """Make ``update`` the new optimizer's.

    Args:
        edges: of its inputs by name; ``grad`` are the values of the rows.
        slots: by input name.
    """
    assert update.indices is not None, "a dense gradient has no rows"
    rows = _Rows(work, update, dtype, work.graph.dtype(update.indices), scope)
    if new.title == "GradientDescent":
        rows.descend(edges["lr"])
        return
    values, indices = rows.once_each()
    if new.title == "Adam":
        rows.adam(edges, slots, values, indices)
        return
    given = {**edges, "grad": values, "indices": indices}
    attributes = {"T": type_attribute(dtype), "Tindices": type_attribute(rows.index_type)} | {
        name: AttrValue(b=value) for name, value in new.flags
    }
    rows.become(f"Sparse{new.dense}", [given[name] for name in new.sparse_inputs], attributes)


class _Rows:
    """The update of one table."""

    def __init__(
        self, work: UnderEdit, update: Update, dtype: str, index_type: str, scope: str
    ) -> None:
        self._work, self._update, self._dtype, self._scope = work, update, dtype, scope
        self.index_type = index_type
        self._resource = update.kind.startswith("Resource")

    def become(self, op: str, inputs: list[Edge], attributes: Mapping[str, AttrValue]) -> None:
        """The update's node becomes ``op``."""
        self._work.editor.change_op(
            self._update.node,
            ("Resource" if self._resource else "") + op,
            inputs,
            self._work.graph.view.controls[self._update.node],
            attributes,
        )

    def _op(self, op: str, *inputs: Edge) -> Edge:
        return self._work.unary(op, f"{self._scope}/{op}", *inputs, dtype=self._dtype)

    def descend(self, rate: Edge) -> None:
        """Plain descent: rows that come twice are subtracted twice."""
        update = self._update
        assert update.indices is not None, "a dense gradient has no rows"
        rows = type_attribute(self.index_type)
        typed = type_attribute(self._dtype)
        if self._resource:
            product = self._op("Mul", self._op("Neg", update.gradient), rate)
            inputs = [update.handle, update.indices, product]
            self.become("ScatterAdd", inputs, {"dtype": typed, "Tindices": rows})
        else:
            product = self._op("Mul", update.gradient, rate)
            inputs = [update.handle, update.indices, product]
            self.become("ScatterSub", inputs, {"T": typed, "Tindices": rows})

    def once_each(self) -> tuple[Edge, Edge]:
        """Values and indices with each row once."""
        work, update = self._work, self._update
        assert update.indices is not None, "a dense gradient has no rows"
        view = work.graph.view
        if (view.op(update.gradient.node), view.op(update.indices.node)) == (
            "UnsortedSegmentSum",
            "Unique",
        ):
            return update.gradient, update.indices
        types = {"T": type_attribute(self.index_type), "out_idx": type_attribute("int32")}
        unique = work.add("Unique", f"{self._scope}/Unique", [update.indices], attributes=types)
        how = {"T": type_attribute(self.index_type), "out_type": type_attribute("int32")}
        count = work.add("Size", f"{self._scope}/Size", [unique], attributes=how)
        summed = work.add(
            "UnsortedSegmentSum",
            f"{self._scope}/UnsortedSegmentSum",
            [update.gradient, Edge(unique.node, 1), count],
            attributes={
                "T": type_attribute(self._dtype),
                "Tindices": type_attribute("int32"),
                "Tnumsegments": type_attribute("int32"),
            },
        )
        return summed, unique

    def adam(
        self,
        edges: Mapping[str, Edge],
        slots: Mapping[str, NewVariable],
        values: Edge,
        indices: Edge,
    ) -> None:
        """``AdamOptimizer._apply_sparse_shared``."""
        one = self._work.add(
            "Const",
            f"{self._scope}/one",
            attributes=constant_attributes(np.ones((), self._dtype)),
        )
        root = self._op("Sqrt", self._op("Sub", one, edges["beta2_power"]))
        rate = self._op(
            "RealDiv",
            self._op("Mul", edges["lr"], root),
            self._op("Sub", one, edges["beta1_power"]),
        )
        rest = self._op("Sub", one, edges["beta1"])
        first = self._moment(slots["m"], edges["beta1"], self._op("Mul", values, rest), indices)
        square = self._op(
            "Mul", self._op("Mul", values, values), self._op("Sub", one, edges["beta2"])
        )
        second = self._moment(slots["v"], edges["beta2"], square, indices)
        below = self._op("Add", self._op("Sqrt", second), edges["epsilon"])
        delta = self._op("RealDiv", self._op("Mul", rate, first), below)
        node, handle = self._update.node, self._update.handle
        controls = self._work.graph.view.controls[node]
        typed = type_attribute(self._dtype)
        if self._resource:
            op, how = "AssignSubVariableOp", {"dtype": typed}
        else:
            op, how = "AssignSub", {"T": typed}
        self._work.editor.change_op(node, op, [handle, delta], controls, how)

    def _moment(self, slot: NewVariable, beta: Edge, added: Edge, indices: Edge) -> Edge:
        """The moment after its decay and the rows' share."""
        work, typed = self._work, type_attribute(self._dtype)
        rows = type_attribute(self.index_type)
        decayed = self._op("Mul", slot.read, beta)
        if slot.is_resource:
            assign = work.add(
                "AssignVariableOp",
                f"{self._scope}/AssignVariableOp",
                [slot.handle, decayed],
                attributes={"dtype": typed},
            )
            scatter = work.add(
                "ResourceScatterAdd",
                f"{self._scope}/ResourceScatterAdd",
                [slot.handle, indices, added],
                controls=[assign.node],
                attributes={"dtype": typed, "Tindices": rows},
            )
            return work.add(
                "ReadVariableOp",
                f"{self._scope}/ReadVariableOp",
                [slot.handle],
                controls=[scatter.node],
                attributes={"dtype": typed},
            )
        assign = work.add(
            "Assign",
            f"{self._scope}/Assign",
            [slot.handle, decayed],
            attributes={"T": typed, "validate_shape": AttrValue(b=True)},
        )
        return work.add(
            "ScatterAdd",
            f"{self._scope}/ScatterAdd",
            [slot.handle, indices, added],
            controls=[assign.node],
            attributes={"T": typed, "Tindices": rows},
        )
