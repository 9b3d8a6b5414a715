"""Which nodes are about to go, and is there room for more workers?

Rule: asked every second in a thread of its own; only what has changed is told. The notice of a
draining node is visible through a private call of Ray's only (the one that Ray Train uses), so it
stands here alone; where that is gone, losses are found when they happen.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import ray

from orchestrator.config_sections import WorkersConfig
from orchestrator.decide import events as ev
from orchestrator.workers.placement import room
from orchestrator.workers.scheduling import THREADS, Scheduler

log = logging.getLogger("tfresume")
WATCH_S = 1.0
"""Spot machines are announced to go 25 to 30 seconds ahead, so a second is soon enough, and asking
is one small call to Ray's head.
"""


class NodeWatch:
    """Tells of draining nodes, and of room where the run may grow."""

    def __init__(
        self,
        workers: WorkersConfig,
        tell: Callable[[ev.Event], None],
        scheduler: Scheduler = THREADS,
    ) -> None:
        self._workers, self._tell = workers, tell
        self._over = scheduler.flag()
        self._drained: set[str] = set()
        self._thread = scheduler.start(self._watch, "tfresume-nodes")

    def close(self) -> None:
        """Look no longer."""
        self._over.set()
        self._thread.join(5.0)

    def _watch(self) -> None:
        while not self._over.wait(WATCH_S):
            try:
                self._look()
            except Exception as error:  # noqa: BLE001 - only a convenience: without it losses are found when they happen
                log.debug("nodes can't be looked at: %s", error)

    def _look(self) -> None:
        draining = draining_nodes()
        fresh, self._drained = draining - self._drained, draining
        if fresh:
            self._tell(ev.Draining(tuple(sorted(fresh))))
        if (
            self._workers.largest > self._workers.count
            or self._workers.smallest < self._workers.count
        ):
            free = room(self._workers)
            if free > 0:
                self._tell(ev.Room(free))


def draining_nodes() -> set[str]:
    """Nodes that Ray was told will go, as ``Warm.node`` names them: address and the beginning of
    the identity.
    """
    identities = set(ray._private.state.state.get_draining_nodes())
    return {
        f"{node['NodeManagerAddress']}/{node['NodeID'][:8]}"
        for node in ray.nodes()
        if node["NodeID"] in identities
    }
