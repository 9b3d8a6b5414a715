"""How do messages of any size reach all members where some of them share a host?

Rule: each goes to its neighbours, once to every other host, and from there to the neighbours. The
rails of a host carry its messages evenly.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from orchestrator.training.group.agreement import HEADER, LARGEST
from orchestrator.training.group.over_memory import SharedMemory
from orchestrator.training.group.topology import Topology
from orchestrator.training.group.wires import Wires, lost


class Messages:
    """One member's part in carrying messages.

    Args:
        shared: where the members of this host tell each other how long theirs are.
    """

    def __init__(self, wires: Wires, shared: SharedMemory, topology: Topology) -> None:
        self._wires, self._shared, self._topology = wires, shared, topology
        self._rank = wires.rank
        self._partners = topology.partners(wires.rank)
        self._on_rail = topology.place(wires.rank) < topology.rails

    def gathered(self, blob: bytes, number: int, record: bytes) -> dict[int, bytes | memoryview]:
        """What each member gave, by rank.

        Args:
            number, record: of the operation, on which all have agreed; each has told how long its
                message is.
        """
        here = self._from_host(blob, number, record)
        return here | self._from_other_hosts(here) if len(self._topology.hosts) > 1 else here

    def _from_host(self, blob: bytes, number: int, record: bytes) -> dict[int, bytes | memoryview]:
        """What the members of this host gave, by rank."""
        sizes = {
            peer: size
            for peer, (_, size) in self._shared.told(number).items()
            if peer != self._rank
        }
        heads = {peer: bytearray(HEADER.size) for peer in sizes}
        bodies = {peer: self._memory(peer, size) for peer, size in sizes.items()}
        self._wires.swap(
            {peer: [memoryview(record), memoryview(blob)] for peer in sizes},
            {peer: [memoryview(heads[peer]), bodies[peer]] for peer in sizes},
            to_the_dead=True,
        )
        for peer, head in heads.items():
            if head != record:
                raise lost(
                    self._rank,
                    peer,
                    self._wires.generation,
                    f"speaks nonsense: {bytes(head[:12])!r}",
                )
        return {self._rank: blob, **bodies}

    def _from_other_hosts(
        self, here: Mapping[int, bytes | memoryview]
    ) -> dict[int, bytes | memoryview]:
        """What the members of the other hosts gave, by rank: each rail fetches a part, and hands it
        to its neighbours.
        """
        fetched = self._fetched(here) if self._on_rail else {}
        for rank, message in fetched.items():
            self._shared.sizes[rank] = len(message)
        self._shared.meet(all_is_here=True)
        outgoing: dict[int, list[memoryview]] = {}
        incoming: dict[int, list[memoryview]] = {}
        handed: dict[int, memoryview] = {}
        for peer in self._topology.neighbours(self._rank):
            if self._on_rail:
                outgoing[peer] = list(fetched.values())
            carried = [
                rank
                for other in self._topology.partners(peer)
                for rank in self._topology.carried(other)
            ]
            memory = {rank: self._memory(peer, int(self._shared.sizes[rank])) for rank in carried}
            incoming[peer] = list(memory.values())
            handed |= memory
        self._wires.swap(outgoing, incoming, to_the_dead=True)
        return {**fetched, **handed}

    def _fetched(self, here: Mapping[int, bytes | memoryview]) -> dict[int, memoryview]:
        """What the partners carry, by rank, in the order in which it's handed on."""
        mine = [here[rank] for rank in self._topology.carried(self._rank)]
        sizes = np.array([len(message) for message in mine], np.uint64)
        lengths = {
            peer: np.zeros(len(self._topology.carried(peer)), np.uint64) for peer in self._partners
        }
        self._wires.swap(
            {peer: [sizes.data] for peer in self._partners},
            {peer: [each.data] for peer, each in lengths.items()},
        )
        found: dict[int, memoryview] = {}
        incoming: dict[int, list[memoryview]] = {}
        for peer, each in lengths.items():
            memory = {
                rank: self._memory(peer, int(size))
                for rank, size in zip(self._topology.carried(peer), each, strict=True)
            }
            incoming[peer] = list(memory.values())
            found |= memory
        outgoing = {peer: [memoryview(message) for message in mine] for peer in self._partners}
        self._wires.swap(outgoing, incoming, to_the_dead=True)
        return found

    def _memory(self, peer: int, size: int) -> memoryview:
        """Memory for a message. Raises PeerLost where the size is nonsense."""
        if size > LARGEST:
            raise lost(
                self._rank,
                peer,
                self._wires.generation,
                f"speaks nonsense: a message of {size} bytes",
            )
        return memoryview(bytearray(size))
