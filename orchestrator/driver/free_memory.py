"""What may the workers of a run take of this machine's memory?

Rule: told only where the workers will be here; what a cluster's nodes have isn't known before they
are asked.
"""

from __future__ import annotations

import psutil

from orchestrator.config import RunConfig
from orchestrator.graph.variables.memory import FreeMemory


def free_memory(config: RunConfig) -> FreeMemory | None:
    """This machine's free memory, where the run would be here; None where a cluster's nodes would
    hold it.
    """
    if config.address is not None:
        return None
    processes = config.workers.largest + config.workers.standby
    return FreeMemory(host_bytes=int(psutil.virtual_memory().available), workers_per_node=processes)
