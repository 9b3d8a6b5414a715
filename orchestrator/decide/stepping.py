"""How far may the group run now, and what happens at a boundary?

Rule: to stop, to form anew or to finish, the driver stops extending the leases; their end is the
common boundary of all ranks.
"""

from __future__ import annotations

from typing import Any

from orchestrator.decide import ending, forming, leases, saves, saving
from orchestrator.decide.actions import Grant, Note
from orchestrator.decide.events import Doing, Pulse
from orchestrator.decide.run import Incident, Phase, Run, Stage, Worker
from orchestrator.decide.turn import Turn, changed
from orchestrator.journal.run_events import IncidentOver


def on_pulse(turn: Turn, event: Pulse) -> None:
    """A sign of life, perhaps of progress."""
    run = turn.run
    worker = run.workers.get(event.worker)
    if worker is None:
        return
    heard = _heard(worker, event, turn.now_s)
    if (
        event.worker not in run.members
        or event.generation != run.generation
        or run.phase is not Phase.TRAINING
    ):
        turn.worker(event.worker, **heard)
        return
    behind = worker.step if worker.step is not None else run.step
    step = max(event.step, behind)
    workers = dict(run.workers)
    workers[event.worker] = changed(worker, {**heard, "step": step})
    paced = event.steps_per_s > 0 and event.worker == run.seats[0]
    turn.set(
        workers=workers,
        highest=max(run.highest, step),
        fastest=max(run.fastest, step),
        laggards=run.laggards - (1 if step > behind and behind <= run.step else 0),
        step_time_s=1.0 / event.steps_per_s if paced else run.step_time_s,
        batch_rows=event.batch_rows or run.batch_rows,
    )
    if turn.run.laggards <= 0:
        _advance(turn)
    grant(turn)
    boundary(turn)


def _heard(worker: Worker, event: Pulse, now_s: float) -> dict[str, Any]:
    """What a sign of life changes in a worker, whatever the run is doing."""
    heard: dict[str, Any] = {"heard_s": now_s, "doing": event.doing}
    if event.moved_bytes != worker.moved_bytes or event.doing is not worker.doing:
        heard |= {"moved_bytes": event.moved_bytes, "moved_s": now_s}
    if (
        event.doing is Doing.LOADING
        and worker.doing is not Doing.LOADING
        and worker.stage is Stage.STARTING
    ):
        heard["since_s"] = now_s  # it has found its place: from now on it loads
    return heard


def _advance(turn: Turn) -> None:
    run = turn.run
    steps = [run.workers[ident].step or 0 for ident in run.members]
    slowest = min(steps)
    turn.set(laggards=steps.count(slowest))
    if slowest <= run.step:
        return
    turn.set(
        step=slowest,
        moved_s=turn.now_s,
        stepped=True,
        fruitless=0,
        failures=0,
        join_failures=0,
        last_cause="",
    )
    if run.incident is not None:
        close_incident(turn, run.incident)


def close_incident(turn: Turn, incident: Incident) -> None:
    """The group has taken a useful step again: write the incident's one record."""
    run = turn.run
    turn.set(incident=None)
    turn.act(Note(incident_record(run, incident, turn.now_s)))


def incident_record(run: Run, incident: Incident, now_s: float | None) -> IncidentOver:
    """The record of an incident; ``now_s`` is None where the run ended before it was over."""
    resized = incident.world_size != run.world_size and run.policy.batches_per_step is None
    since = incident.resumed_from
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
    )


def grant(turn: Turn) -> None:
    """Extend the leases where half of them is used up, and agree on the saves that fall into the
    extension.
    """
    run = turn.run
    if run.phase is not Phase.TRAINING or run.ending is not None or run.reform:
        return
    end = leases.next_end(
        run.lease_end, max(run.step, run.fastest), run.step_time_s, run.policy.until
    )
    if end <= run.lease_end:
        return
    end, agreed = saves.agree(turn, run.lease_end, end)
    if end > run.lease_end or agreed:
        _send(turn, end, agreed)


def _send(turn: Turn, end: int, agreed: tuple[int, ...]) -> None:
    run = turn.run
    if run.step >= run.lease_end:
        # the group stood at its lease's end: it begins to move only now
        turn.set(moved_s=turn.now_s)
    turn.set(lease_end=end)
    turn.act(Grant(run.generation, run.members, end, agreed, run.seats[0]))


def at_boundary(run: Run) -> bool:
    """Whether all members stand at the end of their lease."""
    return run.phase is Phase.TRAINING and run.step >= run.lease_end


def boundary(turn: Turn) -> None:
    """What was waiting for the boundary: a planned re-form, a stop, the end."""
    run = turn.run
    if not at_boundary(run):
        return
    if run.ending is not None or run.step >= run.policy.until:
        if run.saves.committed == run.step or saving.too_many_failed(run.policy.saving, run.saves):
            ending.finish(turn)
        elif run.saves.in_flight is None and turn.now_s >= run.saves.again_s:
            agreed = saves.agree_now(turn, run.step, run.seats[0], run.members)
            turn.act(Grant(run.generation, run.members, run.lease_end, agreed, run.seats[0]))
    elif run.reform:
        forming.gather(turn, run.reform)
