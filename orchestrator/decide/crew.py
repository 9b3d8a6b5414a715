"""Who is there, who has a state, and who would sit in the next group?

Rule: everything here follows from the run and changes nothing; several rules ask it. What they ask at
each event is counted (``roster.Tally``): a thousand workers aren't looked through then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from orchestrator.decide import recovery, row_moves, scaling
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
    """Whether all members of the generation are there, as far as each other and each with the rows
    of its rank: together they have all rows of divided tables at one step.
    """
    places = {run.workers[ident].place for ident in run.members}
    in_place = all(
        run.workers[ident].share in (None, (rank, run.world_size))
        for rank, ident in enumerate(run.members)
    )
    whole = run.members == run.seats and not run.pieced and not run.catches_up
    return whole and in_place and len(places) == 1


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


@dataclass(frozen=True)
class Formation:
    """A generation that goes on from a state that somebody has.

    Attributes:
        donor: whose state goes on.
        states: by rank, where each gets it from.
        rows: by rank, which rows of divided tables it takes from whom; None where each has those of
            its rank, or is to keep what it has.
        catches_up: it takes no step: members who lack a run take its result, so that what they hold
            can be moved then.
    """

    donor: str
    seats: tuple[str, ...]
    states: tuple[StateFrom, ...]
    rows: tuple[tuple[row_moves.RowsFrom, ...], ...] | None = None
    catches_up: bool = False


def formation(run: Run) -> Formation | None:
    """The generation that can be formed of those who are there, where there are enough; None where
    nobody has a state, or where tables are divided and some of their rows are nobody's any more.
    """
    chosen = _furthest(run)
    if chosen is None:
        return None
    seats = next_seats(run)
    states = states_from(run, seats, chosen)
    if not run.policy.saving.in_parts or _rows_stay(run, seats, states):
        return Formation(chosen, seats, tuple(states))
    if run.divergence:
        return None  # only the donor's state counts, and it hasn't all rows
    return _with_rows(run, chosen, seats, states) or _catching_up(run, chosen, seats)


def forms_to_save(run: Run) -> bool:
    """Whether a run that ends can have its state saved, if it forms a group of those who have it first:
    all rows of divided tables, or what only a member of the generation before has.
    """
    if any(run.workers[ident].step is not None for ident in run.members):
        lacking = run.policy.saving.in_parts and not is_complete(run)
    else:
        lacking = not nobody_has_a_state(run)
    able = lacking and run.fruitless < recovery.FRUITLESS_LIMIT and is_enough(run)
    return able and not run.rolling_back and formation(run) is not None


def _furthest(run: Run) -> str | None:
    order = tuple(holders(run))
    places = {ident: run.workers[ident].place for ident in order}
    return recovery.donor(order, places, differing=run.divergence)


def donor(run: Run) -> str | None:
    """Whose state goes on, as far as that's known before there are enough workers; see
    ``formation``.
    """
    if not is_enough(run):
        return _furthest(run)
    found = formation(run)
    return None if found is None else found.donor


def why_none_goes_on(run: Run) -> str:
    """Why a checkpoint has to be read."""
    if not run.policy.saving.in_parts or nobody_has_a_state(run):
        return "no living worker has the state"
    return "no living worker has some rows of the tables: each worker reads its own from the newest checkpoint"


def _rows_stay(run: Run, seats: Sequence[str], states: Sequence[StateFrom]) -> bool:
    """Whether each of the next group has the rows of its rank already, or can take the one run that
    it lacks.
    """
    return all(
        run.workers[ident].share == (rank, len(seats))
        and state_from in (StateFrom.OWN, StateFrom.RESULT)
        for rank, (ident, state_from) in enumerate(zip(seats, states, strict=True))
    )


def _with_rows(
    run: Run, chosen: str, seats: tuple[str, ...], states: Sequence[StateFrom]
) -> Formation | None:
    """The generation whose members take the rows that they lack from those who are as far as
    ``chosen``.
    """
    have = {
        ident: share
        for ident in holders(run)
        if _alike(run.workers[ident], run.workers[chosen])
        and (share := run.workers[ident].share) is not None
    }
    rows = row_moves.moves(have, seats, run.policy.table_copies)
    if rows is None:
        return None
    # Who lacks a run takes all that it needs: its own rows are those before that run
    given = tuple(
        StateFrom.DONOR if state_from is StateFrom.RESULT else state_from for state_from in states
    )
    return Formation(chosen, seats, given, rows)


def _catching_up(run: Run, chosen: str, seats: Sequence[str]) -> Formation | None:
    """The generation after which enough are as far as ``chosen`` for ``seats`` to have all rows."""
    states = states_from(run, run.members, chosen)
    have = {
        ident: share
        for ident, state_from in zip(run.members, states, strict=True)
        if state_from in (StateFrom.OWN, StateFrom.RESULT)
        and (share := run.workers[ident].share) is not None
    }
    if StateFrom.RESULT not in states or chosen not in have:
        return None
    if row_moves.moves(have, seats, run.policy.table_copies) is None:
        return None
    return Formation(chosen, run.members, tuple(states), catches_up=True)


def states_from(run: Run, seats: Sequence[str], chosen: str) -> list[StateFrom]:
    """Where the state of each of the next group comes from. ``chosen``: whose state goes on."""
    best = run.workers[chosen]
    # The result that led to where the chosen one stands is given by who stands there, too
    given = any(run.workers[one].gives and _alike(run.workers[one], best) for one in seats)
    return [_state_from(run, run.workers[ident], best, given=given) for ident in seats]


def _state_from(run: Run, worker: Worker, best: Worker, *, given: bool) -> StateFrom:
    if worker.ident == best.ident:
        return StateFrom.OWN
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
    """Whether there are workers enough for the next generation, with those that are about to go."""
    return _size(run, leaving=True) is not None


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
    return scaling.seating(_seats_before(run), staying, queue, size)


def _seats_before(run: Run) -> tuple[str, ...]:
    """Workers by the rank that they had. Who only caught up comes back to the rank whose rows it
    has.
    """
    shares = [run.workers[ident].share for ident in run.members]
    ranks = {share[0]: ident for ident, share in zip(run.members, shares, strict=True) if share}
    sizes = {share[1] for share in shares if share}
    if not run.catches_up or len(sizes) != 1:
        return run.seats
    placed = tuple(ranks.get(rank, "") for rank in range(max(sizes)))
    return (*placed, *(ident for ident in run.members if ident not in placed))
