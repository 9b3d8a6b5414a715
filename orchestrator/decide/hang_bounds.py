"""After how long has a group, or a single worker, hung?

Rule: a group hangs when it may step and doesn't, for some times as long as its steps take; a worker
hangs when it says nothing at all. The user's floor (``hang_floor_s``) is the least for both.
"""

from __future__ import annotations

HANG_FACTOR = 3.0
"""Usual step times without a step's end. A machine that does other things beside doubles a step's
time now and then; a hang that is found a step later costs that step and no more.
"""
SLOW_START_S = 120.0
"""A generation's first step warms up sessions and kernels; 25,000 nodes took 5.3 s on an idle
machine.
"""
SILENT_S = 2.5
"""A worker sends a sign of life every half second, also while it steps."""


def hang_bound_s(step_time_s: float | None, floor_s: float, stepped: bool) -> float:
    """Seconds without a step after which a group that may step has hung.

    ``stepped`` tells whether the generation has finished a step yet; before that only silence is a
    sign (``SILENT_S``).
    """
    if not stepped or step_time_s is None:
        return max(floor_s, SLOW_START_S)
    return max(floor_s, HANG_FACTOR * step_time_s)


def silence_bound_s(floor_s: float) -> float:
    """Seconds without any sign of life after which a worker has hung, whatever it said that it was
    doing.
    """
    return max(floor_s, SILENT_S)
