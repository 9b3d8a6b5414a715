"""Which save is under way, whom does it wait for, and what becomes of it?

Rule: at most one save is under way. It is agreed with a grant, written by one rank or several, checked against
the checksums of all others, and committed by the driver; whatever goes wrong on the way ends in one
``save_failed`` and the next save tries again. A writer that is still busy with an earlier save
hasn't failed. Every save comes to an end: who it counts on stays until then, or is gone, or moves
nothing. A save in parts is written by several ranks, lacks what any rank lacks, and has failed
once all have told, so that none of them tells the next one of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import immutables

from orchestrator.decide import endings, save_policy
from orchestrator.decide.actions import Grant, Outcome
from orchestrator.decide.progress import SAVE_STILL_S
from orchestrator.decide.run import Run
from orchestrator.decide.save_policy import InFlight
from orchestrator.decide.turn import Turn
from orchestrator.errors import StorageUnavailable
from orchestrator.journal.save_events import (
    SaveAgreed,
    SaveCancelled,
    SaveFailure,
    SaveLost,
    SavePostponed,
)

BUSY_S = 1.0
"""A writer that was busy is asked again after so long; a last save that failed is too, and after
twice as long each time.
"""
LONGEST_AGAIN_S = 30.0
"""Where a last save goes on failing it's tried some ten times within ``endings.LAST_SAVE_S``."""


def agree(
    turn: Turn,
    step: int,
    writer: str,
    workers: tuple[str, ...],
    position: int | None = None,
    *,
    last: bool = False,
) -> None:
    """Agree on a save at ``step``, or at ``position`` where that comes first, written by ``writer``
    (the first of them, where several write) and checked by all ``workers``, by rank. They hear of it with
    the next grant. ``last``: of the run.
    """
    policy, log = turn.run.policy.saving, turn.run.saves
    writers = workers[: save_policy.parts(policy, len(workers))]
    over = save_policy.ground_of(policy, log, last=last)
    flight = InFlight(
        turn.run.generation, step, writer, turn.now_s, position=position, writers=writers, over=over
    )
    log = replace(
        log if over else log.on_new_ground(),
        last_step=step,
        last_s=turn.now_s,
        owed=False,
        in_flight=flight,
        agreed=log.agreed + 1,
    )
    expected = immutables.Map(dict.fromkeys(workers))
    _await(turn, expected, saves=log)
    turn.note(SaveAgreed(step=step, generation=flight.generation, writer=writer))


def _await(turn: Turn, expected: immutables.Map[str, None], **changes: Any) -> None:
    """Nothing has been told of a save yet; these are to tell of it."""
    nothing: immutables.Map[Any, Any] = immutables.Map()
    turn.set(written=None, digests=nothing, parts=nothing, expected=expected, **changes)


def send(turn: Turn, workers: tuple[str, ...], end: int, position: int) -> None:
    """Let ``workers`` run up to ``end``, at most to ``position``, with the save that was agreed.

    Every grant tells it until it's written: one that was lost or comes late would else be overtaken
    by the next, and its worker run past the step at which the others copy their state.
    """
    run, log = turn.run, turn.run.saves
    saves: tuple[int, ...] = ()
    at, writer, flight, parts, over = None, workers[0], log.in_flight, 0, 0
    if flight is not None and flight.generation == run.generation and not _is_written(run, flight):
        saves, at, writer, parts = (flight.step,), flight.position, flight.writer, flight.parts
        over = flight.over
    # A full save has another name than one of changed rows of the same step
    saved = log.committed if over else log.full
    told = (position, at, saved, log.agreed, parts, over)
    turn.act(Grant(run.generation, workers, end, saves, writer, *told))


def _is_written(run: Run, flight: InFlight) -> bool:
    return not run.expected if flight.parts else run.written is not None


def awaited(run: Run) -> tuple[str, ...]:
    """Whom the save under way waits for; nobody where there's none, or where it's being committed."""
    writer = () if run.saves.in_flight is None else (run.saves.in_flight.writer,)
    everybody = dict.fromkeys((*writer, *sorted(run.expected)))
    return tuple(ident for ident in everybody if counts_on(run, ident))


def is_awaited(run: Run) -> bool:
    """Whether the save under way waits for anybody."""
    flight = run.saves.in_flight
    return flight is not None and any(
        counts_on(run, ident) for ident in (flight.writer, *run.expected)
    )


