"""Are the members to stop?

Rule: they stop at their next step boundary, and say so with ``Held``; where a peer is gone, the step
under way is abandoned.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.decide.actions import Quiesce
from orchestrator.decide.incident import DRIVER
from orchestrator.decide.phases import Phase
from orchestrator.decide.turn import Turn
from orchestrator.journal.group_events import Gathering, ProcessesUsedUp


def gather(turn: Turn) -> None:
    """Stop the members where something has asked for that."""
    run = turn.run
    if not run.gather_for:
        return
    _use_up(turn)
    turn.enter(Phase.GATHERING)
    turn.set(gather_for="")
    turn.note(Gathering(reason=run.gather_for, generation=run.generation, step=run.step))
    running = tuple(ident for ident in run.members if not run.workers[ident].held)
    if running:
        turn.act(Quiesce(run.generation, running, urgent=not run.is_at_boundary))


def _use_up(turn: Turn) -> None:
    """A group that has trained breaks. A planned re-form at a boundary breaks nothing: nobody is
    inside a kernel then. Nor does a driver's death.
    """
    run = turn.run
    is_broken = run.incident is not None and run.incident.kind != DRIVER
    if run.phase is Phase.TRAINING and (is_broken or not run.is_at_boundary):
        use_up(turn)


def use_up(turn: Turn) -> None:
    """The members' group is broken: where processes can't be formed anew in place, they only hand
    their state on.
    """
    run = turn.run
    if run.policy.in_place or all(run.workers[ident].spent for ident in run.members):
        return
    turn.workers(replace(run.workers[ident], spent=True, leaving=True) for ident in run.members)
    turn.note(
        ProcessesUsedUp(
            workers=run.members,
            reason="a group that breaks isn't formed again in its processes",
        )
    )
