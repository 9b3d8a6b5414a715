"""Who forms the next generation, from whose state?

Rule: a group is formed only when every living member of the last one has stopped between two steps
(``Held``) or is gone. The state with the highest step goes on; a checkpoint is read only if nobody
has a state. Who is only one run behind takes that run's result, and not the whole state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.decide import ending, membership, recovery, saves, scaling, searching
from orchestrator.decide.actions import Form, Quiesce, Seat, StateFrom
from orchestrator.decide.events import Held
from orchestrator.decide.run import Phase, Run, Stage, Worker
from orchestrator.decide.turn import Turn
from orchestrator.journal.group_events import (
    Gathering,
    GenerationFormed,
    ProcessesUsedUp,
    WaitingForWorkers,
)


def gather(turn: Turn, reason: str) -> None:
    """Stop the members at their next step boundary; go on to ``settle`` when all have."""
    if turn.run.phase is Phase.ENDED:
        return
    if turn.run.phase not in (Phase.GATHERING, Phase.WAITING):
        _use_up(turn)
        turn.enter(Phase.GATHERING)
        turn.note(Gathering(reason=reason, generation=turn.run.generation, step=turn.run.step))
        running = tuple(ident for ident in turn.run.members if not turn.run.workers[ident].held)
        if running:
            turn.act(
                Quiesce(turn.run.generation, running, urgent=turn.run.step < turn.run.lease_end)
            )
    settle(turn)


def _use_up(turn: Turn) -> None:
    """A group that has trained breaks: where processes can't be formed anew in place, its members
    only hand their state on.

    A planned re-form at a boundary breaks nothing: nobody is inside a kernel then.
    """
    run = turn.run
    if (
        run.policy.in_place
        or run.phase is not Phase.TRAINING
        or (run.incident is None and run.step >= run.lease_end)
    ):
        return
    turn.workers(
        {ident: replace(run.workers[ident], spent=True, leaving=True) for ident in run.members}
    )
    turn.note(
        ProcessesUsedUp(
            workers=tuple(run.members),
            reason="a group that breaks isn't formed again in its processes",
        )
    )


def on_held(turn: Turn, event: Held) -> None:
    """A member has stopped."""
    run = turn.run
    if event.worker not in run.members or event.generation != run.workers[event.worker].generation:
        return
    step = None if run.workers[event.worker].tainted else event.step
    turn.worker(
        event.worker,
        held=True,
        joined=False,
        step=step,
        position=event.position,
        address=event.address,
        heard_s=turn.now_s,
        size_bytes=event.size_bytes,
        runs=event.runs,
        gives=event.gives,
        takes=event.takes,
    )
    turn.set(highest=max(run.highest, step or 0))
    if run.phase in (Phase.TRAINING, Phase.FORMING):
        if event.why:
            turn.set(last_cause=event.why)
            membership.open_incident(turn, "peer lost", None, None, event.why)
        gather(turn, event.why or "a member stopped")
    elif run.phase in (Phase.GATHERING, Phase.WAITING):
        settle(turn)


def settle(turn: Turn) -> None:
    """If all living members have stopped: end the run, form the next generation, or wait for what
    is missing.
    """
    run = turn.run
    if run.phase not in (Phase.GATHERING, Phase.WAITING):
        return
    if run.ending is not None and nobody_has_a_state(run):
        ending.finish(turn)  # however long some of them would still fetch a checkpoint
        return
    if not all(run.workers[ident].held for ident in run.members):
        return
    if run.ending is not None:
        ending.end_gathered(turn)
        return
    if run.rolling_back:
        searching.roll_back(turn)
        return
    seats = _seats(turn, run)
    if seats is None:
        if run.phase is not Phase.WAITING:
            turn.note(
                WaitingForWorkers(
                    reason=f"too few workers: {_counts(turn)}", longest_s=run.policy.wait_s
                )
            )
            turn.enter(Phase.WAITING)
        membership.staff(turn)
    elif run.fruitless >= recovery.FRUITLESS_LIMIT:
        membership.give_up(
            turn, f"the group was formed {run.fruitless} times in a row without finishing a step"
        )
        settle(turn)
    elif run.retry_s is None or turn.now_s >= run.retry_s:
        _go_on(turn, seats)


def _go_on(turn: Turn, seats: tuple[str, ...]) -> None:
    run = turn.run
    holders = _holders(run)
    chosen = recovery.donor(
        holders, {ident: run.workers[ident].place for ident in holders}, differing=run.divergence
    )
    if chosen is None and run.origin is None:
        searching.find(turn, "no living worker has the state")
    else:
        _form(turn, seats, chosen)


def nobody_has_a_state(run: Run) -> bool:
    """Whether there is nothing that a last save could save."""
    return all(run.workers[ident].step is None for ident in _holders(run))


def _holders(run: Run) -> tuple[str, ...]:
    """Members, and former ones that were to be let go as soon as the generation after them had
    formed, which it hasn't.
    """
    former = (
        ident
        for ident in sorted(run.workers)
        if run.workers[ident].stage is Stage.MEMBER and ident not in run.members
    )
    return (*run.members, *former)


def _counts(turn: Turn) -> str:
    run = turn.run
    return f"{len(run.members)} with a rank, {len(turn.alive(Stage.WARM))} warm, {run.target} wanted, {run.policy.sizes.smallest} at least"


def _seats(turn: Turn, run: Run) -> tuple[str, ...] | None:
    warm = [worker.ident for worker in turn.alive(Stage.WARM) if not worker.leaving]
    staying = [ident for ident in run.members if not run.workers[ident].leaving]
    size = scaling.group_size(run.policy.sizes, run.target, run.started, len(staying), len(warm))
    if size is None:
        leaving = [
            ident for ident in run.members if ident not in staying and not run.workers[ident].spent
        ]
        # better to go on with one that is about to go than not at all
        staying = [*staying, *leaving]
        size = scaling.group_size(
            run.policy.sizes, run.target, run.started, len(staying), len(warm)
        )
    queue = (
        warm
        if staying
        else scaling.in_turns(warm, {ident: run.workers[ident].node for ident in warm})
    )
    return None if size is None else scaling.seating(run.seats, staying, queue, size)


def _form(turn: Turn, seats: tuple[str, ...], chosen: str | None) -> None:
    run = turn.run
    if chosen is not None:
        step, position = run.workers[chosen].step or 0, run.workers[chosen].position
    else:
        assert run.origin is not None
        assert run.origin.step is not None
        step, position = run.origin.step, run.origin.position
    generation = max(run.generation, run.used_generation) + 1
    givers = [
        ident
        for ident in seats
        if run.workers[ident].gives and chosen and _alike(run.workers[ident], run.workers[chosen])
    ]
    placed = tuple(
        Seat(ident, rank, run.workers[ident].address, _state_from(run, ident, chosen, givers))
        for rank, ident in enumerate(seats)
    )
    saves.on_form(turn, step)
    _begin_generation(turn, generation, seats, step, position)
    source = "donor" if chosen else "checkpoint"
    behind = [seat.worker for seat in placed if seat.state_from is StateFrom.RESULT]
    needs_donor = any(seat.state_from is StateFrom.DONOR for seat in placed)
    release = tuple(ident for ident in sorted(run.workers) if run.workers[ident].spent)
    turn.act(Form(generation, placed, chosen if needs_donor else None, step, position, release))
    turn.note(
        GenerationFormed(
            generation=generation,
            step=step,
            position=position,
            world_size=len(seats),
            workers=tuple(seats),
            donor=chosen,
            state_from=source,
            catching_up=tuple(behind),
            redone=max(0, run.highest - step),
            effective_batch=turn.run.effective_batch,
            reason=run.reform or (run.incident.kind if run.incident else "start"),
        )
    )
    if run.incident is not None:
        how = f"went on with {len(seats)} workers from {'the live state' if chosen else 'a checkpoint'}"
        turn.set(
            incident=replace(
                run.incident,
                done=how,
                resumed_from=step,
                highest=max(run.incident.highest, run.highest),
            )
        )


def _state_from(run: Run, ident: str, chosen: str | None, givers: Sequence[str]) -> StateFrom:
    """Where a seat's state comes from.

    Args:
        chosen: whose state goes on; None where it's a checkpoint's.
        givers: those among the seats that stand where ``chosen`` stands, and can give the result
            that led there.
    """
    if chosen is None:
        return StateFrom.CHECKPOINT
    worker, best = run.workers[ident], run.workers[chosen]
    if ident == chosen:
        return StateFrom.OWN if worker.stage is Stage.MEMBER else StateFrom.DONOR
    if worker.stage is not Stage.MEMBER or worker.step is None or run.divergence:
        return StateFrom.DONOR
    if _alike(worker, best):
        return StateFrom.OWN
    # Every run needs all ranks, so who has computed one that others have finished lacks that one
    # alone
    near = worker.position in (best.position, best.position - (run.policy.batches_per_step or 0))
    return StateFrom.RESULT if givers and worker.takes and near else StateFrom.DONOR


def _alike(worker: Worker, other: Worker) -> bool:
    return worker.place is not None and worker.place == other.place


def _begin_generation(
    turn: Turn, generation: int, seats: tuple[str, ...], step: int, position: int
) -> None:
    run = turn.run
    changed: dict[str, Worker] = {}
    for ident in {*seats, *run.members}:
        worker = run.workers[ident]
        stage = Stage.MEMBER if ident in seats else worker.stage
        joining = generation if ident in seats else worker.generation
        leaving = worker.leaving or ident not in seats
        changed[ident] = replace(
            worker,
            stage=stage,
            held=False,
            joined=False,
            generation=joining,
            leaving=leaving,
            moved_s=turn.now_s,
        )
    turn.workers(changed)
    turn.enter(Phase.FORMING)
    turn.set(
        generation=generation,
        seats=seats,
        members=seats,
        step=step,
        position=position,
        lease_end=step,
        fastest=step,
        laggards=len(seats),
        stepped=False,
        reform="",
        broke_step=False,
        fruitless=run.fruitless + 1,
        target=scaling.target_after(run.policy.sizes, run.target, len(seats)),
        moved_s=turn.now_s,
        divergence=False,
        retry_s=None,
    )
