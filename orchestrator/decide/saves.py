"""What is to be saved when, and what follows from each answer?

Rule: at most one save is under way. It is agreed with a lease, written by one rank, checked against
the checksums of all others, and committed by the driver; whatever goes wrong on the way ends in one
``save_failed`` and the next save tries again. A writer that is still busy with an earlier save
hasn't failed. Every save comes to an end: who it counts on stays until then, or is gone, or moves
nothing.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.decide import ending, forming, membership, saving, stepping
from orchestrator.decide.actions import Commit, Outcome
from orchestrator.decide.events import Committed, SaveChecked, SaveFailed, SaveWritten
from orchestrator.decide.progress import SAVE_STILL_S
from orchestrator.decide.run import Ending, Phase, Run
from orchestrator.decide.saving import InFlight, Verdict
from orchestrator.decide.turn import Turn
from orchestrator.errors import NonFinite, RecoveryExhausted, StorageUnavailable
from orchestrator.journal.run_events import GaveUp
from orchestrator.journal.save_events import (
    SaveAgreed,
    SaveCancelled,
    SaveFailure,
    SaveLost,
    SavePostponed,
    SaveRefused,
    SaveSkipped,
)

PATIENCE_S = 1.0
"""With ``skip``, a save that comes due waits for one that is younger than this, so that quick saves
are never skipped.
"""
BUSY_S = 1.0
"""A writer that was busy is asked again after so long; a last save that failed is too, and after
twice as long each time.
"""
LONGEST_AGAIN_S = 30.0
DIVERGENCE_LIMIT = 3
"""Saves in a row at which the ranks differ, before the run ends: none of them was committed."""


def agree(turn: Turn, after: int, end: int) -> tuple[int, tuple[int, ...]]:
    """The lease end that may be granted, at most ``end``, and the saves that are agreed with it."""
    policy = turn.run.policy.saving
    agreed: tuple[int, ...] = ()
    while (due := saving.due_step(policy, turn.run.saves, after, end, turn.now_s)) is not None:
        flight = turn.run.saves.in_flight
        if flight is None:
            agreed = agree_now(turn, due, turn.run.seats[0], turn.run.members)
        elif policy.when_busy == "skip" and turn.now_s - flight.since_s > PATIENCE_S:
            turn.set(saves=replace(turn.run.saves, last_step=due, last_s=turn.now_s, owed=False))
            turn.note(
                SaveSkipped(
                    step=due,
                    reason=f"the save of step {flight.step} is still under way",
                )
            )
        else:
            return max(after, due - 1), agreed
        after = max(after, due)
    return end, agreed


def agree_now(turn: Turn, step: int, writer: str, workers: tuple[str, ...]) -> tuple[int, ...]:
    """Agree on a save at ``step``, written by ``writer`` and checked by all ``workers``."""
    flight = InFlight(turn.run.generation, step, writer, turn.now_s)
    log = replace(turn.run.saves, last_step=step, last_s=turn.now_s, owed=False, in_flight=flight)
    turn.set(saves=log, written=None, digests={}, expected=frozenset(workers))
    turn.note(SaveAgreed(step=step, generation=flight.generation, writer=writer))
    return (step,)


def on_form(turn: Turn, step: int) -> None:
    """A new generation starts at ``step``: a save that was agreed for later won't happen, another
    may lack some checksums.
    """
    log = turn.run.saves
    if log.in_flight is None:
        turn.set(saves=replace(log, last_step=min(log.last_step, step)))
        return
    if log.in_flight.committing:
        return  # its files are whole: nobody in the group can spoil it any more
    if log.in_flight.step > step:
        turn.note(
            SaveCancelled(
                step=log.in_flight.step,
                reason="the group is formed anew before that step",
            )
        )
        turn.set(
            saves=replace(log, in_flight=None, last_step=min(log.last_step, step)),
            written=None,
            expected=frozenset(),
        )
        return
    took = {
        ident
        for ident in turn.run.expected
        if (seen := turn.run.workers.get(ident)) and (seen.step or 0) >= log.in_flight.step
    }
    turn.set(expected=frozenset(took))
    if log.in_flight.writer not in took and turn.run.written is None:
        _lost(turn, "its writer had not reached the step")
    _judge(turn)


def on_member_gone(turn: Turn, worker: str) -> None:
    """A member that a save may have counted on is gone."""
    flight = turn.run.saves.in_flight
    turn.set(expected=turn.run.expected - {worker})
    if (
        flight is not None
        and flight.writer == worker
        and turn.run.written is None
        and not flight.committing
    ):
        _lost(turn, f"{worker}, which wrote it, is gone")
    _judge(turn)


def counts_on(run: Run, worker: str) -> bool:
    """Whether a save is under way that would lack something without this worker."""
    flight = run.saves.in_flight
    return flight is not None and worker in awaited(run)


def awaited(run: Run) -> tuple[str, ...]:
    """Whom the save under way waits for; nobody where there's none, or where it's being committed."""
    flight = run.saves.in_flight
    if flight is None or flight.committing:
        return ()
    writer = () if run.written is not None else (flight.writer,)
    return tuple(
        ident for ident in dict.fromkeys((*writer, *sorted(run.expected))) if ident in run.workers
    )


def _lost(turn: Turn, reason: str) -> None:
    flight = turn.run.saves.in_flight
    assert flight is not None
    turn.note(SaveLost(step=flight.step, reason=reason))
    turn.set(saves=replace(turn.run.saves, in_flight=None, owed=True), expected=frozenset())


def on_written(turn: Turn, event: SaveWritten) -> None:
    """The writer's files are in the store."""
    flight = turn.run.saves.in_flight
    if (
        flight is None
        or (event.generation, event.step) != (flight.generation, flight.step)
        or event.worker != flight.writer
    ):
        return
    turn.set(
        written=event,
        digests={**turn.run.digests, event.worker: event.digests},
        expected=turn.run.expected - {event.worker},
    )
    _judge(turn)


