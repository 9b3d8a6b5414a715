"""Who holds a run's output, and may this driver take it?

Rule: a holder is alive as long as its heartbeat *changes* while we look, by our own monotonic
clock; its timestamps are never compared. A holder that has released its lease, or whose process is
provably gone from this very machine, needs no waiting.

::

    free ─────────────► TAKE
    released / dead ──► TAKE
    held ──heartbeat changes──────────────► REFUSE (names the holder)
      └───unchanged for lease_s (our clock)─► TAKE
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Hold(Enum):
    """What to do about the newest lease."""

    TAKE = "take"
    WAIT = "wait"
    REFUSE = "refuse"


@dataclass(frozen=True)
class Sight:
    """The newest lease as we see it.

    Attributes:
        number: the attempt; 0 where there is no lease.
        released: its holder gave it up.
        dead: its holder was a process of this machine and runs no more.
        beat: the heartbeat's content; empty before the first.
        lease_s: how long its holder promised to be silent at most.
    """

    number: int = 0
    released: bool = False
    dead: bool = False
    beat: bytes = b""
    lease_s: float = 30.0


@dataclass(frozen=True)
class Watch:
    """What we have seen so far: this sight, unchanged since ``since_s`` of our own monotonic clock."""

    sight: Sight
    since_s: float


def look(watch: Watch | None, sight: Sight, now_s: float) -> tuple[Hold, Watch]:
    """What to do after one more look.

    Args:
        watch: what earlier looks gave, None for the first.
        now_s: our monotonic clock when this look began.
    """
    if sight.number == 0 or sight.released or sight.dead:
        return Hold.TAKE, Watch(sight, now_s)
    if watch is None or watch.sight.number != sight.number:
        # A new holder while we waited is as alive as one can be, but a first look at an old one
        # tells nothing yet
        return (Hold.WAIT if watch is None else Hold.REFUSE), Watch(sight, now_s)
    if watch.sight.beat != sight.beat:
        return Hold.REFUSE, Watch(sight, now_s)
    return (Hold.TAKE if now_s - watch.since_s >= sight.lease_s else Hold.WAIT), watch


def fresh(last_beat_s: float, lease_s: float, now_s: float) -> bool:
    """Whether a holder may still believe in its own lease: its last heartbeat that the store
    confirmed is young enough.
    """
    return now_s - last_beat_s < lease_s
