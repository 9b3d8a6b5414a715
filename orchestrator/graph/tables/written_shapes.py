"""What becomes of shapes that were written down beside nodes when a table gets another length?

Rule: they're hints, and TensorFlow checks them at import. A size that equals the old number of rows,
at a node that depends on what has changed, isn't known any more; all else stays.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.edit import Editor
from orchestrator.graph.graphdef.nodes import Graph

HINT = "_output_shapes"


def forget_rows(editor: Editor, graph: Graph, changed: Iterable[str], old: int) -> None:
    """Take the old number of rows out of the hints of whatever follows from ``changed``.

    Args:
        graph: whose edges tell what follows.
    """
    for name in sorted(graph.view.descendants(changed, control=False)):
        shapes = attribute(graph.view.nodes[name], HINT).list.shape
        if not any(dim.size == old for shape in shapes for dim in shape.dim):
            continue
        for shape in editor.node(name).attr[HINT].list.shape:
            for dim in shape.dim:
                dim.size = -1 if dim.size == old else dim.size
