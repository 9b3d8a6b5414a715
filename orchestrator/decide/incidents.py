"""What disturbs the run, since when, and what did it cost?

Rule: there is one incident at a time. It begins with the first sign of the disturbance and ends with
the next step that all members have finished; its one record is written then, or when the run ends.
What is told and disturbs nothing is an incident that is over as it begins.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.decide.actions import Note
from orchestrator.decide.budgets import UNPLANNED
from orchestrator.decide.causes import Cause
from orchestrator.decide.incident import Incident
from orchestrator.decide.roster import Worker
from orchestrator.decide.run import Run
from orchestrator.decide.turn import Turn
from orchestrator.journal.run_events import IncidentOver


def open_incident(
    turn: Turn,
    kind: str,
    worker: Worker | None,
    rank: int | None,
    detail: str,
    exit_code: int | None = None,
) -> None:
    """Begin an incident, or say more exactly what the one that has begun is about."""
    run = turn.run
    if run.incident is None:
        began_s = (
            min(turn.now_s, run.moved_s) if kind == Cause.HUNG.value and run.moved_s else turn.now_s
        )
        incident = Incident(
            kind,
            rank,
            worker.node if worker else "",
            worker.ident if worker else "",
            began_s,
            turn.now_s,
            run.highest,
            run.world_size,
            detail,
            exit_code=exit_code,
        )
        turn.set(incident=incident)
    elif run.incident.rank is None and rank is not None:
        node, ident = (worker.node, worker.ident) if worker else ("", "")
        turn.set(
            incident=replace(
                run.incident,
                kind=kind,
                rank=rank,
                node=node,
                worker=ident,
                detail=detail,
                exit_code=exit_code,
                restarts=None,
            )
        )


def explain(turn: Turn, worker: str, kind: str, detail: str, exit_code: int | None) -> None:
    """What the worker died of whose loss the present incident is, now that it's known."""
    incident = turn.run.incident
    if incident is not None and incident.worker == worker:
        turn.set(
            incident=replace(
                incident, kind=kind, detail=detail or incident.detail, exit_code=exit_code
            )
        )


def note_passing(turn: Turn, kind: str, detail: str, done: str) -> None:
    """Write down an incident that disturbs nothing; one that is under way goes on beside it."""
    run, now_s = turn.run, turn.now_s
    incident = Incident(kind, None, "", "", now_s, now_s, run.highest, run.world_size, detail, done)
    turn.act(Note(incident_record(run, incident, now_s)))


def close_incident(turn: Turn, incident: Incident) -> None:
    """The group has taken a useful step again: write the incident's one record."""
    run = turn.run
    turn.set(incident=None)
    turn.act(Note(incident_record(run, incident, turn.now_s)))


def incident_record(run: Run, incident: Incident, now_s: float | None) -> IncidentOver:
    """The record of an incident; ``now_s`` is None where the run ended before it was over."""
    resized = incident.world_size != run.world_size and run.policy.batches_per_step is None
    since = incident.resumed_from
    counts = incident.kind in UNPLANNED
    at_s = incident.detected_s if now_s is None else now_s
    borne = (run.budgets.spent(at_s), run.budgets.limit) if counts else incident.restarts
    return IncidentOver(
        kind=incident.kind,
        rank=incident.rank,
        node=incident.node,
        worker=incident.worker,
        detected_s=round(incident.detected_s - incident.began_s, 4),
        recovered_s=None if now_s is None else round(now_s - incident.began_s, 4),
        steps_redone=0 if since is None else max(0, incident.highest - since),
        action=incident.done,
        reason=incident.detail,
        generation=run.generation,
        step=run.step,
        world_size_before=incident.world_size,
        world_size=run.world_size,
        effective_batch=run.effective_batch if resized else None,
        on_resize=run.policy.sizes.on_resize if resized else None,
        exit_code=incident.exit_code,
        losses=borne[0] if borne else None,
        losses_allowed=borne[1] if borne else None,
    )
