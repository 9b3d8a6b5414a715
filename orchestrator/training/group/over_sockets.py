"""How do members on several hosts add up what they have?

Rule: block by block. Everybody sends each owner its part, the owner adds, and while the next block's parts are under way it sends what it
added to all. Memory on the way is bounded by a block for each node; the sums stand in two buffers that take turns.
"""

from __future__ import annotations

import functools
import hashlib
import struct
from collections.abc import Mapping, Sequence

import numpy as np

from orchestrator.errors import GroupDisagrees
from orchestrator.training.group.blocks import Adder, Block, Filler, blocks_of, flattened
from orchestrator.training.group.collectives import Sum
from orchestrator.training.group.layout import Layout
from orchestrator.training.group.summation import Node, root
from orchestrator.training.group.wires import Wires, lost

BLOCK_BYTES = 8 * 1024 * 1024
HEADER = struct.Struct("<4sQQ16s")
REDUCE, GATHER = b"sum1", b"get1"
LARGEST = 1 << 40
"""A message can't be larger than a terabyte: it's nonsense then."""


class Buffers:
    """Two results of one key, which take turns."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.turn = 0
        self._memory = [aligned(layout.size), aligned(layout.size)]
        self._views = [layout.views(memory) for memory in self._memory]
        for views in self._views:
            for view in views:
                view.flags.writeable = False

    def next(self) -> np.ndarray:
        """The memory of the next result."""
        self.turn ^= 1
        return self._memory[self.turn]

    @property
    def views(self) -> list[np.ndarray]:
        """The arrays of the present result."""
        return self._views[self.turn]


class OverSockets:
    """``Collectives`` over one connection to each peer. Also for a member that is alone.

    Args:
        wires: the connections.
        unused: others that have to stay open as long, since a peer takes their end for this member's.
    """

    def __init__(self, wires: Wires, unused: Wires | None = None) -> None:
        self._wires, self._unused = wires, unused
        self._number = 0
        self._results: dict[int, Buffers] = {}
        self._plans: dict[tuple[Sum, int], _Plan] = {}

    @property
    def rank(self) -> int:
        """See ``Collectives``."""
        return self._wires.rank

    @property
    def world_size(self) -> int:
        """See ``Collectives``."""
        return len(self._wires.peers) + 1

    def all_reduce(self, parts: Mapping[Node, Sequence[np.ndarray]], wanted: Sum) -> list[np.ndarray]:
        """See ``Collectives.all_reduce``."""
        if self.world_size == 1:
            return self._alone(parts, wanted)
        with self._wires.leaving_when_lost():
            self.agree(REDUCE, wanted)
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
            self._wires.swap(everyone, {peer: [view] for peer, view in memory.items()}, to_the_dead=True)
        for peer, view in memory.items():
            found[peer] = view
        return found

    def abandon(self) -> None:
        """See ``Collectives.abandon``."""
        self._wires.abandon()

    def close(self) -> None:
        """See ``Collectives.close``."""
        self._wires.close()
        if self._unused is not None:
            self._unused.close()

    def agree(self, operation: bytes, wanted: Sum) -> None:
        """All members mean the same sum. Raises GroupDisagrees, PeerLost."""
        mine = fingerprint(wanted)
        for peer, (size, digest) in self._headers(operation, wanted.layout.size, mine).items():
            if digest != mine or size != wanted.layout.size:
                raise disagreement(self.rank, peer, wanted, size)

    def _headers(self, operation: bytes, size: int, digest: bytes) -> dict[int, tuple[int, bytes]]:
        self._wires.check()
        self._number += 1
        mine = memoryview(HEADER.pack(operation, self._number, size, digest))
        theirs = {peer: bytearray(HEADER.size) for peer in self._wires.peers}
        self._wires.swap({peer: [mine] for peer in theirs}, {peer: [memoryview(each)] for peer, each in theirs.items()})
        found: dict[int, tuple[int, bytes]] = {}
        for peer, each in theirs.items():
            said, number, length, told = HEADER.unpack(each)
            if said != operation or number != self._number or length > LARGEST:
                raise lost(self.rank, peer, self._wires.generation, f"does something else: {bytes(each[:12])!r}")
            found[peer] = (length, told)
        return found

    def _results_for(self, wanted: Sum) -> Buffers:
        results = self._results.get(wanted.key)
        if results is None or results.layout is not wanted.layout:
            results = self._results[wanted.key] = Buffers(wanted.layout)
            self._plans = {known: plan for known, plan in self._plans.items() if known[0].key != wanted.key}
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
        part = max((block.parts[rank][1] - block.parts[rank][0] for block in self._blocks), default=0)
        staged = {node: aligned(longest) for node in self._nodes}
        arrived = {node: aligned(part) for peer, nodes in enumerate(wanted.held) if peer != rank for node in nodes}
        self._fillers = {node: Filler(wanted.layout, self._blocks, memory) for node, memory in staged.items()}
        self._steps = [_BlockPlan(wanted, rank, block, staged, arrived, result) for block in self._blocks]

    def run(self, wires: Wires, parts: Mapping[Node, Sequence[np.ndarray]]) -> None:
        flat = {node: flattened(parts[node]) for node in self._nodes}
        done: _BlockPlan | None = None
        for number, step in enumerate(self._steps):
            for node, filler in self._fillers.items():
                filler.fill(number, flat[node])
            outgoing = {peer: [*views, *(done.mine if done else ())] for peer, views in step.outgoing.items()}
            incoming = {peer: [*views, *(done.theirs[peer] if done else ())] for peer, views in step.incoming.items()}
            wires.swap(outgoing, incoming)
            step.adder.add()
            done = step
        if done is not None:
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
        own = {node: memory[begin - block.begin : end - block.begin] for node, memory in staged.items()}
        others = {node: memory[: end - begin] for node, memory in arrived.items()}
        self.incoming = {peer: [others[node].data for node in wanted.held[peer]] for peer in peers}
        self.outgoing = {
            peer: [
                memory[block.parts[peer][0] - block.begin : block.parts[peer][1] - block.begin].data for memory in staged.values()
            ]
            for peer in peers
        }
        self.mine = [result[begin:end].data]
        self.theirs = {peer: [result[first:last].data] for peer in peers for first, last in (block.parts[peer],)}
        self.adder = Adder(wanted, begin, {**own, **others}, result[begin:end])


def aligned(size: int) -> np.ndarray:
    """uint8 memory that begins at a multiple of 64."""
    memory = np.empty(size + 64, np.uint8)
    offset = -memory.ctypes.data % 64
    return memory[offset : offset + size]


@functools.lru_cache(maxsize=256)
def fingerprint(wanted: Sum) -> bytes:
    """What two members compare to know that they mean the same sum, 16 bytes."""
    told = repr((wanted.layout.arrays, wanted.slots, wanted.held, wanted.divisor, wanted.key))
    return hashlib.blake2b(told.encode(), digest_size=16).digest()


def disagreement(rank: int, peer: int, wanted: Sum, size: int) -> GroupDisagrees:
    """The error of members that don't mean the same."""
    shapes = ", ".join(f"{dtype}{list(shape)}" for dtype, shape in wanted.layout.arrays[:8])
    more = f" and {len(wanted.layout.arrays) - 8} more" if len(wanted.layout.arrays) > 8 else ""
    return GroupDisagrees(
        f"rank {rank} and rank {peer} don't exchange the same tensors: here {wanted.layout.size} bytes ({shapes}{more}), there {size}",
        remedy="Give every batch the same shape where a gradient's shape follows from it, or use one worker",
        details={"rank": rank, "peer": peer},
    )
