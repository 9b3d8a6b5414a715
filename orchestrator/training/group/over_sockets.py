"""How do members on several hosts add up what they have?

Rule: block by block. Everybody sends each owner its part, the owner adds, and while the next
block's parts are under way it sends what it added to all. Memory on the way is bounded by a block
for each node; the sums stand in two buffers that take turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from orchestrator.training.group.agreement import (
    GATHER,
    HEADER,
    LARGEST,
    REDUCE,
    difference,
    fingerprint,
)
from orchestrator.training.group.blocks import Adder, Block, Filler, blocks_of, flattened
from orchestrator.training.group.collectives import Sum
from orchestrator.training.group.results import Results, aligned
from orchestrator.training.group.summation import Node, root
from orchestrator.training.group.wires import Wires

BLOCK_BYTES = 8 * 1024 * 1024
"""Of a round, for all nodes of a member: a second block is under way while one is added up, so this
bounds the memory on the way. At 10 Gbit/s it takes 7 ms, long beside a round trip.
"""


class OverSockets:
    """``Collectives`` over one connection to each peer. Also for a member that is alone.

    Args:
        wires: the connections.
    """

    def __init__(self, wires: Wires) -> None:
        self._wires = wires
        self._number = 0
        self._results: dict[int, Results] = {}
        self._plans: dict[tuple[Sum, int], _Plan] = {}

    @property
    def rank(self) -> int:
        """See ``Collectives``."""
        return self._wires.rank

    @property
    def world_size(self) -> int:
        """See ``Collectives``."""
        return len(self._wires.peers) + 1

    def all_reduce(
        self, parts: Mapping[Node, Sequence[np.ndarray]], wanted: Sum
    ) -> list[np.ndarray]:
        """See ``Collectives.all_reduce``."""
        if self.world_size == 1:
            return self._alone(parts, wanted)
        with self._wires.leaving_when_lost():
            self._agree(wanted)
            results = self._results_for(wanted)
            result = results.next()
            plan = self._plans.get((wanted, results.turn))
            if plan is None:
                plan = self._plans[wanted, results.turn] = _Plan(wanted, self.rank, result)
            plan.run(self._wires, parts)
            return results.views

    def all_gather(self, blob: bytes) -> list[bytes | memoryview]:
        """See ``Collectives.all_gather``."""
        found: list[bytes | memoryview] = [b""] * self.world_size
        found[self.rank] = blob
        if self.world_size == 1:
            return found
        with self._wires.leaving_when_lost():
            sizes = self._headers(GATHER, len(blob), b"")
            memory = {peer: memoryview(bytearray(size)) for peer, (size, _) in sizes.items()}
            everyone = {peer: [memoryview(blob)] for peer in memory}
            self._wires.swap(
                everyone, {peer: [view] for peer, view in memory.items()}, to_the_dead=True
            )
        for peer, view in memory.items():
            found[peer] = view
        return found

    def abandon(self) -> None:
        """See ``Collectives.abandon``."""
        self._wires.abandon()

    def close(self) -> None:
        """See ``Collectives.close``."""
        self._wires.close()

    def _agree(self, wanted: Sum) -> None:
        """All members mean the same sum. Raises GroupDisagrees, PeerLost."""
        size, mine = wanted.layout.size, fingerprint(wanted)
        for peer, (length, digest) in self._headers(REDUCE, size, mine).items():
            if (length, digest) != (size, mine):
                said, told = (
                    HEADER.pack(REDUCE, self._number, *each)
                    for each in ((size, mine), (length, digest))
                )
                raise difference(self.rank, self._wires.generation, said, peer, told, wanted)

    def _headers(self, operation: bytes, size: int, digest: bytes) -> dict[int, tuple[int, bytes]]:
        self._wires.check()
        self._number += 1
        mine = HEADER.pack(operation, self._number, size, digest)
        theirs = {peer: bytearray(HEADER.size) for peer in self._wires.peers}
        outgoing = {peer: [memoryview(mine)] for peer in theirs}
        self._wires.swap(outgoing, {peer: [memoryview(each)] for peer, each in theirs.items()})
        found: dict[int, tuple[int, bytes]] = {}
        for peer, each in theirs.items():
            said, number, length, told = HEADER.unpack(each)
            if said != operation or number != self._number or length > LARGEST:
                raise difference(self.rank, self._wires.generation, mine, peer, bytes(each), None)
            found[peer] = (length, told)
        return found

    def _results_for(self, wanted: Sum) -> Results:
        results = self._results.get(wanted.key)
        if results is None or results.layout is not wanted.layout:
            results = self._results[wanted.key] = Results(
                wanted.layout, [aligned(wanted.layout.size) for _ in range(2)]
            )
            self._plans = {
                known: plan for known, plan in self._plans.items() if known[0].key != wanted.key
            }
        return results

    def _alone(self, parts: Mapping[Node, Sequence[np.ndarray]], wanted: Sum) -> list[np.ndarray]:
        results = self._results_for(wanted)
        results.next()
        with np.errstate(all="ignore"):
            for target, whole in zip(results.views, parts[root(wanted.slots)], strict=True):
                target.flags.writeable = True
                np.divide(whole, whole.dtype.type(wanted.divisor), out=target)
                target.flags.writeable = False
        return results.views


class _Plan:
    """All that one sum into one buffer needs, worked out once."""

    def __init__(self, wanted: Sum, rank: int, result: np.ndarray) -> None:
        self._rank = rank
        self._nodes = wanted.held[rank]
        most = max(map(len, wanted.held))
        self._blocks = blocks_of(wanted.layout, len(wanted.held), BLOCK_BYTES // max(1, most))
        longest = max((block.end - block.begin for block in self._blocks), default=0)
        part = max(
            (block.parts[rank][1] - block.parts[rank][0] for block in self._blocks), default=0
        )
        staged = {node: aligned(longest) for node in self._nodes}
        arrived = {
            node: aligned(part)
            for peer, nodes in enumerate(wanted.held)
            if peer != rank
            for node in nodes
        }
        self._fillers = {
            node: Filler(wanted.layout, self._blocks, memory) for node, memory in staged.items()
        }
        self._steps = [
            _BlockPlan(wanted, rank, block, staged, arrived, result) for block in self._blocks
        ]

    def run(self, wires: Wires, parts: Mapping[Node, Sequence[np.ndarray]]) -> None:
        flat = {node: flattened(parts[node]) for node in self._nodes}
        done: _BlockPlan | None = None
        for number, step in enumerate(self._steps):
            for node, filler in self._fillers.items():
                filler.fill(number, flat[node])
            outgoing = {
                peer: [*views, *(done.mine if done else ())]
                for peer, views in step.outgoing.items()
            }
            incoming = {
                peer: [*views, *(done.theirs[peer] if done else ())]
                for peer, views in step.incoming.items()
            }
            wires.swap(outgoing, incoming)
            step.adder.add()
            done = step
        if done is not None:
            # From here on this member has all that it wants but the last parts: that somebody died
            # who has sent his is no reason not to finish
            wires.swap(dict.fromkeys(wires.peers, done.mine), done.theirs, to_the_dead=True)


class _BlockPlan:
    """What is sent, received and added in one block."""

    def __init__(
        self,
        wanted: Sum,
        rank: int,
        block: Block,
        staged: Mapping[Node, np.ndarray],
        arrived: Mapping[Node, np.ndarray],
        result: np.ndarray,
    ) -> None:
        begin, end = block.parts[rank]
        peers = [peer for peer in range(len(block.parts)) if peer != rank]
        own = {
            node: memory[begin - block.begin : end - block.begin] for node, memory in staged.items()
        }
        others = {node: memory[: end - begin] for node, memory in arrived.items()}
        self.incoming = {peer: [others[node].data for node in wanted.held[peer]] for peer in peers}
        self.outgoing = {
            peer: [
                memory[block.parts[peer][0] - block.begin : block.parts[peer][1] - block.begin].data
                for memory in staged.values()
            ]
            for peer in peers
        }
        self.mine = [result[begin:end].data]
        self.theirs = {
            peer: [result[first:last].data]
            for peer in peers
            for first, last in (block.parts[peer],)
        }
        self.adder = Adder(wanted, begin, {**own, **others}, result[begin:end])
