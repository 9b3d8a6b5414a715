"""The run is to end: what is still to be done before?

Rule: every end that leaves time for it saves first. The input's end is one only when all steps
before it are saved. ``Finish`` is final.
"""

from __future__ import annotations

from orchestrator.decide import crew, incidents, recovery, save_policy, save_under_way
from orchestrator.decide.actions import Finish, Note
from orchestrator.decide.phases import Phase
from orchestrator.decide.run import Run
from orchestrator.decide.turn import Turn
from orchestrator.journal.run_events import RunEnded


def end(turn: Turn) -> None:
    """Finish where nothing is left to save; save the highest state where all members stand still.
    A group that trains runs to its boundary first, which is for the rule ``boundary``.
    """
    run = turn.run
    if run.ending is None:
        return
    if run.ending.at_once:
        finish(turn)
    elif run.phase is Phase.TRAINING:
        return
    elif _has_lost_its_last_step(run):
        flight = run.saves.in_flight
        if flight is None or not flight.committing:  # else that tells soon
            # Gone with whoever had it: it's taken once more, and the input ends once more
            turn.set(ending=run.ending.instead)
    elif run.phase is Phase.FINDING or crew.nobody_has_a_state(run):
        finish(turn)  # however long some of them would still fetch a checkpoint
    elif run.phase is not Phase.FORMING and crew.stands_still(run):
        end_gathered(turn)


def _has_lost_its_last_step(run: Run) -> bool:
    """Whether this end needs a step that is saved nowhere and that nobody has any more."""
    if run.ending is None or run.ending.last_step is None:
        return False
    if not (crew.nobody_has_a_state(run) or crew.stands_still(run)):
        return False  # who still runs hasn't told yet how far it is
    steps = [run.saves.full, *(run.workers[ident].step for ident in crew.holders(run))]
    return max((step for step in steps if step is not None), default=-1) < run.ending.last_step


def end_gathered(turn: Turn) -> None:
    """All living members stand still: save the highest state, then finish."""
    run = turn.run
    places = {ident: run.workers[ident].place for ident in run.members}
    writer = recovery.donor(run.members, places, differing=run.divergence)
    if writer is None or (run.policy.saving.in_parts and not crew.is_complete(run)):
        if not crew.forms_to_save(run):
            finish(turn)
        return
    step, position = run.workers[writer].step or 0, run.workers[writer].position
    saved = run.saves.ends_with(step, position)
    if saved or save_policy.too_many_failed(run.policy.saving, run.saves):
        turn.set(step=step)
        finish(turn)
    elif run.saves.in_flight is None and turn.now_s < run.saves.again_s:
        return  # the writer is still busy with an earlier save, or the store has just failed
    elif run.saves.in_flight is None or not run.saves.in_flight.is_reached(step, position):
        if run.saves.in_flight is not None:
            save_under_way.cancel(turn, "the run ends before that step")
        turn.set(step=step, position=position)
        # Of divided tables every rank holds rows that nobody else has
        workers = run.seats if run.policy.saving.in_parts else (writer,)
        save_under_way.agree(turn, step, workers[0], workers, last=True)
        end = max(run.granted_end, step), max(run.granted_position, position)
        save_under_way.send(turn, workers, *end)


def finish(turn: Turn) -> None:
    """The end."""
    run = turn.run
    how = run.ending
    assert how is not None
    if run.saves.in_flight is not None and not run.saves.in_flight.committing:
        save_under_way.cancel(turn, "the run ends before it's written")
        run = turn.run
    # Where another driver has followed, the incident is still under way, and that one tells it
    followed = how.error is not None and how.error.get("kind") == "LeaseLost"
    if run.incident is not None and not followed:
        turn.act(Note(incidents.incident_record(run, run.incident, None)))
    turn.enter(Phase.ENDED)
    turn.note(
        RunEnded(
            outcome=how.outcome.value,
            reason=how.reason,
            step=run.step,
            checkpoint_step=run.saves.committed,
        )
    )
    turn.act(Finish(how.outcome, how.reason, run.step, how.stop_cause, how.error))
