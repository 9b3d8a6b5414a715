"""Which kind of group does a graph get?

Rule: one batch a step, or a graph that can't be cut, is one worker's own; else the exchange that
the run's options name. A graph whose tables are divided always has its rows fed, by that of the
host.
"""

from __future__ import annotations

import threading
from typing import Any

from orchestrator.errors import GraphRefused
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.step.groups import Alone, Group
from orchestrator.training.step.stepping import StepRunner


def open_group(
    graph: WorkerGraph,
    imported: Any,
    options: TrainingOptions,
    runner: StepRunner,
    secret: bytes,
    writing: threading.RLock,
) -> Group:
    """The kind of group that the options ask for.

    Args:
        runner: made before the graph is cut, since it asks what each target computes.
        secret: what peers prove to each other.
        writing: held while variables are written or read as a whole.

    Raises:
        GraphRefused: more than one batch a step, and the graph can't be cut; or tables are divided
            and the options name an exchange that moves no rows.
    """
    if graph.group_refused or (options.batches_per_step == 1 and not graph.tables):
        return Alone(imported, options, runner, writing, graph.group_refused)
    if options.exchange == "nccl" and graph.tables:
        raise GraphRefused(
            "rows of tables that are divided among workers aren't exchanged by nccl",
            remedy="Use --exchange host",
        )
    if options.exchange == "nccl":
        from orchestrator.training.nccl.group import NcclGroup

        return NcclGroup(graph, imported, options, runner, secret, writing)
    from orchestrator.training.host.host_group import HostGroup

    return HostGroup(graph, imported, options, runner, secret, writing)
