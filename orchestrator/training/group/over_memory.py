"""How do members on one host add up what they have?

Rule: in memory that all of them map. Block by block everybody copies its nodes into its own staging area and rings; when all have rung,
each adds up its part of the block straight into the result, which is there once for all. A last ring says that the result is whole.
Memory: two results that take turns, and two staging areas of bounded size for each member, however large the gradients are.

The memory has no name (``memfd_create``; its descriptor passes through a Unix socket), so ``/dev/shm`` isn't used and nothing is left behind
by whoever is killed. What is in it is the truth and a ring only a reason to look: each member counts its finished phases there, so one that
finds all counts reached has the whole result, though a peer may have died since.
"""

from __future__ import annotations

import array
import mmap
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from orchestrator.training.group.blocks import Adder, Filler, blocks_of, flattened
from orchestrator.training.group.collectives import Sum
from orchestrator.training.group.layout import Layout
from orchestrator.training.group.over_sockets import OverSockets, disagreement, fingerprint
from orchestrator.training.group.summation import Node
from orchestrator.training.group.wires import Wires, lost

STAGING_BYTES = 4 * 1024 * 1024
"""Of one member, twice. Measured: larger ones fall out of the processor's cache, smaller ones ring more often."""
PAGE = 4096
LOOK_S = 100e-6
"""How long a member looks at the counts before it sleeps until it's rung: peers are often that near, and being woken takes as long."""
RING, REFUSED, MEMORY = b"r", b"x", b"m"


_Area = Callable[[int, int], np.ndarray]


class SharedMemoryMissing(Exception):
    """This host gives no memory that processes can share; never seen outside of this room."""


class OverMemory:
    """``Collectives`` of members on one host.

    Args:
        wires: for messages of any size.
        bells: for rings and descriptors; nothing else passes there.

    Raises:
        SharedMemoryMissing: on all members.
        PeerLost: a member is gone.
    """

    def __init__(self, wires: Wires, bells: Wires) -> None:
        self._messages = OverSockets(wires)
        self._wires, self._bells = wires, bells
        self._inbox: dict[int, list[int]] = {peer: [] for peer in bells.peers}
        self._dead: set[int] = set()
        members = self.world_size
        self._staging = _Memory(self._shared(PAGE * members + 2 * STAGING_BYTES * members))
        self._counts = [self._staging.bytes[PAGE * rank : PAGE * rank + 8].view(np.uint64) for rank in range(members)]
        self._told = [self._staging.bytes[PAGE * rank + 64 : PAGE * rank + 88] for rank in range(members)]
        self._phase = 0
        self._results: dict[int, _Results] = {}
        self._plans: dict[tuple[Sum, int], _Plan] = {}

    @property
    def rank(self) -> int:
        """See ``Collectives``."""
        return self._bells.rank

    @property
    def world_size(self) -> int:
        """See ``Collectives``."""
        return len(self._bells.peers) + 1

    def all_reduce(self, parts: Mapping[Node, Sequence[np.ndarray]], wanted: Sum) -> list[np.ndarray]:
        """See ``Collectives.all_reduce``."""
        with self._wires.leaving_when_lost(), self._bells.leaving_when_lost():
            return self._reduced(parts, wanted)

    def _reduced(self, parts: Mapping[Node, Sequence[np.ndarray]], wanted: Sum) -> list[np.ndarray]:
        self._wires.check()
        self._tell(wanted)
        results = self._results.get(wanted.key)
        if results is None or results.layout is not wanted.layout:
            # First agree: nobody should wait for memory that another one has no reason to share
            self._meet()
            self._compare(wanted)
            results = self._results[wanted.key] = _Results(wanted.layout, self._shared(2 * max(PAGE, wanted.layout.size)))
            self._plans = {known: plan for known, plan in self._plans.items() if known[0].key != wanted.key}
        result = results.next()
        plan = self._plans.get((wanted, results.turn))
        if plan is None:
            plan = self._plans[wanted, results.turn] = _Plan(wanted, self.rank, self._area, result)
        flat = {node: flattened(parts[node]) for node in wanted.held[self.rank]}
        for number in range(plan.blocks):
            plan.fill(number, flat)
            self._meet()
            if number == 0:
                self._compare(wanted)
            plan.add(number)
        self._meet()
        return results.views

    def all_gather(self, blob: bytes) -> list[bytes | memoryview]:
        """See ``Collectives.all_gather``."""
        return self._messages.all_gather(blob)

    def abandon(self) -> None:
        """See ``Collectives.abandon``."""
        self._wires.abandon()
        self._bells.abandon()

    def close(self) -> None:
        """See ``Collectives.close``. Memory that somebody still looks at stays until he's done."""
        self._wires.close()
        self._bells.close()
        for peer in self._inbox.values():
            for descriptor in peer:
                os.close(descriptor)
            peer.clear()

    def _area(self, rank: int, turn: int) -> np.ndarray:
        begin = PAGE * self.world_size + STAGING_BYTES * (2 * rank + turn)
        return self._staging.bytes[begin : begin + STAGING_BYTES]

    # -- agreeing

    def _tell(self, wanted: Sum) -> None:
        mine = self._told[self.rank]
        mine[:16] = np.frombuffer(fingerprint(wanted), np.uint8)
        mine[16:24].view(np.uint64)[0] = wanted.layout.size

    def _compare(self, wanted: Sum) -> None:
        mine = bytes(self._told[self.rank])
        for peer, told in enumerate(self._told):
            if bytes(told) != mine:
                raise disagreement(self.rank, peer, wanted, int(told[16:24].view(np.uint64)[0]))

    # -- phases

    def _meet(self) -> None:
        """This member has finished a phase; wait until all have."""
        self._phase += 1
        self._counts[self.rank][0] = self._phase
        for peer in self._bells.peers:
            self._ring(peer)
        looking_until_s = time.perf_counter() + LOOK_S
        while not self._reached():
            if time.perf_counter() < looking_until_s:
                os.sched_yield()
                continue
            self._listen()
            for peer in self._dead:
                # Read again: he may have counted between our look and his end
                if int(self._counts[peer][0]) < self._phase:
                    raise lost(self.rank, peer, self._bells.generation, "is gone")

    def _reached(self) -> bool:
        return all(int(count[0]) >= self._phase for count in self._counts)

    def _ring(self, peer: int) -> None:
        try:
            self._bells.socket_of(peer).send(RING, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return  # his buffer is full of rings: he'll look anyway
        except OSError:
            return  # he is gone: whether he had counted this far is seen by whoever waits

    def _listen(self) -> None:
        """Wait for a ring, and remember who is found to be gone."""
        peers = set(self._bells.peers) - self._dead
        self._dead.update(peer for peer in self._bells.wait(set(), peers) if peer in peers and not self._heard(peer))

    def _heard(self, peer: int) -> bool:
        """Take what a peer has sent: rings, and descriptors with them; False where he's gone."""
        try:
            data, ancillary, _, _ = self._bells.socket_of(peer).recvmsg(256, socket.CMSG_SPACE(4))
        except BlockingIOError:
            return True
        except OSError:
            return False
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self._inbox[peer].extend(array.array("i", payload[: len(payload) - len(payload) % 4]))
        if REFUSED in data:
            raise SharedMemoryMissing("rank 0 got none")
        return bool(data)

    # -- memory

    def _shared(self, size: int) -> mmap.mmap:
        """New memory that all members map; the lowest rank makes it."""
        if self.rank == 0:
            return self._made(size)
        while not self._inbox[0]:
            self._listen()
            if 0 in self._dead and not self._inbox[0]:
                raise lost(self.rank, 0, self._bells.generation, "is gone")
        descriptor = self._inbox[0].pop(0)
        try:
            if os.fstat(descriptor).st_size < size:
                raise lost(self.rank, 0, self._bells.generation, "gave too little memory")
            return mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)

    def _made(self, size: int) -> mmap.mmap:
        try:
            descriptor = os.memfd_create("tfresume-exchange", os.MFD_CLOEXEC)
        except (OSError, AttributeError) as error:
            self._send_all(REFUSED, [])
            raise SharedMemoryMissing(str(error)) from error
        try:
            os.ftruncate(descriptor, size)
            memory = mmap.mmap(descriptor, size)
        except OSError as error:
            self._send_all(REFUSED, [])
            raise SharedMemoryMissing(str(error)) from error
        else:
            self._send_all(MEMORY, [descriptor])
            return memory
        finally:
            os.close(descriptor)

    def _send_all(self, word: bytes, descriptors: Sequence[int]) -> None:
        passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        for peer in self._bells.peers:
            try:
                self._bells.socket_of(peer).sendmsg([word], passed, socket.MSG_NOSIGNAL)
            except OSError as error:
                raise lost(self.rank, peer, self._bells.generation, f"is gone ({error})") from error


