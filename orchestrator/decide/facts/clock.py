"""Time has passed: what changes?

Rule: silence isn't judged right after the driver itself was standing still (a paused driver would
else find everybody silent and kill them all).
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.decide.events import Tick
from orchestrator.decide.turn import Turn
from orchestrator.journal.run_events import DriverPaused

PAUSE_S = 1.5
"""A gap between two ticks (a quarter of a second apart) from which on the driver itself must have
stood still.
"""


def on_tick(turn: Turn, _: Tick) -> None:
    """The clock was looked at: the rule ``deadlines`` has something to do."""
    run = turn.run
    gap_s = 0.0 if run.ticked_s is None else turn.now_s - run.ticked_s
    turn.set(ticked_s=turn.now_s)
    if gap_s > PAUSE_S:
        turn.note(DriverPaused(seconds=round(gap_s, 3)))
        turn.workers(
            replace(worker, heard_s=turn.now_s, moved_s=turn.now_s)
            for worker in run.workers.values()
        )
        turn.set(
            moved_s=turn.now_s,
            since_s=turn.now_s,
        )
