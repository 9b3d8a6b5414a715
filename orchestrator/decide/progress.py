"""Does a worker that copies, fetches, sets or saves state still get on with it?

Rule: copying, fetching, assigning and saving take as long as the state is large, so their deadlines
look at the bytes that move and not at the clock alone. Workers of one node fetch a checkpoint
together: who waits at the lock is as far as the one that fetches.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.decide.doing import Doing
from orchestrator.decide.roster import Stage, Worker
from orchestrator.decide.run import Run

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
STATE_MOVES = frozenset({Doing.COPYING, Doing.STAGING, Doing.SAVING})
"""A member that does one of them comes to no step boundary before it has done it."""
PASS_BYTES_PER_S = 50e6
"""A state on its way through the object store can't be watched: it gets the time of a slow network.
"""
STILL_S = {
    Doing.COPYING: COPY_STILL_S,
    Doing.STAGING: STAGE_STILL_S,
    Doing.JOINING: JOIN_STILL_S,
    Doing.SAVING: SAVE_STILL_S,
}
"""How long what is done with a state may move nothing."""


def fetched_s(run: Run) -> dict[str, float]:
    """When a node's fetch of a checkpoint last moved, by node; asked once for all workers."""
    found: dict[str, float] = {}
    for worker in run.workers.values():
        if worker.doing is Doing.STAGING:
            found[worker.node] = max(worker.moved_s, found.get(worker.node, worker.moved_s))
    return found


def is_moving(worker: Worker, fetched: Mapping[str, float], now_s: float) -> bool:
    """Whether the worker is at something that takes as long as its state is large, and gets on with
    it. ``fetched``: ``fetched_s``.
    """
    bound_s = STILL_S.get(worker.doing)
    staging = worker.doing is Doing.STAGING
    moved_s = fetched.get(worker.node, worker.moved_s) if staging else worker.moved_s
    return bound_s is not None and now_s - moved_s <= bound_s


def slow_to_hold(run: Run, now_s: float, bound_s: float) -> list[str]:
    """Members that should have stopped between two steps by now. ``bound_s``: for those that have
    nothing to move.
    """
    late, fetched = [], fetched_s(run)
    for ident in run.members:
        worker = run.workers[ident]
        if worker.held:
            continue
        moving = worker.doing in STATE_MOVES and is_moving(worker, fetched, now_s)
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
        fetched = fetched_s(run)
        return [worker.ident for worker in busy if not is_moving(worker, fetched, now_s)]
    passing_s = (
        max((worker.size_bytes for worker in run.workers.values()), default=0) / PASS_BYTES_PER_S
    )
    group = [worker for worker in run.workers.values() if worker.stage is Stage.MEMBER]
    last_s = max([run.since_s, *(worker.moved_s for worker in group)])
    return [worker.ident for worker in lacking] if now_s - last_s > JOIN_STILL_S + passing_s else []
