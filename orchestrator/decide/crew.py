"""Who is there, who has a state, and who would sit in the next group?

Rule: everything here follows from the run and changes nothing; several rules ask it. What they ask at
each event is counted (``roster.Tally``): a thousand workers aren't looked through then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from orchestrator.decide import recovery, scaling
from orchestrator.decide.actions import StateFrom
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


def is_complete(run: Run) -> bool:
    """Whether all members of the generation are there, as far as each other: together they have all
    rows of divided tables at one step.
    """
    places = {run.workers[ident].place for ident in run.members}
    return run.members == run.seats and not run.pieced and len(places) == 1


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
    """Whose state goes on; None where nobody has one, or where tables are divided and it isn't each
    member's own that goes on: nobody has another's rows.
    """
    order = tuple(holders(run))
    places = {ident: run.workers[ident].place for ident in order}
    chosen = recovery.donor(order, places, differing=run.divergence)
    if chosen is None or not run.policy.saving.in_parts or rows_stay(run, chosen):
        return chosen
    return None


def why_none_goes_on(run: Run) -> str:
    """Why a checkpoint has to be read."""
    if not run.policy.saving.in_parts or nobody_has_a_state(run):
        return "no living worker has the state"
    return "the tables' rows are divided anew: each worker reads its own from the newest checkpoint"


def rows_stay(run: Run, chosen: str) -> bool:
    """Whether each of the next group has the rows of its rank already, as far as ``chosen``, or can
    take the one run that it lacks.
    """
    if not is_enough(run):
        return True  # nothing is formed yet
    seats = next_seats(run)
    places = states_from(run, seats, chosen)
    return all(
        run.workers[ident].share == (rank, len(seats))
        and state_from in (StateFrom.OWN, StateFrom.RESULT)
        for rank, (ident, state_from) in enumerate(zip(seats, places, strict=True))
    )


def states_from(run: Run, seats: Sequence[str], chosen: str | None) -> list[StateFrom]:
    """Where the state of each of the next group comes from.

    Args:
        chosen: whose state goes on; None where it's a checkpoint's.
    """
    if chosen is None:
        return [StateFrom.CHECKPOINT] * len(seats)
    best = run.workers[chosen]
    # The result that led to where the chosen one stands is given by who stands there, too
    given = any(run.workers[one].gives and _alike(run.workers[one], best) for one in seats)
    return [_state_from(run, run.workers[ident], best, given=given) for ident in seats]


def _state_from(run: Run, worker: Worker, best: Worker, *, given: bool) -> StateFrom:
    if worker.ident == best.ident:
        return StateFrom.OWN if worker.stage is Stage.MEMBER else StateFrom.DONOR
    # After a divergence only the donor's state counts, however far another one has come
    if worker.stage is not Stage.MEMBER or worker.step is None or run.divergence:
        return StateFrom.DONOR
    if _alike(worker, best):
        return StateFrom.OWN
    # Every run needs all ranks, so who has computed one that others have finished lacks that one
    # alone
    near = worker.position in (best.position, best.position - run.batches_taken)
    return StateFrom.RESULT if given and worker.takes and near else StateFrom.DONOR


def _alike(worker: Worker, other: Worker) -> bool:
    return worker.place is not None and worker.place == other.place


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
