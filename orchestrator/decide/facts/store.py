"""The store has answered a search, or didn't, or has given out what is damaged: what changes?

Rule: a checkpoint that two formations found damaged isn't taken again; one that is gone is looked
for anew; a store that doesn't answer is asked again, with a back-off, for ``wait_s``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.decide import budgets, endings
from orchestrator.decide.events import Found
from orchestrator.decide.phases import Phase
from orchestrator.decide.turn import Turn
from orchestrator.errors import CorruptCheckpoint, StorageUnavailable
from orchestrator.journal.group_events import BackingOff, CheckpointBad, CheckpointFound


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
    elif event.passing:
        does_not_answer(turn, event.detail, event.error)
        back_off(turn, event.detail)
    else:
        told = f"no good checkpoint is left to go on from: {event.detail}"
        error = event.error or CorruptCheckpoint(told, remedy="Name another source").as_dict()
        endings.fail(turn, event.detail or "no good checkpoint", error, at_once=True)


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


def does_not_answer(turn: Turn, detail: str, error: Mapping[str, Any] | None) -> None:
    """Worth waiting for, up to ``wait_s``; that isn't the group's fault, so it's no fruitless
    formation.
    """
    run = turn.run
    since_s = turn.now_s if run.store_down_s is None else run.store_down_s
    turn.set(store_down_s=since_s, fruitless=0)
    if turn.now_s - since_s <= run.policy.wait_s or run.ending is not None:
        return
    reason = f"the store hasn't answered for {turn.now_s - since_s:.0f} s: {detail}"
    remedy = "The same command goes on when the store is back"
    endings.give_up(turn, reason, error or StorageUnavailable(reason, remedy=remedy).as_dict())


def back_off(turn: Turn, reason: str) -> None:
    """Wait before the next try: not after the first failure, then twice as long each time."""
    failures = turn.run.join_failures + 1
    delay_s = budgets.backoff_s(failures, f"formation {turn.run.generation}")
    turn.set(join_failures=failures, retry_s=turn.now_s + delay_s)
    if delay_s:
        turn.note(BackingOff(seconds=round(delay_s, 3), reason=reason))
