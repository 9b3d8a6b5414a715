"""What does one member do in each block of a sum in two levels?

Rule: everything that doesn't change from step to step is worked out once. A block has a part for
each rail, and in it one for each host. A rail adds its whole part within its host, sends every
other host's part to that host's member of the rail, adds what comes for its own, and sends that to
all while the next block is under way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from orchestrator.training.group.blocks import Adder, Additions, Block, Filler, blocks_of
from orchestrator.training.group.collectives import Sum
from orchestrator.training.group.results import aligned
from orchestrator.training.group.summation import Node, nodes_of
from orchestrator.training.group.topology import Topology
from orchestrator.training.group.wires import Wires

Area = Callable[[int, int], np.ndarray]
"""Gives a member's staging memory, by rank and turn."""


class SumPlan:
    """All that one sum into one result needs.

    Args:
        staging_bytes: size of a staging area.
        result: the host's, uint8.
    """

    def __init__(
        self,
        wanted: Sum,
        topology: Topology,
        rank: int,
        area: Area,
        staging_bytes: int,
        result: np.ndarray,
    ) -> None:
        room = staging_bytes // max(1, *map(len, wanted.held)) // 64 * 64
        blocks = blocks_of(wanted.layout, topology.rails * len(topology.hosts), room)
        self.blocks = len(blocks)

        def staged(member: int, place: int, turn: int) -> np.ndarray:
            memory: np.ndarray = area(member, turn)[place * room : (place + 1) * room]
            return memory

        # Even blocks go through one staging area, odd ones through the other: filling one never
        # waits for readers of the other
        self._fillers = {
            node: [Filler(wanted.layout, blocks, staged(rank, place, turn)) for turn in (0, 1)]
            for place, node in enumerate(wanted.held[rank])
        }
        members = topology.hosts[topology.host(rank)]
        self._shares: list[_Share] = []
        if topology.place(rank) < topology.rails:
            nodes = [
                (member, place, node)
                for member in members
                for place, node in enumerate(wanted.held[member])
            ]
            arriving = _Arriving(wanted, topology, rank, blocks)
            for number, block in enumerate(blocks):
                sources = {node: staged(member, place, number % 2) for member, place, node in nodes}
                self._shares.append(
                    _Share(wanted, topology, rank, block, sources, arriving, result)
                )

    def fill(self, number: int, flat: Mapping[Node, Sequence[np.ndarray]]) -> None:
        """Copy this member's nodes of block ``number`` to where the host's members see them."""
        for node, fillers in self._fillers.items():
            fillers[number % 2].fill(number, flat[node])

    def exchange(self, number: int, wires: Wires) -> None:
        """Add up this rail's share of block ``number``, and get the block before it from its
        owners.
        """
        if self._shares:
            self._shares[number].exchange(wires, self._shares[number - 1] if number else None)

    def finish(self, wires: Wires) -> None:
        """Get the last block from its owners."""
        if self._shares:
            self._shares[-1].finish(wires)


class _Arriving:
    """What comes from other hosts in a block: by partner, its host's nodes; and memory for them,
    used again for each block.
    """

    def __init__(self, wanted: Sum, topology: Topology, rank: int, blocks: Sequence[Block]) -> None:
        own = part_of(topology, rank)
        longest = max((block.parts[own][1] - block.parts[own][0] for block in blocks), default=0)
        self.nodes = {
            peer: host_nodes(wanted, topology, topology.host(peer))
            for peer in topology.partners(rank)
        }
        self.memory = {node: aligned(longest) for nodes in self.nodes.values() for node in nodes}


class _Share:
    """A rail's share of one block."""

    def __init__(
        self,
        wanted: Sum,
        topology: Topology,
        rank: int,
        block: Block,
        sources: Mapping[Node, np.ndarray],
        arriving: _Arriving,
        result: np.ndarray,
    ) -> None:
        begin, end = block.parts[part_of(topology, rank)]
        partners = {peer: block.parts[part_of(topology, peer)] for peer in topology.partners(rank)}
        low = min([begin, *(first for first, _ in partners.values())])
        high = max([end, *(last for _, last in partners.values())])
        within = {
            node: memory[low - block.begin : high - block.begin] for node, memory in sources.items()
        }
        # Alone on its rail a member has nothing to send on the way, and adds all at once
        self._within = Additions(wanted, low, high, within) if partners else None
        left = self._within.left if self._within else within
        ordered = [left[node] for node in sorted(left)]
        self._outgoing = {
            peer: [memory[first - low : last - low].data for memory in ordered]
            for peer, (first, last) in partners.items()
        }
        theirs = {node: memory[: end - begin] for node, memory in arriving.memory.items()}
        self._incoming = {
            peer: [theirs[node].data for node in nodes] for peer, nodes in arriving.nodes.items()
        }
        self._mine = [result[begin:end].data]
        self._theirs = {peer: [result[first:last].data] for peer, (first, last) in partners.items()}
        own = {node: memory[begin - low : end - low] for node, memory in left.items()}
        self._adder = Adder(wanted, begin, {**own, **theirs}, result[begin:end])

    def exchange(self, wires: Wires, before: _Share | None) -> None:
        if self._within is not None:
            self._within.run()
            gathered = before._theirs if before else {}
            outgoing = {
                peer: [*views, *(before._mine if before else ())]
                for peer, views in self._outgoing.items()
            }
            incoming = {
                peer: [*views, *gathered.get(peer, ())] for peer, views in self._incoming.items()
            }
            wires.swap(outgoing, incoming)
        self._adder.add()

    def finish(self, wires: Wires) -> None:
        if self._theirs:
            wires.swap(dict.fromkeys(self._theirs, self._mine), self._theirs, to_the_dead=True)


def part_of(topology: Topology, rank: int) -> int:
    """The number of the part of each block that a member of a rail owns: the parts of a rail stand
    together.
    """
    return topology.place(rank) * len(topology.hosts) + topology.host(rank)


def host_nodes(wanted: Sum, topology: Topology, host: int) -> tuple[Node, ...]:
    """What a host's members have left after adding all that the tree lets them add together, in the
    order in which it's sent.
    """
    slots = frozenset(
        slot for rank in topology.hosts[host] for node in wanted.held[rank] for slot in node
    )
    return nodes_of(wanted.slots, slots)
