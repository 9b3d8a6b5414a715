"""Who forms the next generation, from whose state?

Rule: a group is formed only when every living member of the last one has stopped between two steps
(``Held``) or is gone. The state with the highest step goes on; a checkpoint is read only if nobody
has a state. Who is only one run behind takes that run's result, and not the whole state. Rows of
divided tables go on from where they are (``crew.formation``). A run that ends forms a group only
where they have to come together for the last save.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.decide import crew, endings, recovery, save_under_way, scaling
from orchestrator.decide.actions import Form, Seat, StateFrom
from orchestrator.decide.phases import Phase
from orchestrator.decide.roster import Stage, Worker
from orchestrator.decide.turn import Turn
from orchestrator.journal.group_events import GenerationFormed, WaitingForWorkers


def form(turn: Turn) -> None:
    """If all living members have stopped: form the next generation, or wait for what is missing."""
    run = turn.run
    if run.phase not in (Phase.GATHERING, Phase.WAITING) or not crew.stands_still(run):
        return
    if run.ending is not None and not crew.forms_to_save(run):
        return
    if not crew.is_enough(run):
        _wait(turn)
    elif run.fruitless >= recovery.FRUITLESS_LIMIT:
        endings.give_up_recovering(
            turn, f"the group was formed {run.fruitless} times in a row without finishing a step"
        )
    elif crew.may_form(run, turn.now_s):
        found = crew.formation(run)
        if found is not None:
            _form(turn, found)
        elif run.origin is not None:
            _form_from_checkpoint(turn)


def _wait(turn: Turn) -> None:
    run = turn.run
    if run.phase is Phase.WAITING:
        return
    warm = len(crew.in_stage(run, Stage.WARM))
    counts = f"{len(run.members)} with a rank, {warm} warm, {run.target} wanted, {run.policy.sizes.smallest} at least"
    turn.note(WaitingForWorkers(reason=f"too few workers: {counts}", longest_s=run.policy.wait_s))
    turn.enter(Phase.WAITING)


def _form(turn: Turn, found: crew.Formation) -> None:
    donor = turn.run.workers[found.donor]
    rows = found.rows or [None] * len(found.seats)
    placed = tuple(
        Seat(ident, rank, turn.run.workers[ident].address, *given)
        for rank, (ident, given) in enumerate(
            zip(found.seats, zip(found.states, rows, strict=True), strict=True)
        )
    )
    _order(turn, placed, found.donor, (donor.step or 0, donor.position), found.catches_up)


def _form_from_checkpoint(turn: Turn) -> None:
    run = turn.run
    assert run.origin is not None
    assert run.origin.step is not None
    placed = tuple(
        Seat(ident, rank, run.workers[ident].address, StateFrom.CHECKPOINT)
        for rank, ident in enumerate(crew.next_seats(run))
    )
    _order(turn, placed, None, (run.origin.step, run.origin.position), False)


def _order(
    turn: Turn,
    placed: tuple[Seat, ...],
    chosen: str | None,
    place: tuple[int, int],
    catches_up: bool,
) -> None:
    run, (step, position) = turn.run, place
    seats = tuple(seat.worker for seat in placed)
    # A driver before may have formed generations that this one has only read of: a number that is
    # used twice would be two writers of one directory
    generation = max(run.generation, run.used_generation) + 1
    givers = {each.holder: None for seat in placed for each in seat.rows or ()}
    save_under_way.start_anew(turn, step, position)
    _begin_generation(turn, generation, seats, step, position)
    if catches_up:
        turn.set(target=run.target)
    turn.set(catches_up=catches_up, givers=tuple(givers))
    source = "donor" if chosen else "checkpoint"
    behind = tuple(seat.worker for seat in placed if seat.state_from is StateFrom.RESULT)
    needs_donor = any(seat.state_from is StateFrom.DONOR for seat in placed)
    release = tuple(ident for ident in sorted(run.workers) if run.workers[ident].spent)
    turn.act(Form(generation, placed, chosen if needs_donor else None, step, position, release))
    turn.note(
        GenerationFormed(
            generation=generation,
            step=step,
            position=position,
            world_size=len(seats),
            workers=seats,
            donor=chosen,
            state_from=source,
            catching_up=behind,
            redone=max(0, run.highest - step),
            effective_batch=turn.run.effective_batch,
            reason=run.planned or (run.incident.kind if run.incident else "start"),
        )
    )
    moved = ", with rows of tables from each other" if givers else ""
    _tell_incident(turn, step, f"the live state{moved}" if chosen else "a checkpoint")
    turn.set(highest=step)  # what is done again from here on is told once


def _tell_incident(turn: Turn, step: int, source: str) -> None:
    """What the incident has led to."""
    run = turn.run
    if run.incident is not None:
        turn.set(
            incident=replace(
                run.incident,
                done=f"went on with {run.world_size} workers from {source}",
                resumed_from=step,
                highest=max(run.incident.highest, run.highest),
            )
        )


def _ranks(seats: tuple[str, ...]) -> dict[str, int]:
    return {ident: rank for rank, ident in enumerate(seats)}


def _seated(worker: Worker, rank: int | None, generation: int, now_s: float) -> Worker:
    """The worker in its seat; without one it's to go."""
    sits = rank is not None
    return replace(
        worker,
        stage=Stage.MEMBER,  # who has no seat was one
        held=False,
        joined=False,
        took=(0, 0),
        generation=generation if sits else worker.generation,
        rank=rank,
        leaving=worker.leaving or not sits,
        moved_s=now_s,
    )


def _begin_generation(
    turn: Turn, generation: int, seats: tuple[str, ...], step: int, position: int
) -> None:
    run = turn.run
    ranks: dict[str, int | None] = {**dict.fromkeys(run.members), **_ranks(seats)}
    turn.workers(
        _seated(run.workers[ident], rank, generation, turn.now_s) for ident, rank in ranks.items()
    )
    turn.enter(Phase.FORMING)
    turn.set(
        generation=generation,
        seats=seats,
        members=seats,
        step=step,
        position=position,
        granted_end=step,
        granted_position=position,
        fastest=step,
        fastest_position=position,
        counted_s=run.counted_s if run.started and step == run.step else turn.now_s,
        laggards=len(seats),
        stepped=False,
        planned="",
        broke_step=False,
        fruitless=run.fruitless + 1,
        target=scaling.target_after(run.policy.sizes, run.target, len(seats)),
        moved_s=turn.now_s,
        divergence=False,
        pieced=False,
        retry_s=None,
    )
