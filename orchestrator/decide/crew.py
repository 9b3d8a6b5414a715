"""Who is there, who has a state, and who would sit in the next group?

Rule: everything here follows from the run and changes nothing; several rules ask it.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.decide import recovery, scaling
from orchestrator.decide.actions import StateFrom
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
    """Whose state goes on; None where nobody has one, or where tables are divided and it isn't each
    member's own that goes on: nobody has another's rows.
    """
    order = holders(run)
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
    seats = next_seats(run)
    if seats is None:
        return True  # nothing is formed yet
    return all(
        run.workers[ident].share == (rank, len(seats))
        and state_from(run, seats, ident, chosen) in (StateFrom.OWN, StateFrom.RESULT)
        for rank, ident in enumerate(seats)
    )


def state_from(run: Run, seats: Sequence[str], ident: str, chosen: str | None) -> StateFrom:
    """Where the state of one of the next group comes from.

    Args:
        chosen: whose state goes on; None where it's a checkpoint's.
    """
    if chosen is None:
        return StateFrom.CHECKPOINT
    worker, best = run.workers[ident], run.workers[chosen]
    if ident == chosen:
        return StateFrom.OWN if worker.stage is Stage.MEMBER else StateFrom.DONOR
    # After a divergence only the donor's state counts, however far another one has come
    if worker.stage is not Stage.MEMBER or worker.step is None or run.divergence:
        return StateFrom.DONOR
    if _alike(worker, best):
        return StateFrom.OWN
    # Every run needs all ranks, so who has computed one that others have finished lacks that one
    # alone; it's given by who stands where the chosen one stands
    near = worker.position in (best.position, best.position - run.batches_taken)
    if not (worker.takes and near):
        return StateFrom.DONOR
    given = any(run.workers[one].gives and _alike(run.workers[one], best) for one in seats)
    return StateFrom.RESULT if given else StateFrom.DONOR


def _alike(worker: Worker, other: Worker) -> bool:
    return worker.place is not None and worker.place == other.place


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
