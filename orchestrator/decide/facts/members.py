"""A member has told how far it is, that it has stopped, or that it has joined: what changes?

Rule: what a member says of another generation than the present one moves nothing but its own
entry.
"""

from __future__ import annotations

from typing import Any

from orchestrator.decide import endings, incidents
from orchestrator.decide.causes import Obstacle
from orchestrator.decide.doing import Doing
from orchestrator.decide.events import Held, Joined, JoinFailed, Progress
from orchestrator.decide.facts import store, workers
from orchestrator.decide.phases import Phase
from orchestrator.decide.roster import Stage, Worker
from orchestrator.decide.run import Run
from orchestrator.decide.turn import Turn, changed
from orchestrator.journal.group_events import JoinFailure

WORK_WINDOW_S = 5.0
"""Ten signs of life: what a process uses between two of them says little of a busy machine."""
WORK_SHARE = 0.2
"""Of one processor, within ``WORK_WINDOW_S``: an idle worker of Ray's uses a tenth of it at most."""
LONGEST_LEARNT_S = 3600.0
"""More isn't learnt from one step: the machine may have been suspended."""


def on_progress(turn: Turn, event: Progress) -> None:
    """A sign of life, perhaps of progress."""
    turn.quiet = True
    run = turn.run
    worker = run.workers.get(event.worker)
    if worker is None:
        return
    heard = _heard(worker, event, turn.now_s)
    if worker.rank is None or event.generation != run.generation or run.phase is not Phase.TRAINING:
        turn.worker(event.worker, **heard)
        return
    behind = run.place if worker.step is None else (worker.step, worker.position)
    place = step, position = max(event.step, behind[0]), max(event.position, behind[1])
    paced = event.steps_per_s > 0 and worker.rank == 0
    turn.set(
        workers=run.workers.put(changed(worker, {**heard, "step": step, "position": position})),
        highest=max(run.highest, step),
        fastest=max(run.fastest, step),
        fastest_position=max(run.fastest_position, position),
        leap=_leap(run, behind, place),
        laggards=run.laggards - (1 if place > behind and behind <= run.place else 0),
        step_time_s=1.0 / event.steps_per_s if paced else run.step_time_s,
        batch_rows=event.batch_rows or run.batch_rows,
    )
    if turn.run.laggards <= 0:
        _advance(turn)


def _leap(run: Run, before: tuple[int, int], after: tuple[int, int]) -> int:
    """By how much the graph's own counter grows in a step of the group."""
    steps = (after[1] - before[1]) // run.batches_taken
    return max(1, -(-(after[0] - before[0]) // steps)) if steps > 0 else run.leap


def _heard(worker: Worker, event: Progress, now_s: float) -> dict[str, Any]:
    """What a sign of life changes in a worker, whatever the run is doing."""
    heard: dict[str, Any] = {"heard_s": now_s, "doing": event.doing}
    if event.moved_bytes != worker.moved_bytes or event.doing is not worker.doing:
        heard |= {"moved_bytes": event.moved_bytes, "moved_s": now_s}
    moved = (event.step, event.position) != (worker.step, worker.position)
    if moved or event.doing is not worker.doing:
        heard["turned_s"] = now_s
    if now_s - worker.looked_s >= WORK_WINDOW_S:
        used_s = event.processor_s - worker.processor_s
        heard |= {"looked_s": now_s, "processor_s": event.processor_s}
        if used_s >= WORK_SHARE * (now_s - worker.looked_s):
            heard["worked_s"] = now_s
    if (
        event.doing is Doing.LOADING
        and worker.doing is not Doing.LOADING
        and worker.stage is Stage.STARTING
    ):
        heard["since_s"] = now_s  # it has found its place: from now on it loads
    return heard


def _advance(turn: Turn) -> None:
    run = turn.run
    places = [(run.workers[ident].step or 0, run.workers[ident].position) for ident in run.members]
    slowest = min(places)
    turn.set(laggards=places.count(slowest))
    if slowest <= run.place:
        return
    if slowest[0] > run.step:
        turn.set(counted_s=turn.now_s, standing=False)
    passed = bool(run.suspicions) and slowest > run.suspected
    took_s = turn.now_s - run.moved_s if run.stepped or passed else 0.0
    turn.set(
        longest_s=max(run.longest_s, min(took_s, LONGEST_LEARNT_S)),
        suspicions=0 if passed else run.suspicions,
        step=slowest[0],
        position=slowest[1],
        moved_s=turn.now_s,
        stepped=True,
        fruitless=0,
        failures=0,
        join_failures=0,
        last_cause="",
    )
    if run.incident is not None:
        incidents.close_incident(turn, run.incident)


def on_held(turn: Turn, event: Held) -> None:
    """A member has stopped."""
    run = turn.run
    if run.rank_of(event.worker) is None:
        return
    worker = run.workers[event.worker]
    if event.generation != worker.generation:
        return
    step = None if worker.tainted else event.step
    turn.worker(
        event.worker,
        held=True,
        joined=False,
        step=step,
        position=event.position,
        address=event.address,
        heard_s=turn.now_s,
        size_bytes=event.size_bytes,
        runs=event.runs,
        gives=event.gives,
        takes=event.takes,
        share=event.share,
    )
    turn.set(highest=max(run.highest, step or 0))
    told = event.generation == run.generation and not run.pieced
    if run.policy.peers_tell and told:
        for rank in event.dead:
            workers.on_seen_dead(turn, rank)
    if event.why and run.phase in (Phase.TRAINING, Phase.FORMING):
        turn.set(last_cause=event.why)
        incidents.open_incident(turn, "peer lost", None, None, event.why)
    turn.gather(event.why or "a member stopped")


def on_joined(turn: Turn, event: Joined) -> None:
    """A member is ready to step."""
    run = turn.run
    if event.generation != run.generation or run.rank_of(event.worker) is None:
        return
    if run.phase is not Phase.FORMING:
        turn.worker(event.worker, tainted=False)
        return
    turn.worker(
        event.worker,
        joined=True,
        tainted=False,
        step=event.step,
        position=run.position,
        heard_s=turn.now_s,
        took=(event.rows, event.size_bytes),
    )


def on_join_failed(turn: Turn, event: JoinFailed) -> None:
    """A member lives but couldn't join. It says what stood in its way: what no further try can help
    ends the run with that very error, everything else is tried again, with a back-off.
    """
    run = turn.run
    if event.generation != run.generation or run.rank_of(event.worker) is None:
        return
    rank = run.rank_of(event.worker)
    told = f"rank {rank} ({event.worker}) couldn't join: {event.detail}"
    turn.note(
        JoinFailure(
            worker=event.worker,
            rank=rank,
            reason=event.detail,
            obstacle=event.obstacle.value,
            generation=event.generation,
        )
    )
    turn.set(last_cause=told)
    if run.phase is not Phase.FORMING:
        return  # the formation has failed already, and this member is asked to stop like the others
    match event.obstacle:
        case Obstacle.DAMAGED:
            store.accuse(turn, event.detail)
        case Obstacle.MISSING:
            turn.set(origin=None)
        case Obstacle.STORE:
            store.does_not_answer(turn, event.detail, event.error)
        case Obstacle.MISFIT:
            _cannot_help(turn, event)
        case Obstacle.PASSING:
            pass
    store.back_off(turn, told)
    turn.gather(told)


def _cannot_help(turn: Turn, event: JoinFailed) -> None:
    if turn.run.ending is None:
        endings.give_up(turn, event.detail, event.error)
