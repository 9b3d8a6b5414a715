"""Which group does this worker belong to, who has come, and how does it leave?

Rule: one live session at a time, for one generation. Ranks meet before the first step of a
generation: from then on each holds a connection to its neighbours, and whoever dies or leaves is
noticed by all. Leaving is allowed from any thread, at any time, and final for the generation::

    (none) ── form ──► formed ── enter ──► met
                         │                  │
                         └──── abandon ─────┴──► left ── form ──► …
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from orchestrator.errors import GraphRefused, PeerLost
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.training.engine.host_memory import give_back
from orchestrator.training.engine.options import GroupSpec, TrainingOptions
from orchestrator.training.nccl import addresses
from orchestrator.training.nccl.exchange import Exchange
from orchestrator.training.nccl.sessions import GroupSession

MEET_WITHIN_S = 300.0
"""Longest wait for the other ranks' first step of a generation; the driver finds out earlier who
doesn't come.
"""


class Membership:
    """The groups of one imported graph, one after the other.

    Args:
        graph: whether it may be trained by a group, and its train operations.
        imported: the imported TensorFlow graph.
        options: host, devices and threads.
        vote: see ``Exchange``.
    """

    def __init__(
        self,
        graph: WorkerGraph,
        imported: Any,
        options: TrainingOptions,
        vote: Callable[[], np.ndarray],
    ) -> None:
        self._refused = graph.group_refused
        self._options = options
        self._imported = imported
        largest = 1 if self._refused else options.max_world_size
        self._exchange = Exchange(imported, graph.targets, largest, vote, options.gradient_scale)
        self._reservation: addresses.Reservation | None = None
        self._live: GroupSession | None = None
        self._left = threading.Event()
        self._met = False

    @property
    def group(self) -> GroupSpec | None:
        """The group of the live session."""
        return self._live.group if self._live else None

    @property
    def live(self) -> GroupSession:
        """The live session."""
        if self._live is None:
            raise RuntimeError("form() comes first")
        return self._live

    @property
    def left(self) -> bool:
        """Whether this worker has left its group."""
        return self._left.is_set()

    def reserve_address(self) -> str:
        """``host:port`` under which the next ``form`` will serve. Raises AddressTaken."""
        if self._reservation is not None:
            self._reservation.release()
        self._reservation = addresses.reserve()
        return f"{self._options.host}:{self._reservation.port}"

    def form(self, group: GroupSpec) -> None:
        """Close the old session and open the one of ``group``; the variables aren't set after that.

        Raises:
            GraphRefused: the graph, or this worker, can't be in so large a group.
            AddressTaken: another process took the server's port.
        """
        if group.world_size > 1 and (
            self._refused or self._options.max_world_size < group.world_size
        ):
            why = (
                self._refused
                or f"the worker was started for at most {self._options.max_world_size} workers"
            )
            raise GraphRefused(
                f"this graph can't train on {group.world_size} workers: {why}",
                remedy="Use --workers 1",
            )
        self.close()
        give_back()  # the old session's variables, before the new one has its own
        self._left.clear()
        self._met = False
        self._exchange.connect(group.world_size)
        reservation, self._reservation = self._reservation, None
        self._live = GroupSession(self._imported, self._options, group, reservation)

    def feeds(self) -> dict[str, Any]:
        """What every run of the group's session must be fed, by tensor name."""
        live = self.live
        return (
            self._exchange.feeds(live.group.world_size, live.group.generation)
            if live.shared
            else {}
        )

    def enter(self, timeout_s: float | None) -> None:
        """Before a step: be in the group, and wait for the others before the first one.

        Raises:
            PeerLost: this worker has left, or left while it waited.
            tf.errors.OpError: another rank left, or didn't come in time.
        """
        self.must_be_in()
        live = self.live
        # Without seams nothing of the graph crosses processes, so there is nobody to wait for
        if live.shared and not self._met and self._exchange.probe:
            live.meet(
                self._exchange.probe,
                self.feeds(),
                self._left,
                min(timeout_s or MEET_WITHIN_S, MEET_WITHIN_S),
            )
            self.must_be_in()  # ``abandon`` may have ended the wait
        self._met = True

    def must_be_in(self) -> None:
        """Raise PeerLost where this worker has left the group."""
        if self.left:
            group = self.live.group
            raise PeerLost(
                f"rank {group.rank}: this worker has left generation {group.generation} of the group",
                remedy="Form a new group and take the step again",
                details={"rank": group.rank, "generation": group.generation},
            )

    def abandon(self, generation: int | None = None) -> None:
        """Leave the group, and let all its members know; see ``Trainer.abandon``."""
        live = self._live
        if live is None or not live.shared or generation not in (None, live.group.generation):
            return
        self._left.set()
        # Who waits for the group to be complete is told by an error of it, not by a cut connection
        met = self._met
        if not met:
            live.spoil(
                self._exchange.probe,
                self._exchange.feeds(live.group.world_size + 1, live.group.generation),
            )
        live.leave(met=met)

    def close(self) -> None:
        """End the session; peers that wait for this rank learn that it left."""
        live, self._live = self._live, None
        if live is not None:
            live.leave(met=self._met)
            live.close()

    def release_address(self) -> None:
        """Give back a reserved port that no group was formed on."""
        if self._reservation is not None:
            self._reservation.release()
            self._reservation = None
