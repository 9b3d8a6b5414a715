"""Is the save under way to be committed?

Rule: it is when its files are written and nobody's checksums are lacking any more. What isn't finite,
or differs between ranks, isn't committed. What jumped against the last checkpoint is told, and
committed unless the policy says otherwise. A save whose writer is gone is lost. One in parts is lost
with any of its writers that hasn't told, and committed only where all parts make one checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import immutables

from orchestrator.decide import endings, incidents, save_parts, save_policy, save_under_way
from orchestrator.decide.actions import Commit
from orchestrator.decide.events import SaveWritten
from orchestrator.decide.outliers import Outlier, outliers
from orchestrator.decide.save_parts import SavedPart
from orchestrator.decide.save_policy import InFlight, Verdict
from orchestrator.decide.turn import Turn
from orchestrator.errors import NonFinite, OrchestratorError, RecoveryExhausted, StateJumped
from orchestrator.journal.save_events import SaveRefused, VariableJumped

DIVERGENCE_LIMIT = 3
"""Saves in a row at which the ranks differ, before the run ends: none of them was committed, so
each further one is work that is lost. One may have met a damaged copy rather than a damaged state.
"""
NOTED_OUTLIERS = 20
"""Variables that jumped together and are written down one by one; an optimizer's slots jump with
their weights, and a model has thousands.
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
    if flight.parts:
        _save_in_parts(turn, flight)
    elif run.written is not None:
        if not save_under_way.is_awaited(run):
            _judge(turn, run.written)
    elif flight.writer not in run.workers:
        save_under_way.lose(turn, f"{flight.writer}, which wrote it, is gone")


def _save_in_parts(turn: Turn, flight: InFlight) -> None:
    run = turn.run
    untold = [ident for ident in flight.writers if ident in run.expected]
    gone = [ident for ident in untold if ident not in run.workers]
    if gone:
        save_under_way.lose(turn, f"{gone[0]}, which has a part in it, is gone")
    elif save_under_way.is_awaited(run):
        return
    elif flight.refused:
        save_under_way.fail(turn, flight.refused, busy=flight.busy)
    elif why := save_parts.amiss(run.parts, flight.parts):
        save_under_way.fail(turn, why)
    elif run.written is None:
        save_under_way.fail(turn, "its writer has told nothing of it")
    else:
        _judge(turn, put_together(run.written, run.parts))


def put_together(written: SaveWritten, parts: Mapping[int, SavedPart]) -> SaveWritten:
    """What the writer alone would tell if it had written all of it; the index comes yet."""
    ordered = [parts[rank] for rank in sorted(parts)]
    sizes, measured = save_parts.sizes_together(ordered)
    bad = dict.fromkeys(name for part in ordered for name in part.nonfinite)
    return replace(
        written,
        files=tuple(record for part in ordered for record in part.files),
        nonfinite=(*written.nonfinite, *bad),
        sizes=sizes,
        measured=measured,
        stall_s=max(written.stall_s, *(part.stall_s for part in ordered)),
        reports=tuple(part.report for part in ordered),
    )


def _judge(turn: Turn, written: SaveWritten) -> None:
    run = turn.run
    flight, digests, policy = run.saves.in_flight, run.digests, run.policy.saving
    assert flight is not None
    found = outliers(written.sizes, run.sizes or written.measured, policy.outlier_factor)
    verdict = save_policy.judge(policy, written.nonfinite, digests, jumped=bool(found))
    turn.set(written=None, digests=immutables.Map(), parts=immutables.Map())
    match verdict:
        case Verdict.COMMIT:
            saves = replace(run.saves, in_flight=replace(flight, committing=True))
            # Of a save of changed rows what it holds whole was measured
            turn.set(saves=saves, sizes={**run.sizes, **written.sizes})
            _warn(turn, written, found)
            turn.act(Commit(written))
        case Verdict.REPAIR:
            _diverged(turn, save_policy.differing(digests))
        case Verdict.STOP | Verdict.ROLL_BACK:
            # Why it isn't kept: what the policy ignores is no reason
            broken = bool(written.nonfinite) and policy.on_nonfinite != "ignore"
            bad = Unfit.nonfinite(written) if broken else Unfit.jumped(written, found)
            if not broken:
                _note_outliers(turn, written, found)
            _unfit(turn, written, bad, roll_back=verdict is Verdict.ROLL_BACK)


def _warn(turn: Turn, written: SaveWritten, found: Sequence[Outlier]) -> None:
    """It's committed all the same; the incident is over as it begins."""
    if found:
        _note_outliers(turn, written, found)
        bad = Unfit.jumped(written, found)
        incidents.note_passing(turn, bad.kind, bad.reason, "committed all the same")


def _note_outliers(turn: Turn, written: SaveWritten, found: Sequence[Outlier]) -> None:
    factor = turn.run.policy.saving.outlier_factor
    for item in found[:NOTED_OUTLIERS]:
        turn.note(
            VariableJumped(
                step=written.step,
                generation=written.generation,
                variable=item.name,
                trained=item.now.trained,
                largest_before=item.before.largest,
                largest=item.now.largest,
                rms_before=item.before.rms,
                rms=item.now.rms,
                factor=factor if item.now.trained else factor**2,
            )
        )


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


@dataclass(frozen=True)
class Unfit:
    """Why a state isn't worth keeping: the incident's kind, the reason, and the error to stop with."""

    kind: str
    reason: str
    error: OrchestratorError

    @classmethod
    def nonfinite(cls, written: SaveWritten) -> Self:
        """It holds NaN or infinity."""
        reason = f"not finite at step {written.step}: {', '.join(written.nonfinite[:3])}"
        remedy = "Lower the learning rate, or see --on-nonfinite; the last good checkpoint is kept"
        details = {"tensors": list(written.nonfinite), "step": written.step}
        return cls("not finite", reason, NonFinite(reason, remedy=remedy, details=details))

    @classmethod
    def jumped(cls, written: SaveWritten, found: Sequence[Outlier]) -> Self:
        """Variables grew beyond measure against the last checkpoint."""
        listed = ", ".join(map(str, found[:3]))
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        reason = f"jumped by step {written.step}: {listed}{more}"
        remedy = "Look at the data and the learning rate, or see --on-outlier and --outlier-factor; the last good checkpoint is kept"
        details = {"tensors": [item.name for item in found], "step": written.step}
        return cls("outlier", reason, StateJumped(reason, remedy=remedy, details=details))


def _unfit(turn: Turn, written: SaveWritten, bad: Unfit, *, roll_back: bool) -> None:
    _refuse(turn, bad.reason)
    # Once: what comes again before a later checkpoint is committed came of the same data
    if roll_back and turn.run.rolled_back_from is None and turn.run.ending is None:
        incidents.open_incident(turn, bad.kind, None, None, bad.reason)
        turn.set(rolling_back=True, rolled_back_from=written.step)
        turn.gather(f"{bad.reason}; rolling back to the newest good checkpoint")
        return
    endings.fail(turn, bad.reason, bad.error.as_dict(), at_once=True)
