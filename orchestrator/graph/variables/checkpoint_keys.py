"""What does the graph room need to know of a checkpoint?

Rule: names, types and shapes, as the store reads them from an index; never a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.graph.worker_graph import Shape


@dataclass(frozen=True)
class CheckpointTensor:
    """One tensor of a checkpoint: its NumPy type name and the shape of the whole (slices put
    together).
    """

    dtype: str
    shape: Shape


CheckpointKeys = Mapping[str, CheckpointTensor]
"""Key to tensor."""