def on_checked(turn: Turn, event: SaveChecked) -> None:
    """Another rank's checksums."""
    flight = turn.run.saves.in_flight
    if flight is None or (event.generation, event.step) != (flight.generation, flight.step):
        return
    turn.set(
        digests={**turn.run.digests, event.worker: event.digests},
        expected=turn.run.expected - {event.worker},
    )
    _judge(turn)


def _judge(turn: Turn) -> None:
    run = turn.run
    if run.written is None or run.expected or run.saves.in_flight is None:
        return
    written, digests = run.written, run.digests
    verdict = saving.judge(run.policy.saving, written.nonfinite, digests)
    turn.set(written=None, digests={})
    match verdict:
        case Verdict.COMMIT:
            turn.set(
                saves=replace(run.saves, in_flight=replace(run.saves.in_flight, committing=True))
            )
            turn.act(Commit(written))
        case Verdict.REPAIR:
            names = saving.differing(digests)
            _refuse(turn, f"ranks differ in {', '.join(names[:3])}")
            membership.open_incident(
                turn,
                "divergence",
                None,
                None,
                f"{len(names)} variables differ between ranks: {', '.join(names[:3])}",
            )
            _diverged(turn, names)
        case Verdict.STOP | Verdict.ROLL_BACK:
            _nonfinite(turn, written, roll_back=verdict is Verdict.ROLL_BACK)


def _diverged(turn: Turn, names: tuple[str, ...]) -> None:
    """Save soon again: right after the repair the ranks are equal, and a run mustn't train on
    unsaved without end.
    """
    run = turn.run
    turn.set(divergence=True, divergences=run.divergences + 1, saves=replace(run.saves, owed=True))
    if turn.run.divergences >= DIVERGENCE_LIMIT and run.ending is None:
        reason = f"the ranks differed at {turn.run.divergences} saves in a row, in {', '.join(names[:3])}: none of them could be committed"
        error = RecoveryExhausted(
            reason, remedy=_DIVERGENCE_REMEDY, details={"variables": list(names)}
        ).as_dict()
        turn.set(
            ending=Ending(Outcome.FAILED, reason, turn.now_s + ending.LAST_SAVE_S, error=error)
        )
        turn.note(GaveUp(reason=reason))
    forming.gather(turn, "ranks differ; rank 0's state is sent to all")


_DIVERGENCE_REMEDY = (
    "Something in this graph isn't the same on all ranks: see `tfresume check`, or use --workers 1"
)


