"""How does a graph get another optimizer (``--swap-optimizer``)?

Rule: each update becomes the new optimizer's, under its own name and with the gradient and the
learning rate that it had; slots are added beside the old ones, which stay as they are and which
nothing writes any more. What isn't an optimizer's own operation is refused by name.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tensorboard.compat.proto.attr_value_pb2 import AttrValue

from orchestrator.graph.graphdef.edit import constant_attributes, type_attribute
from orchestrator.graph.graphdef.view import Edge
from orchestrator.graph.surgery import rows
from orchestrator.graph.surgery.edits import RefusedEdit, UnderEdit
from orchestrator.graph.surgery.new_variables import NewVariable, add_to_saver, add_variable
from orchestrator.graph.surgery.optimizers import OPTIMIZERS, Optimizer, OptimizerName
from orchestrator.graph.surgery.standstill import hold_still
from orchestrator.graph.surgery.updates import Update, read_updates

TYPES = frozenset({"float16", "float32", "float64"})


def swap_optimizer(work: UnderEdit, name: OptimizerName) -> None:
    """Let the new optimizer update whatever is trained. Raises RefusedEdit."""
    new = OPTIMIZERS[name]
    seen: set[str] = set()
    count = 0
    for target in work.targets:
        updates = [one for one in read_updates(work, target) if one.node not in seen]
        seen |= {one.node for one in updates}
        others = [one for one in updates if not _is_already(one, new)]
        if others:
            count += len(others)
            _refuse(work, others, target, new)
            _Swap(work, new, target).swap(others)
    if not count:
        raise RefusedEdit(
            f"--swap-optimizer {name}: every variable that is trained has that optimizer already",
            "Leave it out; --reset-slots starts its slots anew",
            tuple(sorted(seen)),
        )
    work.done.append(f"swapped the optimizer of {count} variables for {new.title}")


def _is_already(update: Update, new: Optimizer) -> bool:
    plain = update.kind.removeprefix("Resource").removeprefix("Sparse")
    return plain in (new.dense, new.title) or (
        new.title == "GradientDescent" and plain.startswith("Scatter")
    )


def _refuse(work: UnderEdit, updates: Sequence[Update], target: str, new: Optimizer) -> None:
    for one in updates:
        shape = work.variables[one.variable].shape if one.variable in work.variables else None
        dtype = work.graph.dtype(one.gradient)
        why = ""
        if not one.is_known:
            why = f"{one.node} ({one.kind}) updates {one.variable}, and is no optimizer's operation whose gradient and rate can be told"
        elif one.rate is None:
            why = f"{one.node} ({one.kind}) takes no learning rate"
        elif shape is None or None in shape:
            why = f"{one.variable} has no fixed shape, so that its slots would have none"
        elif dtype not in TYPES:
            why = f"{one.variable} is {dtype}, for which {new.title} has no slots here"
        elif target == one.node and new.powers:
            why = f"{one.node} is itself what a step runs, so that nothing of {new.title} could follow it"
        if why:
            raise RefusedEdit(why, "Leave it out, or freeze the variable", (one.node,))


class _Swap:
    """The new optimizer of one target."""

    def __init__(self, work: UnderEdit, new: Optimizer, target: str) -> None:
        self._work, self._new, self._target = work, new, target
        self._scope = work.unique(new.title)
        self._constants: dict[str, Edge] = {}
        self._added: list[NewVariable] = []

    def swap(self, updates: Sequence[Update]) -> None:
        """Replace the updates."""
        work, new = self._work, self._new
        for name, value in new.constants:
            attributes = constant_attributes(np.asarray(value, np.float32))
            self._constants[name] = work.add(
                "Const", f"{self._scope}/{name}", attributes=attributes
            )
        powers = self._powers(updates[0]) if new.powers else {}
        self._retire({name for one in updates for name in (*one.powers, *one.moments)})
        for one in updates:
            self._one(one, powers)
        self._follow(powers, [one.node for one in updates])
        add_to_saver(work, self._added)

    def _retire(self, state: set[str]) -> None:
        """What the old optimizer keeps in operations of its own stands still from now on."""
        graph = self._work.graph
        for name in graph.writers(sorted(self._work.closure(self._target))):
            if state and set(graph.written_by(name)) <= state and graph.written_by(name):
                hold_still(self._work, name)

    def _powers(self, first: Update) -> dict[str, NewVariable]:
        work, beside = self._work, self._work.variables[first.variable]
        found = {}
        values = dict(self._new.constants)
        for name, factor in self._new.powers:
            found[name] = add_variable(
                *(work, name, beside),
                initial=values[factor],
                shape=(),
                dtype="float32",
                slot=False,
            )
        self._added += found.values()
        return found

    def _one(self, update: Update, powers: dict[str, NewVariable]) -> None:
        work, new = self._work, self._new
        variable = work.variables[update.variable]
        dtype = work.graph.dtype(update.gradient)
        scope = f"{self._scope}/update_{update.variable}"
        shape = tuple(size or 0 for size in variable.shape or ())
        slots = {
            name: add_variable(
                *(work, f"{variable.name}/{new.title}", variable),
                initial=initial,
                shape=shape,
                dtype=dtype,
                slot=True,
            )
            for name, initial in new.slots
        }
        self._added += slots.values()
        assert update.rate is not None, "refused before"
        edges = {"var": update.handle, "lr": update.rate, "grad": update.gradient}
        edges |= {name: one.handle for name, one in slots.items()}
        settings = {name: self._typed(edge, dtype, scope) for name, edge in self._constants.items()}
        settings |= {name: self._typed(one.read, dtype, scope) for name, one in powers.items()}
        edges |= settings
        if update.indices is None:
            self._dense(update, edges, dtype)
        else:
            rows.apply(work, update, new, edges, slots, dtype, scope)

    def _dense(self, update: Update, edges: dict[str, Edge], dtype: str) -> None:
        new, resource = self._new, update.kind.startswith("Resource")
        attributes = {"T": type_attribute(dtype)} | {
            name: AttrValue(b=value) for name, value in new.flags
        }
        self._work.editor.change_op(
            update.node,
            ("Resource" if resource else "") + new.dense,
            [edges[name] for name in new.inputs],
            self._work.graph.view.controls[update.node],
            attributes,
        )

    def _typed(self, edge: Edge, dtype: str, scope: str) -> Edge:
        if dtype == "float32":
            return edge
        types = {"SrcT": type_attribute("float32"), "DstT": type_attribute(dtype)}
        return self._work.add("Cast", f"{scope}/Cast", [edge], attributes=types)

    def _follow(self, powers: dict[str, NewVariable], updates: list[str]) -> None:
        """After the updates each power is multiplied with its constant, before the step is done."""
        work, typed = self._work, type_attribute("float32")
        assigned = []
        for name, factor in self._new.powers:
            power = powers[name]
            read = power.read
            if power.is_resource:
                read = work.add(
                    "ReadVariableOp",
                    f"{self._scope}/ReadVariableOp",
                    [power.handle],
                    controls=updates,
                    attributes={"dtype": typed},
                )
            product = work.add(
                "Mul",
                f"{self._scope}/mul",
                [read, self._constants[factor]],
                controls=updates,
                attributes={"T": typed},
            )
            if power.is_resource:
                op, how = "AssignVariableOp", {"dtype": typed}
            else:
                op = "Assign"
                how = {"T": typed, "validate_shape": AttrValue(b=True)}
            assigned.append(
                work.add(op, f"{self._scope}/Assign", [power.handle, product], attributes=how).node
            )
        if assigned:
            work.editor.add_controls(self._target, assigned)
