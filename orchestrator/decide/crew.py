"""Who is there, who has a state, and who would sit in the next group?

Rule: everything here follows from the run and changes nothing; several rules ask it.
"""

from __future__ import annotations

from orchestrator.decide import recovery, scaling
from orchestrator.decide.run import Run, Stage, Worker


def in_stage(run: Run, *stages: Stage) -> list[Worker]:
    """Workers in these stages, by identity."""
    return [
        run.workers[ident] for ident in sorted(run.workers) if run.workers[ident].stage in stages
    ]


def standbys(run: Run) -> list[Worker]:
    """Warm workers that stay, by identity."""
    return [worker for worker in in_stage(run, Stage.WARM) if not worker.leaving]


def goes_on_without_more(run: Run) -> bool:
    """Whether the members alone make a group that may train: then no worker without a rank can be
    the run's end.
    """
    staying = sum(1 for ident in run.members if not run.workers[ident].leaving)
    return (
        run.started
        and scaling.group_size(run.policy.sizes, run.target, True, staying, 0) is not None
    )


def stands_still(run: Run) -> bool:
    """Whether all members have stopped between two steps."""
    # From the last rank on: it's asked last, so mostly it's the one that is missing
    return all(run.workers[ident].held for ident in reversed(run.members))


def is_complete(run: Run) -> bool:
    """Whether all members of the generation are there, as far as each other: together they have all
    rows of divided tables at one step.
    """
    places = {run.workers[ident].place for ident in run.members}
    return run.members == run.seats and not run.pieced and len(places) == 1


def holders(run: Run) -> tuple[str, ...]:
    """Members, and former ones that were to be let go as soon as the generation after them had
    formed, which it hasn't.
    """
    members = frozenset(run.members)
    former = (
        ident
        for ident in sorted(run.workers)
        if run.workers[ident].stage is Stage.MEMBER and ident not in members
    )
    return (*run.members, *former)


def nobody_has_a_state(run: Run) -> bool:
    """Whether there is nothing that a last save could save."""
    return all(run.workers[ident].step is None for ident in holders(run))


def donor(run: Run) -> str | None:
    """Whose state goes on; None where nobody has one."""
    order = holders(run)
    places = {ident: run.workers[ident].place for ident in order}
    return recovery.donor(order, places, differing=run.divergence)


def may_form(run: Run, now_s: float) -> bool:
    """Whether a generation may be formed now, if there is a state to start it from."""
    waited = run.retry_s is None or now_s >= run.retry_s
    return waited and run.fruitless < recovery.FRUITLESS_LIMIT and next_seats(run) is not None


def next_seats(run: Run) -> tuple[str, ...] | None:
    """The next generation's workers by rank; None while there are too few."""
    warm = [worker.ident for worker in standbys(run)]
    staying = [ident for ident in run.members if not run.workers[ident].leaving]
    size = scaling.group_size(run.policy.sizes, run.target, run.started, len(staying), len(warm))
    if size is None:  # too few stay
        leaving = [
            ident for ident in run.members if ident not in staying and not run.workers[ident].spent
        ]
        # better to go on with one that is about to go than not at all
        staying = [*staying, *leaving]
        size = scaling.group_size(
            run.policy.sizes, run.target, run.started, len(staying), len(warm)
        )
    if size is None:
        return None
    queue = (
        warm
        if staying
        else scaling.in_turns(warm, {ident: run.workers[ident].node for ident in warm})
    )
    return scaling.seating(run.seats, staying, queue, size)
