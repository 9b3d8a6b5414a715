"""What do all ranks of a group hold alike, so that any of them could write it?

Rule: every variable but the rows of divided tables and what is local to a rank. What has no known
shape is left to the rank that writes whatever nobody else does; texts count nothing.
"""

from __future__ import annotations

from orchestrator.graph.variables.memory import variable_bytes
from orchestrator.graph.worker_graph import WorkerGraph


def alike_sizes(graph: WorkerGraph) -> dict[str, int]:
    """Bytes by name of variable."""
    divided = graph.tables.members
    sizes = {
        variable.name: variable_bytes(variable)
        for variable in graph.variables
        if not variable.local and variable.name not in divided
    }
    return {name: size for name, size in sizes.items() if size is not None}
