"""Which connections does a group have while it comes together?

Rule: they belong to one who can cut them all at once, from any thread, so that nobody waits in a
greeting, or for a neighbour's memory, in a group that was called off.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Mapping

from orchestrator.errors import PeerLost
from orchestrator.training.group.authentication import BELL, DATA, Hello
from orchestrator.training.group.collectives import Collectives
from orchestrator.training.group.over_hosts import OverHosts
from orchestrator.training.group.over_sockets import OverSockets
from orchestrator.training.group.topology import Topology
from orchestrator.training.group.wires import Wires


class Links:
    """The connections of one member of a group that is being formed.

    Attributes:
        sockets: by purpose and peer.
    """

    def __init__(self, generation: int, rank: int, topology: Topology) -> None:
        self.generation, self.rank, self._topology = generation, rank, topology
        self.sockets: dict[tuple[int, int], socket.socket] = {}
        self._calling: socket.socket | None = None
        self._over = False
        self._changed = threading.Lock()

    def to_call(self) -> list[Hello]:
        """What this member connects for: to the lower ranks."""
        return [
            Hello(self.generation, self.rank, peer, purpose)
            for peer in self._topology.peers(self.rank)
            for purpose in self._purposes(peer)
            if peer < self.rank
        ]

    def to_come(self) -> set[Hello]:
        """What the higher ranks connect for."""
        return {
            Hello(self.generation, peer, self.rank, purpose)
            for peer in self._topology.peers(self.rank)
            for purpose in self._purposes(peer)
            if peer > self.rank
        }

    @property
    def over(self) -> bool:
        """Whether all was cut."""
        return self._over

    def calling(self, connection: socket.socket) -> None:
        """This connection is being made; it's cut with the others. Raises OSError where all is over
        already.
        """
        with self._changed:
            if self._over:
                raise ConnectionAbortedError("the generation was called off")
            self._calling = connection

    def add(self, hello: Hello, connection: socket.socket) -> None:
        """A connection that stands."""
        with self._changed:
            self._calling = None
            self.sockets[
                hello.purpose, hello.called if hello.caller == self.rank else hello.caller
            ] = connection
            if self._over:
                _shut(connection)

    def cut(self) -> None:
        """Whoever waits in one of the connections learns that it's over, from any thread.

        They are shut and not closed: a descriptor that is closed while another thread waits on it
        may be another file's by then.
        """
        with self._changed:
            self._over = True
            for connection in (*self.sockets.values(), *([self._calling] if self._calling else [])):
                _shut(connection)

    def close(self) -> None:
        """Cut what is there."""
        with self._changed:
            self._over = True
            for connection in self.sockets.values():
                connection.close()

    def collectives(self, lifelines: Mapping[int, socket.socket]) -> Collectives:
        """What the members do together over these connections.

        Args:
            lifelines: of peers; see ``Wires``.

        Raises:
            PeerLost: a member is gone.
        """
        data = {peer: each for (purpose, peer), each in self.sockets.items() if purpose == DATA}
        bells = {peer: each for (purpose, peer), each in self.sockets.items() if purpose == BELL}
        wires = Wires(self.rank, self.generation, data, lifelines=lifelines)
        if all(len(ranks) == 1 for ranks in self._topology.hosts):
            return OverSockets(wires)
        partners = {peer: data[peer] for peer in self._topology.partners(self.rank)}
        bell_wires = Wires(self.rank, self.generation, bells, partners, lifelines=lifelines)
        return OverHosts(wires, bell_wires, self._topology)

    def lost(self, peer: int, why: str) -> PeerLost:
        """The error of a group that doesn't come together."""
        return PeerLost(
            f"rank {self.rank}: rank {peer} of generation {self.generation} {why}",
            remedy="Nothing changed on this rank; join a new group",
            details={"rank": self.rank, "peer": peer, "generation": self.generation},
        )

    def _purposes(self, peer: int) -> tuple[int, ...]:
        return (DATA, BELL) if peer in self._topology.neighbours(self.rank) else (DATA,)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
