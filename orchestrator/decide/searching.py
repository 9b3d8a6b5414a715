"""Which checkpoint does the run go on from when nobody has the state, and when is it tried again?

Rule: a checkpoint that two formations found damaged isn't taken again; one that is gone is looked
for anew; a store that doesn't answer is asked again, with a back-off, for ``wait_s``. A state that
the run has rolled back from is nobody's state any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestrator.decide import budgets, ending, forming
from orchestrator.decide.actions import FindCheckpoint, Outcome
from orchestrator.decide.events import Found
from orchestrator.decide.run import Ending, Phase, Stage
from orchestrator.decide.turn import Turn
from orchestrator.errors import CorruptCheckpoint, StorageUnavailable
from orchestrator.journal.event import JournalEvent
from orchestrator.journal.group_events import (
    BackingOff,
    CheckpointBad,
    CheckpointFound,
    FindingCheckpoint,
    RollingBack,
)
from orchestrator.journal.run_events import GaveUp
from orchestrator.journal.save_events import SaveCommitted


def find(turn: Turn, reason: str) -> None:
    """Look for the newest good checkpoint."""
    turn.enter(Phase.FINDING)
    turn.set(retry_s=None)
    turn.note(FindingCheckpoint(reason=reason))
    turn.act(FindCheckpoint(reason, turn.run.bad))


def on_found(turn: Turn, event: Found) -> None:
    """The store has answered which checkpoint is the newest good one, or that there is none, or
    hasn't answered.
    """
    if turn.run.phase is not Phase.FINDING:
        return
    if event.step is not None:
        turn.set(origin=event, store_down_s=None)
        turn.note(CheckpointFound(step=event.step, position=event.position, reason=event.detail))
        turn.enter(Phase.GATHERING)
        forming.settle(turn)
    elif event.passing:
        store_failed(turn, event.detail, event.error)
        back_off(turn, event.detail)
        if turn.run.ending is not None:
            ending.finish(turn)
    else:
        told = f"no good checkpoint is left to go on from: {event.detail}"
        error = event.error or CorruptCheckpoint(told, remedy="Name another source").as_dict()
        turn.set(
            ending=Ending(
                Outcome.FAILED, event.detail or "no good checkpoint", turn.now_s, error=error
            )
        )
        ending.finish(turn)


def again(turn: Turn) -> None:
    """Time has passed: ask a store again that didn't answer."""
    if (
        turn.run.phase is Phase.FINDING
        and turn.run.retry_s is not None
        and turn.now_s >= turn.run.retry_s
    ):
        find(turn, "the store is asked again")


def accuse(turn: Turn, detail: str) -> None:
    """A member found the checkpoint damaged. The first time it may have been its copy, so the store
    is looked at once more.
    """
    origin = turn.run.origin
    if origin is None:
        return
    if origin.label and turn.run.accused == origin.label:
        turn.set(bad={**turn.run.bad, origin.label: detail})
        turn.note(CheckpointBad(checkpoint=origin.label, step=origin.step, reason=detail))
    turn.set(origin=None, accused=origin.label)


def store_failed(turn: Turn, detail: str, error: Mapping[str, Any] | None) -> None:
    """The store doesn't answer: worth waiting for, up to ``wait_s``; that isn't the group's fault,
    so it's no fruitless formation.
    """
    run = turn.run
    since_s = turn.now_s if run.store_down_s is None else run.store_down_s
    turn.set(store_down_s=since_s, fruitless=0)
    if turn.now_s - since_s <= run.policy.wait_s or run.ending is not None:
        return
    reason = f"the store hasn't answered for {turn.now_s - since_s:.0f} s: {detail}"
    told = (
        error
        or StorageUnavailable(
            reason, remedy="The same command goes on when the store is back"
        ).as_dict()
    )
    turn.set(ending=Ending(Outcome.FAILED, reason, turn.now_s + ending.LAST_SAVE_S, error=told))
    turn.note(GaveUp(reason=reason))


def back_off(turn: Turn, reason: str) -> None:
    """Wait before the next try: not after the first failure, then twice as long each time."""
    failures = turn.run.join_failures + 1
    delay_s = budgets.backoff_s(failures, f"formation {turn.run.generation}")
    turn.set(join_failures=failures, retry_s=turn.now_s + delay_s)
    if delay_s:
        turn.note(BackingOff(seconds=round(delay_s, 3), reason=reason))


def roll_back(turn: Turn) -> None:
    """Everybody stands still: go back to the newest good checkpoint. Nobody's state counts, whoever
    still holds one.
    """
    held = [ident for ident, worker in turn.run.workers.items() if worker.stage is Stage.MEMBER]
    turn.workers(
        {ident: replace(turn.run.workers[ident], step=None, tainted=True) for ident in held}
    )
    turn.set(rolling_back=False)
    turn.note(RollingBack(step=turn.run.rolled_back_from, generation=turn.run.generation))
    find(turn, "the newer state isn't finite")


def rolled_back(events: Sequence[JournalEvent]) -> tuple[int | None, int]:
    """What an earlier driver's journal says of roll-backs.

    Returns:
        The step that was rolled back from, None where a later one was committed since; and the last
        generation whose states don't count.
    """
    step: int | None = None
    generation = 0
    for event in events:
        if isinstance(event, RollingBack) and not event.lacks("generation"):
            step, generation = event.step, event.generation
        elif isinstance(event, SaveCommitted) and step is not None and event.step > step:
            step = None
    return step, generation
