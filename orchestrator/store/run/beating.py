"""Does a holder's heart beat, as far as one look can tell?

Rule: yes where its last heartbeat is a moment old, by the store's clock and ours. What that leaves
open only a longer look can tell, by our own clock alone (``decide/holding``): a wrong clock lets
somebody look alive, and never dead.
"""

from __future__ import annotations

from orchestrator.store.run.lease import BEATS_PER_LEASE, Observed


def beats(observed: Observed, now: float) -> bool:
    """Whether the last heartbeat is no older than two of them take. One from the future tells
    nothing, since one of the two clocks is wrong.

    Args:
        now: unix seconds.
    """
    if observed.holder is None or observed.released or observed.dead or observed.beaten is None:
        return False
    return 0 <= now - observed.beaten <= 2 * observed.holder.lease_s / BEATS_PER_LEASE
