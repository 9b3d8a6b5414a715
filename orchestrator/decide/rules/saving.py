"""Is the save under way to be committed?

Rule: it is when its files are written and nobody's checksums are lacking any more. What isn't finite,
or differs between ranks, isn't committed. A save whose writer is gone is lost.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.decide import endings, incidents, save_policy, save_under_way
from orchestrator.decide.actions import Commit
from orchestrator.decide.events import SaveWritten
from orchestrator.decide.save_policy import Verdict
from orchestrator.decide.turn import Turn
from orchestrator.errors import NonFinite, RecoveryExhausted
from orchestrator.journal.save_events import SaveRefused

DIVERGENCE_LIMIT = 3
"""Saves in a row at which the ranks differ, before the run ends: none of them was committed, so
each further one is work that is lost. One may have met a damaged copy rather than a damaged state.
"""
DIVERGENCE_REMEDY = (
    "Something in this graph isn't the same on all ranks: see `tfresume check`, or use --workers 1"
)


def save(turn: Turn) -> None:
    """Judge a save that waits for nobody any more."""
    run = turn.run
    flight = run.saves.in_flight
    if flight is None or flight.committing:
        return
    if run.written is not None:
        if not save_under_way.awaited(run):
            _judge(turn, run.written)
    elif flight.writer not in run.workers:
        save_under_way.lose(turn, f"{flight.writer}, which wrote it, is gone")


def _judge(turn: Turn, written: SaveWritten) -> None:
    run = turn.run
    flight, digests = run.saves.in_flight, run.digests
    assert flight is not None
    verdict = save_policy.judge(run.policy.saving, written.nonfinite, digests)
    turn.set(written=None, digests={})
    match verdict:
        case Verdict.COMMIT:
            turn.set(saves=replace(run.saves, in_flight=replace(flight, committing=True)))
            turn.act(Commit(written))
        case Verdict.REPAIR:
            _diverged(turn, save_policy.differing(digests))
        case Verdict.STOP | Verdict.ROLL_BACK:
            _nonfinite(turn, written, roll_back=verdict is Verdict.ROLL_BACK)


def _refuse(turn: Turn, reason: str) -> None:
    flight = turn.run.saves.in_flight
    assert flight is not None
    turn.set(saves=replace(turn.run.saves, in_flight=None))
    turn.note(SaveRefused(step=flight.step, generation=flight.generation, reason=reason))


def _diverged(turn: Turn, names: tuple[str, ...]) -> None:
    """Save soon again: right after the repair the ranks are equal, and a run mustn't train on
    unsaved without end.
    """
    few = ", ".join(names[:3])
    _refuse(turn, f"ranks differ in {few}")
    told = f"{len(names)} variables differ between ranks: {few}"
    incidents.open_incident(turn, "divergence", None, None, told)
    run = turn.run
    count = run.divergences + 1
    turn.set(divergence=True, divergences=count, saves=replace(run.saves, owed=True))
    if count >= DIVERGENCE_LIMIT and run.ending is None:
        reason = f"the ranks differed at {count} saves in a row, in {few}: none of them could be committed"
        details = {"variables": list(names)}
        error = RecoveryExhausted(reason, remedy=DIVERGENCE_REMEDY, details=details).as_dict()
        endings.give_up(turn, reason, error)
    turn.gather("ranks differ; rank 0's state is sent to all")


def _nonfinite(turn: Turn, written: SaveWritten, roll_back: bool) -> None:
    names = ", ".join(written.nonfinite[:3])
    reason = f"not finite at step {written.step}: {names}"
    _refuse(turn, reason)
    # Once: what isn't finite again before a later checkpoint is committed came of the same data
    if roll_back and turn.run.rolled_back_from is None and turn.run.ending is None:
        incidents.open_incident(turn, "not finite", None, None, reason)
        turn.set(rolling_back=True, rolled_back_from=written.step)
        turn.gather(f"{reason}; rolling back to the newest good checkpoint")
        return
    remedy = "Lower the learning rate, or see --on-nonfinite; the last good checkpoint is kept"
    details = {"tensors": list(written.nonfinite), "step": written.step}
    error = NonFinite(reason, remedy=remedy, details=details).as_dict()
    endings.fail(turn, reason, error, at_once=True)
