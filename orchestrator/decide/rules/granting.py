"""How far may the group run now?

Rule: to stop, to form anew or to finish, the driver grants no more steps; the end of what is granted
is the common boundary of all ranks. The saves that fall into a grant are agreed with it.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.decide import grant_policy, save_policy, save_under_way
from orchestrator.decide.doing import Doing
from orchestrator.decide.phases import Phase
from orchestrator.decide.run import Run
from orchestrator.decide.turn import Turn
from orchestrator.journal.save_events import SaveSkipped

PATIENCE_S = 1.0
"""With ``skip``, a save that comes due waits for one that is younger than this, so that quick saves
are never skipped.
"""


LATE_S = 600.0
"""A save by steps that the graph's own counter doesn't reach is made after about so long."""


def grant(turn: Turn) -> None:
    """Grant more steps where half of them is used up, and agree on the saves that fall into them."""
    run = turn.run
    if run.phase is not Phase.TRAINING or run.ending is not None:
        return
    fastest, until = max(run.step, run.fastest), run.policy.until
    step_s, taken = run.step_time_s, run.batches_taken
    ahead_s = _ahead_s(run)
    end = grant_policy.next_end(
        run.granted_end, fastest, step_s, until, each=run.leap, ahead_s=ahead_s
    )
    position = grant_policy.next_end(
        run.granted_position, run.fastest_position, step_s, None, each=taken, ahead_s=ahead_s
    )
    # A group that is to be formed anew runs up to the end of its grant and stands still there
    grows = end > run.granted_end or position > run.granted_position
    if not grows or fastest >= until or run.reforms:
        return
    end = _agree(turn, end, position)
    if end > run.granted_end or position > run.granted_position:
        _send(turn, end, position)


def _ahead_s(run: Run) -> float:
    """How many seconds of steps a grant reaches: fewer while one is on its way whom the group waits
    for, so that it needn't wait for a far boundary in its turn.
    """
    lacking = run.world_size < run.target and run.workers.tally.starting > 0
    return grant_policy.ahead_s(run.world_size, lacking=lacking)


def _agree(turn: Turn, end: int, position: int) -> int:
    """The end that may be granted, at most ``end``, once the saves up to there are agreed."""
    policy, after = turn.run.policy.saving, turn.run.granted_end
    while (due := _due(turn, after, end)) is not None:
        step, soon = due
        flight = turn.run.saves.in_flight
        if flight is None:
            _agree_on(turn, step, position if soon else None)
        elif (
            policy.when_busy == "skip"
            and turn.now_s - flight.since_s > PATIENCE_S
            and not _stands_still(turn.run)
        ):
            turn.set(saves=replace(turn.run.saves, last_step=step, last_s=turn.now_s, owed=False))
            turn.note(
                SaveSkipped(
                    step=step,
                    reason=f"the save of step {flight.step} is still under way",
                )
            )
        else:
            # The next save waits for this one: the group may run up to the step before it
            return max(after, step - 1)
        after = max(after, step)
    return end


def _stands_still(run: Run) -> bool:
    """Whether nobody comes to a further save before the one under way is over."""
    return any(run.workers[ident].doing is Doing.SAVING for ident in run.members)


def _due(turn: Turn, after: int, end: int) -> tuple[int, bool] | None:
    """The next step at which a save is due, and whether it's due wherever the group is next."""
    run = turn.run
    step = save_policy.due_step(run.policy.saving, run.saves, after, end)
    if step is not None:
        return step, False
    soon = save_policy.is_due(run.policy.saving, run.saves, run.step, turn.now_s)
    return (end, True) if soon else None


def _agree_on(turn: Turn, step: int, position: int | None) -> None:
    """Agree on a save at a step; where no position is given, at one that's far away at the latest."""
    run = turn.run
    if position is None:
        steps = grant_policy.steps_within(LATE_S, run.step_time_s)
        position = run.granted_position + steps * run.batches_taken
    last = step >= run.policy.until
    save_under_way.agree(turn, step, run.seats[0], run.members, position, last=last)


def _send(turn: Turn, end: int, position: int) -> None:
    run = turn.run
    if run.is_at_boundary:
        # the group stood at the end of what was granted: it begins to move only now
        turn.set(moved_s=turn.now_s)
    turn.set(granted_end=end, granted_position=position)
    save_under_way.send(turn, run.members, end, position)
