"""How far may the group run now?

Rule: to stop, to form anew or to finish, the driver grants no more steps; the end of what is granted
is the common boundary of all ranks. The saves that fall into a grant are agreed with it.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.decide import grant_policy, save_policy, save_under_way
from orchestrator.decide.actions import Grant
from orchestrator.decide.phases import Phase
from orchestrator.decide.turn import Turn
from orchestrator.journal.save_events import SaveSkipped

PATIENCE_S = 1.0
"""With ``skip``, a save that comes due waits for one that is younger than this, so that quick saves
are never skipped.
"""


def grant(turn: Turn) -> None:
    """Grant more steps where half of them is used up, and agree on the saves that fall into them."""
    run = turn.run
    if run.phase is not Phase.TRAINING or run.ending is not None:
        return
    end = grant_policy.next_end(
        run.granted_end, max(run.step, run.fastest), run.step_time_s, run.policy.until
    )
    # A group that is to be formed anew runs up to the end of its grant and stands still there
    if end <= run.granted_end or run.reform:
        return
    end, agreed = _agree(turn, run.granted_end, end)
    if end > run.granted_end or agreed:
        _send(turn, end, agreed)


def _agree(turn: Turn, after: int, end: int) -> tuple[int, tuple[int, ...]]:
    """The end that may be granted, at most ``end``, and the saves that are agreed with it."""
    policy = turn.run.policy.saving
    agreed: tuple[int, ...] = ()
    while (due := save_policy.due_step(policy, turn.run.saves, after, end, turn.now_s)) is not None:
        flight = turn.run.saves.in_flight
        if flight is None:
            agreed = save_under_way.agree(turn, due, turn.run.seats[0], turn.run.members)
        elif policy.when_busy == "skip" and turn.now_s - flight.since_s > PATIENCE_S:
            turn.set(saves=replace(turn.run.saves, last_step=due, last_s=turn.now_s, owed=False))
            turn.note(
                SaveSkipped(
                    step=due,
                    reason=f"the save of step {flight.step} is still under way",
                )
            )
        else:
            # The next save waits for this one: the group may run up to the step before it
            return max(after, due - 1), agreed
        after = max(after, due)
    return end, agreed


def _send(turn: Turn, end: int, agreed: tuple[int, ...]) -> None:
    run = turn.run
    if run.step >= run.granted_end:
        # the group stood at the end of what was granted: it begins to move only now
        turn.set(moved_s=turn.now_s)
    turn.set(granted_end=end)
    turn.act(Grant(run.generation, run.members, end, agreed, run.seats[0]))
