"""Who holds a run, as its lease says it?

Rule: what the next driver and people need to know of a holder, and no more: who it is, whether it
can still live, and how long it may be silent.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

LEASE_S = 30.0
"""How long others wait before they take a silent driver for dead: a busy store may answer in ten
seconds, and a longer one would leave a dead run standing.
"""


class Holder(BaseModel):
    """Who holds a run, as written into its lease."""

    model_config = ConfigDict(frozen=True)

    attempt: int = Field(ge=1)
    name: str
    """What people call it: user, host and process."""
    writer: str
    """Unique to this holder."""
    machine: str = ""
    """This boot of this machine (or container), so that nobody takes another machine's process
    number for its own.
    """
    pid: int = 0
    start_ticks: int = 0
    """When the process started, in ticks since its machine's boot: process numbers come back. 0:
    unknown.
    """
    lease_s: float = LEASE_S
    since: float = 0.0
    """Unix seconds by the holder's clock; shown to people, never compared."""
