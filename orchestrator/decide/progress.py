"""Does a worker that copies, fetches, sets or saves state still get on with it?

Rule: copying, fetching, assigning and saving take as long as the state is large, so their deadlines
look at the bytes that move and not at the clock alone. Workers of one node fetch a checkpoint
together: who waits at the lock is as far as the one that fetches.
"""

from __future__ import annotations

from orchestrator.decide.doing import Doing
from orchestrator.decide.run import Run, Stage, Worker

COPY_STILL_S = 60.0
"""Copies go in pieces of 256 MB; an overcommitted machine that swaps moved 10 MB/s."""
STAGE_STILL_S = 600.0
"""A fetch takes its own stalls for failures, after 60 s, and tries five times with a back-off
before it says so.
"""
JOIN_STILL_S = 180.0
"""Opening a session and the user's input moves nothing that can be counted."""
SAVE_STILL_S = 600.0
"""As STAGE_STILL_S, for uploads."""
PASS_BYTES_PER_S = 50e6
"""A state on its way through the object store can't be watched: it gets the time of a slow network.
"""
STILL_S = {Doing.COPYING: COPY_STILL_S, Doing.STAGING: STAGE_STILL_S, Doing.JOINING: JOIN_STILL_S}
"""How long what is done with a state may move nothing."""


def moved_s(run: Run, worker: Worker) -> float:
    """When the worker's state last moved."""
    if worker.doing is not Doing.STAGING:
        return worker.moved_s
    fetching = (
        other.moved_s
        for other in run.workers.values()
        if other.doing is Doing.STAGING and other.node == worker.node
    )
    return max(worker.moved_s, *fetching)


def is_moving(run: Run, worker: Worker, now_s: float) -> bool:
    """Whether the worker is at something that takes as long as its state is large, and gets on with
    it.
    """
    bound_s = STILL_S.get(worker.doing)
    return bound_s is not None and now_s - moved_s(run, worker) <= bound_s


def slow_to_hold(run: Run, now_s: float, bound_s: float) -> list[str]:
    """Members that should have stopped between two steps by now. ``bound_s``: for those that have
    nothing to move.
    """
    late = []
    for ident in run.members:
        worker = run.workers[ident]
        if worker.held:
            continue
        moving = worker.doing in (Doing.COPYING, Doing.STAGING) and is_moving(run, worker, now_s)
        last_s = max(run.since_s, worker.moved_s if worker.doing is Doing.JOINING else 0.0)
        if not moving and now_s - last_s > bound_s:
            late.append(ident)
    return late


def slow_to_join(run: Run, now_s: float) -> list[str]:
    """Members that should have joined by now. Who waits for another's state waits for as long as
    that one gets on.
    """
    lacking = [run.workers[ident] for ident in run.members if not run.workers[ident].joined]
    busy = [worker for worker in lacking if worker.doing in STILL_S]
    if busy:
        return [worker.ident for worker in busy if not is_moving(run, worker, now_s)]
    passing_s = (
        max((worker.size_bytes for worker in run.workers.values()), default=0) / PASS_BYTES_PER_S
    )
    group = [worker for worker in run.workers.values() if worker.stage is Stage.MEMBER]
    last_s = max([run.since_s, *(worker.moved_s for worker in group)])
    return [worker.ident for worker in lacking] if now_s - last_s > JOIN_STILL_S + passing_s else []
