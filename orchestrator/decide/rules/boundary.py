"""All members have reached the end of their grant: what was waiting for that?

Rule: the end of the run, with its last save, comes before a planned re-form.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.decide import save_policy, save_under_way
from orchestrator.decide.actions import Outcome
from orchestrator.decide.phases import Phase
from orchestrator.decide.run import Ending
from orchestrator.decide.turn import Turn


def meet(turn: Turn) -> None:
    """Save and end, or form the group anew."""
    run = turn.run
    if run.phase is not Phase.TRAINING or not run.is_at_boundary:
        return
    if run.ending is not None or run.step >= run.policy.until:
        how = run.ending or Ending(Outcome.DONE, f"step {run.policy.until} is reached")
        ended = run.saves.ends_with(*run.place)
        if ended or save_policy.too_many_failed(run.policy.saving, run.saves):
            turn.set(ending=replace(how, at_once=True))
        else:
            _save_for_the_last_time(turn)
    elif run.reforms:
        turn.gather(run.reform)


def _save_for_the_last_time(turn: Turn) -> None:
    """Save where the group stands, unless a save is under way, or the last try was just now."""
    run = turn.run
    if run.saves.in_flight is None and turn.now_s >= run.saves.again_s:
        save_under_way.agree(turn, run.step, run.seats[0], run.members, last=True)
        save_under_way.send(turn, run.members, run.granted_end, run.granted_position)