def counts_on(run: Run, worker: str) -> bool:
    """Whether a save is under way that would lack something without this worker."""
    flight = run.saves.in_flight
    if flight is None or flight.committing or worker not in run.workers:
        return False
    # Of a save in parts the writer is one of those that are expected
    writes = worker == flight.writer and run.written is None and not flight.parts
    return writes or worker in run.expected


def start_anew(turn: Turn, step: int, position: int) -> None:
    """A new generation starts at ``step`` and ``position``: a save that was agreed for later won't happen, another
    may lack some checksums.
    """
    log = turn.run.saves.on_new_ground()  # its members needn't know what has changed
    turn.set(saves=log)
    # A commit that was in doubt may be settled when the group has turned to an older checkpoint
    # already: the run goes on without it, so that it saves nothing of this generation's
    if log.committed is not None and log.committed > step:
        log = replace(log, committed=None, committed_position=None, changes=False)
        turn.set(saves=log)
    if log.in_flight is None:
        turn.set(saves=replace(log, last_step=min(log.last_step, step)))
        return
    reached = log.in_flight.is_reached(step, position)
    if log.in_flight.committing and reached:
        return  # its files are whole: nobody in the group can spoil it any more
    if not reached:
        # Also one that is being committed, which the run leaves behind: it saves nothing of this
        # generation's
        cancel(turn, "the group is formed anew before that step")
        turn.set(saves=replace(turn.run.saves, last_step=min(log.last_step, step)))
        return
    took = {
        ident: None
        for ident in turn.run.expected
        if (seen := turn.run.workers.get(ident))
        and log.in_flight.is_reached(seen.step or 0, seen.position)
    }
    late = sorted(ident for ident in turn.run.expected if ident not in took)
    late = [ident for ident in late if ident in log.in_flight.writers]
    turn.set(expected=immutables.Map(took))
    if log.in_flight.parts:
        if late:
            lose(turn, f"{late[0]}, which has a part in it, is gone or had not reached the step")
    elif log.in_flight.writer not in took and turn.run.written is None:
        lose(turn, "its writer had not reached the step")


def cancel(turn: Turn, reason: str) -> None:
    """The step that was agreed on won't come."""
    flight = turn.run.saves.in_flight
    assert flight is not None
    turn.note(SaveCancelled(step=flight.step, reason=reason))
    _await(turn, immutables.Map(), saves=replace(turn.run.saves, in_flight=None))


def lose(turn: Turn, reason: str) -> None:
    """Nobody is left to write it: that's no failure, and the next boundary saves instead."""
    flight = turn.run.saves.in_flight
    assert flight is not None
    turn.note(SaveLost(step=flight.step, reason=reason))
    _await(turn, immutables.Map(), saves=replace(turn.run.saves, in_flight=None, owed=True))


def fail(turn: Turn, detail: str, *, busy: str = "") -> None:
    """It came to nothing. Training goes on, unless it's one too many. ``busy``: the worker that it
    failed for since that isn't through with an earlier one.
    """
    run = turn.run
    flight = run.saves.in_flight
    assert flight is not None
    _await(turn, immutables.Map())
    if busy and not _is_stuck(turn, busy):
        log = replace(run.saves, in_flight=None, owed=True, again_s=turn.now_s + BUSY_S)
        turn.set(saves=log)
        turn.note(SavePostponed(step=flight.step, generation=flight.generation, reason=detail))
        return
    if flight.committing:  # what it stands on may be what is lacking
        turn.set(saves=run.saves.on_new_ground())
    failed = run.saves.failed + 1
    again_s = turn.now_s + min(LONGEST_AGAIN_S, BUSY_S * 2.0 ** (failed - 1))
    log = replace(turn.run.saves, in_flight=None, failed=failed, again_s=again_s)
    turn.set(saves=log)
    turn.note(
        SaveFailure(step=flight.step, generation=flight.generation, reason=detail, in_a_row=failed)
    )
    failing = run.ending is not None and run.ending.outcome is Outcome.FAILED
    if save_policy.too_many_failed(run.policy.saving, log) and not failing:
        reason = f"{failed} saves failed in a row, the last one: {detail}"
        remedy = "Check the output; the same command goes on from the last good checkpoint"
        error = StorageUnavailable(reason, remedy=remedy).as_dict()
        endings.fail(turn, reason, error, at_once=True)


def _is_stuck(turn: Turn, writer: str) -> bool:
    worker = turn.run.workers.get(writer)
    return worker is not None and turn.now_s - worker.moved_s > SAVE_STILL_S
