"""Somebody asks for the end, or something forces it: what changes?

Rule: the first reason to end is the one that is told, unless a later one is graver: an error is told
before a stop, and a driver that was fenced does nothing more.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.decide import endings
from orchestrator.decide.actions import Outcome
from orchestrator.decide.causes import StopCause
from orchestrator.decide.events import DataEnded, Fenced, StopAsked, UserFailed
from orchestrator.decide.run import Ending
from orchestrator.decide.turn import Turn
from orchestrator.journal.run_events import InputUsedUp, Stopping, UserErrorRaised


def on_stop(turn: Turn, event: StopAsked) -> None:
    """Somebody asks for the end: the group stops at the end of what is granted, saves, and ends."""
    deadline_s = turn.now_s + event.grace_s
    # Whether somebody kills us when the grace is over: a request that leaves us time doesn't
    hard = event.cause is not StopCause.REQUEST or event.grace_s <= 0
    cause = event.cause.value
    signal = None if event.cause is StopCause.REQUEST else cause
    how = Ending(Outcome.STOPPED, f"stopped by {cause}", deadline_s, stop_cause=signal, hard=hard)
    if turn.run.ending is not None:
        earlier = replace(turn.run.ending, instead=how)
        if earlier.deadline_s is None or deadline_s < earlier.deadline_s:
            earlier = replace(earlier, deadline_s=deadline_s, hard=hard)
        turn.set(ending=earlier)
        return
    turn.set(ending=how)
    turn.note(Stopping(reason=cause, grace_s=event.grace_s, boundary=turn.run.granted_end))


def on_user_failed(turn: Turn, event: UserFailed) -> None:
    """The user's code raised: stop with its traceback, after a last save of the state before it."""
    if event.generation != turn.run.generation or turn.run.rank_of(event.worker) is None:
        return
    rank = turn.run.rank_of(event.worker)
    message = str(event.error.get("message", "the user's code failed"))
    turn.note(UserErrorRaised(worker=event.worker, rank=rank, step=event.step, reason=message))
    if turn.run.ending is None or turn.run.ending.outcome is not Outcome.FAILED:
        endings.fail(turn, message, event.error)
    turn.gather(f"rank {rank}: {message}")


def on_data_ended(turn: Turn, event: DataEnded) -> None:
    """One rank's input is at its end: the step is abandoned on all ranks, and that is the end of
    data.
    """
    if event.generation != turn.run.generation or turn.run.rank_of(event.worker) is None:
        return
    reason = f"the input of rank {turn.run.rank_of(event.worker)} ended after step {event.step}"
    turn.note(InputUsedUp(worker=event.worker, step=event.step, reason=reason))
    if turn.run.ending is None:
        deadline_s = turn.now_s + endings.LAST_SAVE_S
        turn.set(ending=Ending(Outcome.END_OF_DATA, reason, deadline_s, last_step=event.step))
    turn.gather(reason)


def on_fenced(turn: Turn, event: Fenced) -> None:
    """Another driver has taken over: do nothing more, least of all a save."""
    endings.fail(turn, str(event.error.get("message", "")), event.error, at_once=True)
