"""Up to which step may the workers run on without a word?

Rule: the end of what is granted only ever grows within a generation. It lies about a second of steps
ahead of the fastest member, never beyond a limit (the last step, or an agreed stop), and it is
renewed when half of it is used up, so that a worker at full speed never waits for it. It's both a
step and a position, and whichever comes first counts: the step is what the graph's own counter
says, which may leap, and may stand still for as long as it likes.
"""

from __future__ import annotations

AHEAD_S = 1.0
"""Half of it is what a renewed grant may take to reach the workers, much for a call of Ray. A
longer one would put off every save, stop and change of size by as much, since a grant is never
shortened.
"""
AHEAD_OF_NEWCOMER_S = 0.4
"""The same while the group lacks a worker that is on its way: it's formed anew at the first boundary
after that one is warm. Not for always: each grant is a message to every member.
"""
MOST_AHEAD = 20_000
"""The steps of ``AHEAD_S`` at 50 µs each. A run of the smallest graph takes longer, so a shorter
step time was measured wrong, and would grant without end.
"""
MOST_PER_S = 500
"""Grants to all members in a second. A call of Ray takes half a millisecond of the driver's process,
and signs of life have to be heard beside.
"""
FIRST_GRANT = 2
"""Steps of a generation's first grant: how long a step takes isn't known yet."""


def ahead_s(world_size: int, *, lacking: bool = False) -> float:
    """How many seconds of steps a grant to so many members reaches beyond the present: more among
    many, to whom it can't be sent as often.

    Args:
        lacking: a worker is on its way for which the group will be formed anew.
    """
    return max(AHEAD_OF_NEWCOMER_S if lacking else AHEAD_S, 2 * world_size / MOST_PER_S)


def ahead(step_time_s: float | None, ahead_s: float = AHEAD_S) -> int:
    """How many steps a grant may reach beyond the present."""
    if step_time_s is None:
        return FIRST_GRANT
    return max(1, min(MOST_AHEAD, round(ahead_s / max(step_time_s, 1e-6))))


def next_end(
    end: int,
    fastest: int,
    step_time_s: float | None,
    limit: int | None,
    *,
    each: int = 1,
    ahead_s: float = AHEAD_S,
) -> int:
    """The end to grant now; ``end`` itself where nothing has to be granted.

    Args:
        limit: not beyond this; None where there is no limit.
        each: how far one step leads.
        ahead_s: seconds of steps that the grant reaches beyond the present.
    """
    reach = ahead(step_time_s, ahead_s) * each
    if end - fastest > reach // 2:
        return end
    beyond = fastest + reach
    return max(end, beyond if limit is None else min(limit, beyond))


def steps_within(seconds: float, step_time_s: float | None) -> int:
    """How many steps take so long; as many as seconds where nothing is known."""
    return max(1, round(seconds / max(step_time_s or 1.0, 1e-6)))
