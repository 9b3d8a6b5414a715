"""How long may a group step without ending a step before one of its members has hung?

Rule: who waits for peers, while no member computes, waits for nothing that comes: a few step times
are enough. Who is inside the session's run may be at a slow step that is healthy: it gets minutes,
counted from when it last used a processor. What was suspected of the same step before doubles the
bound, and a step that ended after a suspicion teaches how long a step may take, so that no step
can end its workers again and again.
"""

from __future__ import annotations

from orchestrator.decide import signs_of_life
from orchestrator.decide.doing import Doing
from orchestrator.decide.run import Run

HANG_FACTOR = 3.0
"""Usual step times without a step's end. A machine that does other things beside doubles a step's
time now and then; a hang that is found a step later costs that step and no more.
"""
LONGEST_FACTOR = 2.0
"""The longest step that ended well may come again, on a machine that is twice as busy then."""
SLOW_START_S = 120.0
"""A generation's first step warms up sessions and kernels; 25,000 nodes took 5.3 s on an idle
machine.
"""
COMPUTING_S = 120.0
"""A step that stands still inside the session's run, without using a processor, has hung then: an
evaluation, a shuffle buffer or a file that is read over the network took tens of seconds.
"""
WORKING_S = 3600.0
"""And one that goes on using a processor: a loop that never ends does so too."""


def hang_bound_s(run: Run, *, stepped: bool | None = None) -> float:
    """Seconds without a step after which a group has hung whose members all wait for each other.

    Args:
        stepped: whether the generation has finished a step yet, as the run says by default; before
            that only silence is a sign (``silence_bound_s``).
    """
    floor_s = run.policy.hang_floor_s
    if not (run.stepped if stepped is None else stepped) or run.step_time_s is None:
        bound_s = max(floor_s, SLOW_START_S)
    else:
        bound_s = max(floor_s, HANG_FACTOR * run.step_time_s, LONGEST_FACTOR * run.longest_s)
    # What a member says of itself is older in a large group, which says it less often
    late_s = signs_of_life.pulse_s(_most_workers(run)) - signs_of_life.PULSE_S
    return bound_s * 2.0**run.suspicions + late_s


def computing_bound_s(run: Run) -> float:
    """The same for a member inside the session's run that uses no processor."""
    return max(hang_bound_s(run), COMPUTING_S * 2.0**run.suspicions)


def silence_bound_s(run: Run) -> float:
    """Seconds without any sign of life after which a worker has hung, whatever it said that it was
    doing.
    """
    return max(run.policy.hang_floor_s, signs_of_life.silent_s(_most_workers(run)))


def _most_workers(run: Run) -> int:
    """So many as the run has, or may just have had: when most of a thousand are lost at once, the
    others have been asked to say less often that they live.
    """
    return max(len(run.workers), run.policy.sizes.largest + run.policy.sizes.standby)


def last_turn_s(run: Run) -> float:
    """When a member was last seen to do something else than before: while one came out of the
    session's run a moment ago, the others' words are older than what they do.
    """
    return max([run.moved_s, *(run.workers[ident].turned_s for ident in run.members)])


def computing(run: Run) -> list[str]:
    """The members that are inside the session's run."""
    return [ident for ident in run.members if run.workers[ident].doing is Doing.COMPUTING]


def may_go_on(run: Run, idents: list[str], since_s: float, now_s: float, slack_s: float) -> bool:
    """Whether some of these members, inside the session's run, may still be at a healthy step.

    Args:
        since_s: when the step began.
        slack_s: how much earlier the bound is looked at.
    """
    worked_s = max((run.workers[ident].worked_s for ident in idents), default=since_s)
    at_work = now_s - max(since_s, worked_s) <= computing_bound_s(run) - slack_s
    longest_s = max(computing_bound_s(run), WORKING_S * 2.0**run.suspicions)
    return bool(idents) and at_work and now_s - since_s <= longest_s - slack_s
