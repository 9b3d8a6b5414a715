"""What has to be initialised besides restored variables?

Rule: tables that training or its pipelines look things up in, and local variables; never what
nobody needs, since its file may be gone.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.graph.gradients.training_writers import saver_nodes
from orchestrator.graph.graphdef import op_traits
from orchestrator.graph.graphdef.nodes import ALIASES, Graph
from orchestrator.graph.graphdef.view import parse_tensor, resolve_alias
from orchestrator.graph.worker_graph import Variable

COLLECTION = "table_initializer"


def table_initializers(graph: Graph, needing: Iterable[str]) -> tuple[str, ...]:
    """The operations that fill the tables among the ancestors of ``needing``."""
    closure = graph.view.ancestors(needing)
    skipped = saver_nodes(graph) | closure
    listed = _collection(graph)
    found: dict[str, None] = {}
    for name in graph.view.nodes:
        definition = graph.definition(name)
        if (
            definition is None
            or not op_traits.writes_table(definition)
            or (name in skipped and name not in listed)
        ):
            continue
        if resolve_alias(graph.view, graph.view.data[name][0], ALIASES).node in closure:
            found[name] = None
    return tuple(found)


def _collection(graph: Graph) -> set[str]:
    if COLLECTION not in graph.meta.collection_def:
        return set()
    return {
        parse_tensor(name).node for name in graph.meta.collection_def[COLLECTION].node_list.value
    }


def local_initializers(variables: Iterable[Variable]) -> tuple[str, ...]:
    """The operations that initialise local variables."""
    return tuple(
        variable.initializer for variable in variables if variable.local and variable.initializer
    )
