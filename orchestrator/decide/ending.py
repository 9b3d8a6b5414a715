"""How does a run end?

Rule: every end that leaves time for it saves first; the first reason to end is the one that is
told. ``Finish`` is final.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.decide import forming, progress, recovery, saves, saving, stepping
from orchestrator.decide.actions import Finish, Grant, Note, Outcome
from orchestrator.decide.events import DataEnded, Fenced, StopAsked, StopCause, UserFailed
from orchestrator.decide.progress import SAVE_STILL_S
from orchestrator.decide.run import Ending, Phase, Run
from orchestrator.decide.turn import Turn
from orchestrator.journal.run_events import InputUsedUp, RunEnded, Stopping, UserErrorRaised

LAST_SAVE_S = 300.0
"""Longest time for the last save where nobody is about to kill us, unless it still moves."""


def on_stop(turn: Turn, event: StopAsked) -> None:
    """Somebody asks for the end: stop at the leases' end, save, and finish."""
    if turn.run.ending is not None:
        earlier = turn.run.ending
        if earlier.deadline_s is None or turn.now_s + event.grace_s < earlier.deadline_s:
            turn.set(
                ending=replace(earlier, deadline_s=turn.now_s + event.grace_s, hard=_is_hard(event))
            )
        return
    cause = event.cause.value
    signal = None if event.cause is StopCause.REQUEST else cause
    turn.set(
        ending=Ending(
            Outcome.STOPPED,
            f"stopped by {cause}",
            turn.now_s + event.grace_s,
            stop_cause=signal,
            hard=_is_hard(event),
        )
    )
    turn.note(Stopping(reason=cause, grace_s=event.grace_s, boundary=turn.run.lease_end))
    match turn.run.phase:
        case Phase.TRAINING:
            stepping.boundary(turn)
        case Phase.WAITING | Phase.GATHERING:
            forming.settle(turn)
        case Phase.FINDING:
            finish(turn)
        case Phase.FORMING if forming.nobody_has_a_state(turn.run):
            finish(turn)
        case Phase.FORMING | Phase.ENDED:
            pass


def _is_hard(event: StopAsked) -> bool:
    """Whether somebody kills us when the grace is over; a request that leaves us time doesn't."""
    return event.cause is not StopCause.REQUEST or event.grace_s <= 0


def is_overdue(run: Run, now_s: float) -> bool:
    """Whether the run has to end now, saved or not: a last save that still moves gets its time
    unless somebody kills us.
    """
    how = run.ending
    if how is None or how.deadline_s is None or now_s < how.deadline_s:
        return False
    saving = any(now_s - run.workers[ident].moved_s <= SAVE_STILL_S for ident in saves.awaited(run))
    copying = any(progress.is_moving(run, run.workers[ident], now_s) for ident in run.members)
    return how.hard or not (saving or copying)


def on_user_failed(turn: Turn, event: UserFailed) -> None:
    """The user's code raised: stop with its traceback, after a last save of the state before it."""
    if event.generation != turn.run.generation or event.worker not in turn.run.members:
        return
    rank = turn.run.rank_of(event.worker)
    message = str(event.error.get("message", "the user's code failed"))
    turn.note(UserErrorRaised(worker=event.worker, rank=rank, step=event.step, reason=message))
    if turn.run.ending is None or turn.run.ending.outcome is not Outcome.FAILED:
        turn.set(
            ending=Ending(Outcome.FAILED, message, turn.now_s + LAST_SAVE_S, error=event.error)
        )
    forming.gather(turn, f"rank {rank}: {message}")


def on_data_ended(turn: Turn, event: DataEnded) -> None:
    """One rank's input is at its end: the step is abandoned on all ranks, and that is the end of
    data.
    """
    if event.generation != turn.run.generation or event.worker not in turn.run.members:
        return
    reason = f"the input of rank {turn.run.rank_of(event.worker)} ended after step {event.step}"
    turn.note(InputUsedUp(worker=event.worker, step=event.step, reason=reason))
    if turn.run.ending is None:
        turn.set(ending=Ending(Outcome.END_OF_DATA, reason, turn.now_s + LAST_SAVE_S))
    forming.gather(turn, reason)


def end_gathered(turn: Turn) -> None:
    """All living members stand still and the run is to end: save the highest state, then finish."""
    run = turn.run
    steps = {ident: run.workers[ident].step for ident in run.members}
    places = {ident: run.workers[ident].place for ident in run.members}
    writer = recovery.donor(run.members, places, differing=run.divergence)
    if (
        writer is None
        or run.saves.committed == steps[writer]
        or saving.too_many_failed(run.policy.saving, run.saves)
    ):
        turn.set(step=run.step if writer is None else steps[writer])
        finish(turn)
    elif run.saves.in_flight is None and turn.now_s < run.saves.again_s:
        pass  # the writer is still busy with an earlier save, or the store has just failed
    elif run.saves.in_flight is None or run.saves.in_flight.step > (steps[writer] or 0):
        step = steps[writer] or 0
        turn.set(step=step)
        agreed = saves.agree_now(turn, step, writer, (writer,))
        turn.act(Grant(run.generation, (writer,), max(run.lease_end, step), agreed, writer))


def on_fenced(turn: Turn, event: Fenced) -> None:
    """Another driver has taken over: do nothing more, least of all a save."""
    turn.set(
        ending=Ending(
            Outcome.FAILED, str(event.error.get("message", "")), turn.now_s, error=event.error
        )
    )
    finish(turn)


def finish(turn: Turn) -> None:
    """The end."""
    run = turn.run
    if run.phase is Phase.ENDED:
        return
    how = run.ending or Ending(Outcome.DONE, f"step {run.policy.until} is reached")
    if run.incident is not None:
        turn.act(Note(stepping.incident_record(run, run.incident, None)))
    turn.enter(Phase.ENDED)
    turn.note(
        RunEnded(
            outcome=how.outcome.value,
            reason=how.reason,
            step=run.step,
            checkpoint_step=run.saves.committed,
        )
    )
    turn.act(Finish(how.outcome, how.reason, run.step, how.stop_cause, how.error))