def _refuse(turn: Turn, reason: str) -> None:
    flight = turn.run.saves.in_flight
    assert flight is not None
    turn.set(saves=replace(turn.run.saves, in_flight=None))
    turn.note(SaveRefused(step=flight.step, generation=flight.generation, reason=reason))


def _nonfinite(turn: Turn, written: SaveWritten, roll_back: bool) -> None:
    names = ", ".join(written.nonfinite[:3])
    reason = f"not finite at step {written.step}: {names}"
    _refuse(turn, reason)
    if roll_back and turn.run.rolled_back_from is None and turn.run.ending is None:
        membership.open_incident(turn, "not finite", None, None, reason)
        turn.set(rolling_back=True, rolled_back_from=written.step)
        forming.gather(turn, f"{reason}; rolling back to the newest good checkpoint")
        return
    remedy = "Lower the learning rate, or see --on-nonfinite; the last good checkpoint is kept"
    error = NonFinite(
        reason, remedy=remedy, details={"tensors": list(written.nonfinite), "step": written.step}
    ).as_dict()
    turn.set(ending=Ending(Outcome.FAILED, reason, turn.now_s, error=error))
    ending.finish(turn)


def on_save_failed(turn: Turn, event: SaveFailed) -> None:
    """A save came to nothing. Training goes on, unless it's one too many."""
    run = turn.run
    flight = run.saves.in_flight
    if flight is None or (event.generation, event.step) != (flight.generation, flight.step):
        return
    if event.busy and not _is_stuck(turn, flight.writer):
        log = replace(run.saves, in_flight=None, owed=True, again_s=turn.now_s + BUSY_S)
        turn.set(saves=log, written=None, digests={}, expected=frozenset())
        turn.note(SavePostponed(step=event.step, generation=event.generation, reason=event.detail))
        after_save(turn)
        return
    failed = run.saves.failed + 1
    log = replace(
        run.saves,
        in_flight=None,
        failed=failed,
        again_s=turn.now_s + min(LONGEST_AGAIN_S, BUSY_S * 2.0 ** (failed - 1)),
    )
    turn.set(saves=log, written=None, digests={}, expected=frozenset())
    turn.note(
        SaveFailure(
            step=event.step,
            generation=event.generation,
            reason=event.detail,
            in_a_row=log.failed,
        )
    )
    if saving.too_many_failed(run.policy.saving, log) and (
        run.ending is None or run.ending.outcome is not Outcome.FAILED
    ):
        reason = f"{log.failed} saves failed in a row, the last one: {event.detail}"
        error = StorageUnavailable(
            reason,
            remedy="Check the output; the same command goes on from the last good checkpoint",
        ).as_dict()
        turn.set(ending=Ending(Outcome.FAILED, reason, turn.now_s, error=error))
        ending.finish(turn)
        return
    after_save(turn)


def on_committed(turn: Turn, event: Committed) -> None:
    """A checkpoint exists."""
    log = turn.run.saves
    if log.in_flight is None or log.in_flight.step != event.step:
        return
    turn.set(
        saves=replace(log, in_flight=None, failed=0, committed=event.step),
        expected=frozenset(),
        divergences=0,
    )
    if turn.run.rolled_back_from is not None and event.step > turn.run.rolled_back_from:
        turn.set(rolled_back_from=None)
    after_save(turn)


def give_up_stuck(turn: Turn) -> None:
    """Time has passed: a save that nobody moves any more has failed."""
    flight = turn.run.saves.in_flight
    waiting_for = awaited(turn.run)
    if flight is None or not waiting_for:
        return
    latest_s = max(turn.run.workers[ident].moved_s for ident in waiting_for)
    still_s = turn.now_s - max(flight.since_s, latest_s)
    if still_s > SAVE_STILL_S:
        told = f"nothing has moved in {', '.join(waiting_for[:3])} for {still_s:.0f} s"
        on_save_failed(turn, SaveFailed(flight.generation, flight.step, told))


def _is_stuck(turn: Turn, writer: str) -> bool:
    worker = turn.run.workers.get(writer)
    return worker is not None and turn.now_s - worker.moved_s > SAVE_STILL_S


def after_save(turn: Turn) -> None:
    """Nothing is under way any more: what waited for that?"""
    run = turn.run
    if run.phase in (Phase.GATHERING, Phase.WAITING):
        forming.settle(turn)
    stepping.grant(turn)
    stepping.boundary(turn)
