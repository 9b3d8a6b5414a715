"""How do the workers of a run exchange what they computed?

Rule: as asked for; ``auto`` is the exchange in host memory everywhere, since ``nccl`` hasn't been
run on two GPUs.
"""

from __future__ import annotations

from orchestrator.config import RunConfig
from orchestrator.training.engine.options import Exchange


def exchange_of(config: RunConfig) -> Exchange:
    """The exchange of this run."""
    return "host" if config.exchange == "auto" else config.exchange


def recovers_in_place(exchange: Exchange) -> bool:
    """Whether processes whose group broke can be formed into the next one.

    Not with ``nccl``: a peer lost inside a kernel may leave the device stuck, and what comes of it
    hasn't been run on two GPUs yet.
    """
    return exchange != "nccl"
