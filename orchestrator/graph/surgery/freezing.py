"""How does a variable stop being trained (``--freeze``)?

Rule: whatever a step would write of the variable and of its optimizer slots is taken out, under the
same name and in the same place, so that what waited for it still waits; its gradient is then asked
for by nobody and isn't computed, and leaves the global norm that the others are clipped by.
"""

from __future__ import annotations

import numpy as np

from orchestrator.graph.gradients.training_writers import training_updates
from orchestrator.graph.graphdef.edit import constant_attributes
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.view import Edge
from orchestrator.graph.inference.roles import variable_roles
from orchestrator.graph.surgery.edits import RefusedEdit, UnderEdit, each_fits, few, matching
from orchestrator.graph.surgery.standstill import hold_still
from orchestrator.graph.surgery.updates import Update, read_updates
from orchestrator.graph.variables.global_step import find_step


def freeze_variables(work: UnderEdit, patterns: list[str]) -> None:
    """Freeze what the patterns fit. Raises RefusedEdit."""
    each_fits("--freeze", work.variables, patterns)
    frozen = matching(work.variables, patterns)
    graph, closure = work.graph, work.closure()
    step = find_step(graph, work.targets)
    if step is not None and step.variable in frozen:
        # A pattern such as * means the model; without its step a run wouldn't get on
        frozen.discard(step.variable)
    if step is not None and not frozen:
        raise RefusedEdit(
            f"--freeze {' '.join(patterns)} holds nothing but {step.variable}, which counts the steps",
            "Name variables of the model; --reset-step N sets the step",
            (step.variable,),
        )
    updates = read_updates(work)
    still = [one for one in updates if one.variable in frozen]
    if updates and len(still) == len(updates):
        raise RefusedEdit(
            f"--freeze {' '.join(patterns)} holds all {len(updates)} variables that are trained",
            "Leave one out",
            tuple(sorted(frozen)),
        )
    held = frozen | _slots(work, frozen)
    # An older copy of the train op, as a notebook leaves it, must not train them either
    trainable = {name for name, one in work.variables.items() if one.trainable}
    run = sorted(closure | set(training_updates(graph, trainable)))
    writers = [name for name in graph.writers(run) if held & set(graph.written_by(name))]
    for name in writers:
        others = set(graph.written_by(name)) - held
        if others:
            raise RefusedEdit(
                f"{name} ({graph.view.op(name)}) writes {few(sorted(others))} together with what is to be frozen",
                "Freeze all of them, or none",
                (name,),
            )
    normed = [node for one in still for node in _in_norm(graph, one, closure)]
    for name in writers:
        hold_still(work, name)
    for name in normed:
        dtype = work.graph.dtype(Edge(name, 0))
        zero = constant_attributes(np.zeros((), dtype))
        work.editor.change_op(name, "Const", (), work.graph.view.controls[name], zero)
    trained = sorted({one.variable for one in still})
    work.done.append(f"froze {few(trained or sorted(frozen))}")


def _slots(work: UnderEdit, frozen: set[str]) -> set[str]:
    """The optimizer's state of the frozen variables, not averages of them."""
    owned = {name for name, one in work.variables.items() if one.slot_of in frozen}
    if not owned:
        return set()
    step = find_step(work.graph, work.targets)
    roles = variable_roles(
        work.graph, work.variables.values(), step.variable if step is not None else None
    )
    return {name for name in owned if roles[name] == "optimizer"}


def _in_norm(graph: Graph, update: Update, closure: set[str]) -> list[str]:
    """The parts of a global norm that a gradient alone gives."""
    seen: set[Edge] = set()
    waiting = [update.gradient]
    while waiting:
        edge = waiting.pop()
        if edge in seen:
            continue
        seen.add(edge)
        if graph.gradient_scope(edge.node) is None and graph.view.op(edge.node) in (
            "Identity",
            "Mul",
        ):
            waiting += graph.view.data[edge.node]
    return [
        use.node
        for edge in seen
        for use in graph.view.uses[edge.node]
        if use.port == edge.port and graph.view.op(use.node) == "L2Loss" and use.node in closure
    ]
