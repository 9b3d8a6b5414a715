"""Who is there, who has a state, and who would sit in the next group?

Rule: everything here follows from the run and changes nothing; several rules ask it. What they ask at
each event is counted (``roster.Tally``): a thousand workers aren't looked through then.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from orchestrator.decide import recovery, scaling
from orchestrator.decide.roster import Stage, Worker
from orchestrator.decide.run import Run


def in_stage(run: Run, *stages: Stage) -> list[Worker]:
    """Workers in these stages, by identity."""
    return [worker for worker in run.workers.values() if worker.stage in stages]


def goes_on_without_more(run: Run) -> bool:
    """Whether the members alone make a group that may train: then no worker without a rank can be
    the run's end.
    """
    staying = len(run.members) - run.workers.tally.going
    return (
        run.started
        and scaling.group_size(run.policy.sizes, run.target, True, staying, 0) is not None
    )


def stands_still(run: Run) -> bool:
    """Whether all members have stopped between two steps."""
    return run.workers.tally.running == 0


def former(run: Run) -> Iterator[Worker]:
    """Members of an earlier generation, by identity: they're let go as soon as the one after them
    trains.
    """
    if run.workers.tally.former:
        yield from (
            worker
            for worker in run.workers.values()
            if worker.stage is Stage.MEMBER and worker.rank is None
        )


def holders(run: Run) -> Iterator[str]:
    """Whoever may have a state: members by rank, then former ones."""
    return chain(run.members, (worker.ident for worker in former(run)))


def nobody_has_a_state(run: Run) -> bool:
    """Whether there is nothing that a last save could save."""
    return all(run.workers[ident].step is None for ident in holders(run))


def donor(run: Run) -> str | None:
    """Whose state goes on; None where nobody has one."""
    order = tuple(holders(run))
    places = {ident: run.workers[ident].place for ident in order}
    return recovery.donor(order, places, differing=run.divergence)


def may_form(run: Run, now_s: float) -> bool:
    """Whether a generation may be formed now, if there is a state to start it from."""
    waited = run.retry_s is None or now_s >= run.retry_s
    return waited and run.fruitless < recovery.FRUITLESS_LIMIT and is_enough(run)


def is_enough(run: Run) -> bool:
    """Whether there are workers enough for the next generation."""
    return _size(run, leaving=False) is not None or _size(run, leaving=True) is not None


def _size(run: Run, *, leaving: bool) -> int | None:
    """The next generation's size; ``leaving``: with members that are about to go and aren't used
    up.
    """
    tally, policy = run.workers.tally, run.policy
    staying = len(run.members) - tally.going + (tally.usable if leaving else 0)
    return scaling.group_size(policy.sizes, run.target, run.started, staying, tally.standbys)


def next_seats(run: Run) -> tuple[str, ...]:
    """The next generation's workers by rank, where there are enough."""
    warm = [worker.ident for worker in in_stage(run, Stage.WARM) if not worker.leaving]
    members = [run.workers[ident] for ident in run.members]
    staying = [worker.ident for worker in members if not worker.leaving]
    size = _size(run, leaving=False)
    if size is None:
        # too few stay: better to go on with one that is about to go than not at all
        staying += [worker.ident for worker in members if worker.leaving and not worker.spent]
        size = _size(run, leaving=True)
    assert size is not None
    queue = (
        warm
        if staying
        else scaling.in_turns(warm, {ident: run.workers[ident].node for ident in warm})
    )
    return scaling.seating(run.seats, staying, queue, size)