class _Memory:
    """Mapped memory as bytes."""

    def __init__(self, mapped: mmap.mmap) -> None:
        self.bytes = np.frombuffer(mapped, np.uint8)


class _Results:
    """Two results of one key, which take turns; this process writes its own parts and reads all."""

    def __init__(self, layout: Layout, mapped: mmap.mmap) -> None:
        self.layout = layout
        self.turn = 0
        memory, half = np.frombuffer(mapped, np.uint8), len(mapped) // 2
        self._memory = [memory[: layout.size], memory[half : half + layout.size]]
        self._views = [layout.views(each) for each in self._memory]
        for views in self._views:
            for view in views:
                view.flags.writeable = False

    def next(self) -> np.ndarray:
        self.turn ^= 1
        return self._memory[self.turn]

    @property
    def views(self) -> list[np.ndarray]:
        return self._views[self.turn]


class _Plan:
    """All that one sum into one result needs, worked out once.

    Args:
        area: gives a member's staging memory, by rank and turn.
    """

    def __init__(self, wanted: Sum, rank: int, area: _Area, result: np.ndarray) -> None:
        nodes = max(1, *map(len, wanted.held))
        room = STAGING_BYTES // nodes // 64 * 64
        blocks = blocks_of(wanted.layout, len(wanted.held), room)
        self.blocks = len(blocks)

        def staged(member: int, node: Node, turn: int) -> np.ndarray:
            place = wanted.held[member].index(node)
            memory: np.ndarray = area(member, turn)[place * room : (place + 1) * room]
            return memory

        # Even blocks go through one staging area, odd ones through the other: filling one never waits for readers of the other
        self._fillers = {
            node: [Filler(wanted.layout, blocks, staged(rank, node, turn)) for turn in (0, 1)] for node in wanted.held[rank]
        }
        self._adders: list[Adder] = []
        for number, block in enumerate(blocks):
            begin, end = block.parts[rank]
            sources = {
                node: staged(member, node, number % 2)[begin - block.begin : end - block.begin]
                for member, held in enumerate(wanted.held)
                for node in held
            }
            self._adders.append(Adder(wanted, begin, sources, result[begin:end]))

    def fill(self, number: int, flat: Mapping[Node, Sequence[np.ndarray]]) -> None:
        for node, fillers in self._fillers.items():
            fillers[number % 2].fill(number, flat[node])

    def add(self, number: int) -> None:
        self._adders[number].add()
