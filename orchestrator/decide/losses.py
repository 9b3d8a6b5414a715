"""What does a worker's loss cost, and may the run go on after it?

Rule: every loss is judged once (``recovery.after_loss``) and paid for once (``budgets``). A worker
without a rank can't end a run whose members go on without it.
"""

from __future__ import annotations

from orchestrator.decide import crew, endings, recovery
from orchestrator.decide.events import Gone
from orchestrator.decide.roster import Stage, Worker
from orchestrator.decide.turn import Turn


def pay(turn: Turn, worker: Worker, event: Gone, *, begun: bool) -> None:
    """Pay for a loss, and see whether the run can go on. ``begun``: the worker's generation was
    training.
    """
    run = turn.run
    verdict = recovery.after_loss(
        event.cause,
        event.detail,
        worker.node,
        run.place,
        begun,
        run.budgets,
        run.streak,
        turn.now_s,
    )
    together = verdict.budgets.spent(turn.now_s) == run.budgets.spent(turn.now_s)
    turn.set(budgets=verdict.budgets, streak=verdict.streak, failures=run.failures + (not together))
    if run.ending is not None:
        return
    # A worker that can't load may lie on a bad node: others that say the same show that it doesn't,
    # one that has loaded that it does
    enough = min(recovery.START_ERROR_LIMIT, run.target + run.policy.sizes.standby)
    agreed = verdict.streak.times >= enough and not crew.in_stage(
        turn.run, Stage.WARM, Stage.MEMBER
    )
    if event.error is not None and (worker.stage is not Stage.STARTING or agreed):
        endings.give_up(turn, event.detail, event.error)
    elif isinstance(verdict, recovery.GiveUp):
        endings.give_up_recovering(turn, verdict.reason)
