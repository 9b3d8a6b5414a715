"""Which answers of the rules are altered, for the invariants of the simulation to catch?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide import machine
from orchestrator.decide.phases import Phase
from orchestrator.decide.run import Run


def altering(
    change: Callable[[Run, Any, Run, list[act.Action]], tuple[Run, list[act.Action]]],
) -> Callable[..., Any]:
    """The real rules, with their answer altered."""

    def advance(run: Run, event: Any, now_s: float) -> Any:
        after, actions = machine.advance(run, event, now_s)
        altered, others = change(run, event, after, list(actions))
        return altered, tuple(others)

    return advance


def same_number(
    before: Run, event: Any, after: Run, actions: list[act.Action]
) -> tuple[Run, list[act.Action]]:
    return (
        replace(after, generation=before.generation - 1) if before.generation > 1 else after
    ), actions


def undead(
    before: Run, event: Any, after: Run, actions: list[act.Action]
) -> tuple[Run, list[act.Action]]:
    if before.phase is Phase.ENDED:
        return replace(before, phase=Phase.TRAINING), []
    return after, [action for action in actions if not isinstance(action, act.Finish)]


def twice_the_first(
    before: Run, event: Any, after: Run, actions: list[act.Action]
) -> tuple[Run, list[act.Action]]:
    return replace(after, members=(*after.members[:1], *after.members[:1])), actions


def loyal(
    before: Run, event: Any, after: Run, actions: list[act.Action]
) -> tuple[Run, list[act.Action]]:
    return (
        replace(after, members=before.members) if isinstance(event, ev.Gone) else after
    ), actions


def late_saves(
    before: Run, event: Any, after: Run, actions: list[act.Action]
) -> tuple[Run, list[act.Action]]:
    grants = [
        replace(item, saves=(after.step - 30,))
        if isinstance(item, act.Grant) and after.step > 30
        else item
        for item in actions
    ]
    return after, grants


def mislabelled(
    before: Run, event: Any, after: Run, actions: list[act.Action]
) -> tuple[Run, list[act.Action]]:
    return after, [
        replace(item, written=replace(item.written, step=item.written.step + 1))
        if isinstance(item, act.Commit)
        else item
        for item in actions
    ]


def impatient(
    before: Run, event: Any, after: Run, actions: list[act.Action]
) -> tuple[Run, list[act.Action]]:
    hung = (
        [act.EndWorker(after.members[0], ev.Cause.HUNG.value)]
        if isinstance(event, ev.Tick) and after.members
        else []
    )
    return after, [*actions, *hung]


def neighbours(
    before: Run, event: Any, after: Run, actions: list[act.Action]
) -> tuple[Run, list[act.Action]]:
    if not isinstance(event, ev.Held) or not event.dead:
        return after, actions
    wrong = tuple((rank + 1) % before.world_size for rank in event.dead)
    run, found = machine.advance(before, replace(event, dead=wrong), before.ticked_s or 0.0)
    return run, list(found)


def breaking(
    before: Run, event: Any, after: Run, actions: list[act.Action]
) -> tuple[Run, list[act.Action]]:
    broken = isinstance(event, ev.Tick) and after.phase is Phase.TRAINING
    return after, [
        *actions,
        act.BreakStep(after.members[0], after.generation),
    ] if broken else actions


ALTERED: dict[str, tuple[str, Any]] = {
    "a generation number was used again": ("kills with a standby", same_number),
    "the end wasn't final": ("calm", undead),
    "one worker has two ranks": ("calm", twice_the_first),
    "a dead worker is a member": ("kills with a standby", loyal),
    "a save was agreed for a step that is past": ("calm", late_saves),
    "saved bytes aren't those of the agreed step": ("calm", mislabelled),
    "somebody was called hung who wasn't": ("slow nodes", impatient),
    "a step was broken off that didn't hang": ("calm", breaking),
    "one who was seen dead by nobody is gone": ("kills without a standby", neighbours),
}
