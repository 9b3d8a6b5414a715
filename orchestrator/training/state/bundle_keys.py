"""Under which key does a checkpoint of ours hold a variable?

Rule: the source's saver decides for what it holds; everything else goes by its own name, and never
under a key that means something else.
"""

from __future__ import annotations

from orchestrator.graph.worker_graph import WorkerGraph


def checkpoint_keys(graph: WorkerGraph) -> dict[str, str]:
    """Variable name to the key under which a checkpoint of ours holds it.

    The source's saver decides. Other variables go by their name, unless that saver uses the name
    for something else (an ``ExponentialMovingAverage`` restores averages under the names of the
    variables).
    """
    taken = {variable.key for variable in graph.variables if variable.key} | {
        entry.key for entry in graph.saver_entries
    }
    return {
        variable.name: variable.key
        or (variable.name if variable.name not in taken else f"tfresume/variable/{variable.name}")
        for variable in graph.variables
    }
