"""How often does a worker say that it lives, and how long may it be silent?

Rule: a driver bears so many messages a second, however many workers it has. So each of a thousand
says less often that it lives than each of three, and may be silent for as much longer. What has
happened is said at once, by any number.
"""

from __future__ import annotations

PULSE_S = 0.5
"""A sign of life that costs nothing to speak of."""
MOST_PER_S = 400
"""Signs of life of all workers in a second. A message of Ray's takes 0.7 to 1 ms of a core from the
driver's process, and others than these have to be sent, too.
"""
MISSED = 5
"""So many in a row are a hang: some are late on a machine that does other things beside."""


def pulse_s(workers: int) -> float:
    """Seconds between two signs of life of one of so many workers."""
    return max(PULSE_S, workers / MOST_PER_S)


def silent_s(workers: int) -> float:
    """Seconds without any after which one of so many has hung."""
    return MISSED * pulse_s(workers)
