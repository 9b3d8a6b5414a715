"""How does a worker come together with the other members of its group, and how does it part from
them?

Rule: one listener for the process's life; one mesh of connections per generation, formed when the
first step wants it. Leaving is allowed from any thread, at any time, and final for the generation::

    (none) ── join ──► joined ── meet ──► met
                         │                 │
                         └──── abandon ────┴──► left ── join ──► …
"""

from __future__ import annotations

import threading

from orchestrator.errors import PeerLost
from orchestrator.training.engine.options import GroupSpec
from orchestrator.training.group.collectives import Collectives
from orchestrator.training.group.listener import Listener

MEET_WITHIN_S = 300.0
"""Longest wait for the other ranks; the driver finds out earlier who doesn't come."""


class Meeting:
    """This worker's memberships, one after the other.

    Args:
        host: the name or address by which the other workers reach this one.
        secret: what peers prove to each other.
    """

    def __init__(self, host: str, secret: bytes) -> None:
        self._listener = Listener(secret, host)
        self._mesh: Collectives | None = None
        self._left = threading.Event()
        self._changing = threading.Lock()
        self.spec: GroupSpec | None = None

    @property
    def address(self) -> str:
        """Where peers reach this worker; the same for the process's life."""
        return self._listener.address

    def join(self, spec: GroupSpec) -> None:
        """Part from the old group and belong to this one; nobody is waited for yet."""
        self.abandon(None)
        with self._changing:
            self._close_mesh()
            self._left = threading.Event()
            self.spec = spec

    def meet(self, timeout_s: float | None) -> Collectives:
        """The mesh of all ranks, waited for where it isn't there.

        Raises:
            PeerLost: this worker has left, a rank is gone, or didn't come in time.
        """
        spec, left = self.spec, self._left
        if spec is None:
            raise RuntimeError("join() comes first")
        self._must_be_in(spec, left)
        if self._mesh is None:
            within_s = min(timeout_s or MEET_WITHIN_S, MEET_WITHIN_S)
            mesh = self._listener.join(
                spec.generation, spec.rank, spec.addresses, cancelled=left, timeout_s=within_s
            )
            with self._changing:
                self._mesh = mesh
            self._must_be_in(spec, left)
        return self._mesh

    def dead(self) -> tuple[int, ...]:
        """Ranks of this group whose processes have ended, as far as it's known here."""
        return () if self.spec is None else self._listener.dead(self.spec.generation)

    def abandon(self, generation: int | None) -> None:
        """Leave the group, from any thread; whoever waits here or at a peer gets PeerLost at once.

        Args:
            generation: do nothing where the group is another generation's.
        """
        spec = self.spec
        if spec is None or spec.world_size == 1 or generation not in (None, spec.generation):
            return
        first = not self._left.is_set()
        self._left.set()
        self._listener.cancel(spec.generation)
        with self._changing:
            met = self._mesh is not None
            if self._mesh is not None:
                self._mesh.abandon()
        if first and not met:
            # In a thread, since a peer that is stopped takes seconds to not answer
            told = (spec.generation, spec.rank, spec.addresses)
            threading.Thread(
                target=self._listener.decline, args=told, name="tfresume-decline", daemon=True
            ).start()

    def close(self) -> None:
        """Leave, and listen no longer."""
        self.abandon(None)
        with self._changing:
            self._close_mesh()
        self._listener.close()

    def _close_mesh(self) -> None:
        mesh, self._mesh = self._mesh, None
        if mesh is not None:
            mesh.close()

    def _must_be_in(self, spec: GroupSpec, left: threading.Event) -> None:
        if left.is_set():
            with self._changing:
                self._close_mesh()
            raise PeerLost(
                f"rank {spec.rank}: this worker has left generation {spec.generation} of the group",
                remedy="Join a new group and take the step again",
                details={"rank": spec.rank, "generation": spec.generation},
            )
