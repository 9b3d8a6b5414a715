"""How does an operation that writes a variable stop doing so?

Rule: it stays under its name and in its place, so that what waited for it still waits. Where
something takes what it gives, it gives the variable as it is, or the edit is refused.
"""

from __future__ import annotations

from orchestrator.graph.graphdef.edit import type_attribute
from orchestrator.graph.graphdef.view import Edge
from orchestrator.graph.surgery.edits import RefusedEdit, UnderEdit


def hold_still(work: UnderEdit, name: str) -> None:
    """Make a writer do nothing. Raises RefusedEdit: something takes what it gives."""
    graph = work.graph
    node, definition = graph.view.nodes[name], graph.definition(name)
    outputs = list(definition.output_arg) if definition is not None else []
    controls = graph.view.controls[name]
    if not outputs or not graph.view.uses[name]:
        work.editor.change_op(name, "NoOp", (), controls, {})
        return
    if len(outputs) == 1 and outputs[0].is_ref:
        variable = graph.view.data[name][0]
        dtype = type_attribute(graph.dtype(Edge(name, 0)))
        work.editor.change_op(name, "RefIdentity", [variable], controls, {"T": dtype})
        return
    taker = graph.view.uses[name][0].node
    raise RefusedEdit(
        f"{name} ({node.op}) can't be taken out: {taker} takes what it gives",
        "Leave its variable out",
        (name, taker),
    )
