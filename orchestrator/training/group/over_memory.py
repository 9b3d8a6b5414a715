"""How do members on one host share memory, and wait for each other?

Rule: each counts the phases that it has finished, in memory that all map, and rings; nobody goes on
before all have counted. What is in the memory is the truth and a ring only a reason to look, so one
that finds all counts reached goes on, though a peer may have died since. Beside its count each
member tells there what it is about to do.

The memory has no name (``memfd_create``; its descriptor passes through a Unix socket), so
``/dev/shm`` isn't used and nothing is left behind by whoever is killed.
"""

from __future__ import annotations

import array
import mmap
import os
import socket
import time
from collections.abc import Sequence

import numpy as np

from orchestrator.training.group.agreement import HEADER
from orchestrator.training.group.wires import GONE, Wires, lost

STAGING_BYTES = 4 * 1024 * 1024
"""Of one member, twice. Measured: larger ones fall out of the processor's cache, smaller ones ring
more often.
"""
PAGE = 4096
"""A page of memory for each member's count and records, so that members who write their own never
share a cache line, and areas behind them begin at one.
"""
TOLD, TOLD_BYTES, VERDICT = 64, 64, 256
"""Where in a member's page its record is, by turns; each with a number behind it; and where it
tells of another host's.
"""
LOOK_S = 100e-6
"""How long a member looks at the counts before it sleeps until it's rung: peers are often that
near, and being woken takes as long.
"""
RING, MEMORY = b"r", b"m"


def why_not_shared() -> str:
    """Empty where processes of this host can share memory, else why they can't."""
    try:
        descriptor = os.memfd_create("tfresume-trial", os.MFD_CLOEXEC)
        try:
            os.ftruncate(descriptor, PAGE)
            mmap.mmap(descriptor, PAGE).close()
        finally:
            os.close(descriptor)
    except (OSError, AttributeError) as error:
        return str(error)
    return ""


class SharedMemory:
    """The members on one host, and the memory that they share.

    Args:
        bells: for rings and descriptors; nothing else passes there. Its watched connections lead to
            members of other hosts.
        members: the ranks on this host, ascending.
        world_size: how many members the group has on all hosts.

    Raises:
        PeerLost: a member is gone.
    """

    def __init__(self, bells: Wires, members: Sequence[int], world_size: int) -> None:
        self._bells, self._members = bells, tuple(members)
        self._inbox: dict[int, list[int]] = {peer: [] for peer in bells.peers}
        self._dead: set[int] = set()
        count = len(members)
        pages, areas = PAGE * count, 2 * STAGING_BYTES * count
        memory = np.frombuffer(self.shared(pages + areas + 8 * world_size), np.uint8)
        self._pages = {
            rank: memory[PAGE * place : PAGE * (place + 1)]
            for place, rank in enumerate(self._members)
        }
        self._counts = {rank: page[:8].view(np.uint64) for rank, page in self._pages.items()}
        self._areas = memory[pages : pages + areas]
        self.sizes = memory[pages + areas :].view(np.uint64)
        """By rank, one number; those of other hosts' members are written here by whoever hears
        them.
        """
        self._phase = 0

    @property
    def rank(self) -> int:
        """This member's rank in the group."""
        return self._bells.rank

    def area(self, rank: int, turn: int) -> np.ndarray:
        """A member's staging memory: it has two, which take turns."""
        begin = STAGING_BYTES * (2 * self._members.index(rank) + turn)
        return self._areas[begin : begin + STAGING_BYTES]

    def close(self) -> None:
        """Give back descriptors that nobody took. Memory that somebody still looks at stays until
        he's done.
        """
        for peer in self._inbox.values():
            for descriptor in peer:
                os.close(descriptor)
            peer.clear()

    # -- agreeing

    def tell(self, number: int, record: bytes, size: int) -> None:
        """Say what this member's operation ``number`` is, and a size that belongs to it; read by
        the others after a meeting.
        """
        # By turns: who is done early may tell of the next one while others still read this one
        begin = TOLD + number % 2 * TOLD_BYTES
        _write(self._pages[self.rank], begin, record, size)

    def told(self, number: int) -> dict[int, tuple[bytes, int]]:
        """What each member said of its operation ``number``, by rank."""
        begin = TOLD + number % 2 * TOLD_BYTES
        return {rank: _read(page, begin) for rank, page in self._pages.items()}

    def accuse(self, peer: int, record: bytes, number: int) -> None:
        """Tell the members who have no connection to it what a member of another host said of
        operation ``number``.
        """
        _write(self._pages[self.rank], VERDICT, record, number)
        _write(self._pages[self.rank], VERDICT + TOLD_BYTES, record, peer)

    def accused(self, number: int) -> dict[int, bytes]:
        """Whom others of this host have accused, and what they had said."""
        found: dict[int, bytes] = {}
        for page in self._pages.values():
            record, about = _read(page, VERDICT)
            if about == number:
                found[_read(page, VERDICT + TOLD_BYTES)[1]] = record
        return found

    # -- phases

    def meet(self, *, all_is_here: bool = False) -> None:
        """This member has finished a phase; wait until all have.

        Args:
            all_is_here: nothing is wanted from other hosts any more, so that one who is gone there
                is no reason not to finish.

        Raises:
            PeerLost: a member is gone who hasn't counted, or one of another host from whom
                something is wanted.
        """
        # After all that the phase has written: x86-64 shows one processor's stores to the others in
        # their order (Intel's manual, volume 3, "Memory Ordering"), so who sees the count sees
        # those. A member that had to be rung sees them on any processor, since both went through
        # the kernel
        self._phase += 1
        self._counts[self.rank][0] = self._phase
        for peer in self._bells.peers:
            self._ring(peer)
        looking_until_s = time.perf_counter() + LOOK_S
        while not self._reached():
            if time.perf_counter() < looking_until_s:
                os.sched_yield()  # with fewer cores than members it is the others who must get on
                continue
            self._listen()
            for peer in () if all_is_here else self._bells.cut:
                raise lost(self.rank, peer, self._bells.generation, "is gone")
            for peer in self._dead:
                # Read again: he may have counted between our look and his end
                if int(self._counts[peer][0]) < self._phase:
                    raise lost(self.rank, peer, self._bells.generation, "is gone")

    def _reached(self) -> bool:
        return all(int(count[0]) >= self._phase for count in self._counts.values())

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
        self._dead.update(
            peer
            for peer in self._bells.wait(set(), peers)
            if peer in peers and (not self._heard(peer) or peer in self._bells.dead)
        )

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
                self._inbox[peer].extend(
                    array.array("i", payload[: len(payload) - len(payload) % 4])
                )
        if data.strip(RING + MEMORY):
            raise lost(self.rank, peer, self._bells.generation, f"speaks nonsense: {data[:12]!r}")
        return bool(data)

    # -- memory

    def shared(self, size: int) -> mmap.mmap:
        """New memory that all members of this host map; the lowest rank makes it."""
        first = self._members[0]
        if self.rank == first:
            return self._made(size)
        while not self._inbox[first]:
            self._listen()
            if first in self._dead and not self._inbox[first]:
                raise lost(self.rank, first, self._bells.generation, "is gone")
        descriptor = self._inbox[first].pop(0)
        try:
            if os.fstat(descriptor).st_size < size:
                raise lost(self.rank, first, self._bells.generation, "gave too little memory")
            return mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)

    def _made(self, size: int) -> mmap.mmap:
        descriptor = os.memfd_create("tfresume-exchange", os.MFD_CLOEXEC)
        try:
            os.ftruncate(descriptor, size)
            memory = mmap.mmap(descriptor, size)
            for peer in self._bells.peers:
                self._pass(peer, descriptor)
        finally:
            os.close(descriptor)
        return memory

    def _pass(self, peer: int, descriptor: int) -> None:
        """Give a peer a descriptor. Raises PeerLost."""
        passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
        while True:
            try:
                self._bells.socket_of(peer).sendmsg([MEMORY], passed, socket.MSG_NOSIGNAL)
            except BlockingIOError as error:
                # His buffer is full of rings: who finds all counts reached while he looks never
                # reads any. Here he does, since he waits for this
                if self._bells.wait({peer}, set()).get(peer, 0) & GONE:
                    raise lost(self.rank, peer, self._bells.generation, "is gone") from error
            except OSError as error:
                raise lost(self.rank, peer, self._bells.generation, f"is gone ({error})") from error
            else:
                return


def _write(page: np.ndarray, begin: int, record: bytes, number: int) -> None:
    page[begin : begin + HEADER.size] = np.frombuffer(record, np.uint8)
    page[begin + 40 : begin + 48].view(np.uint64)[0] = number


def _read(page: np.ndarray, begin: int) -> tuple[bytes, int]:
    return bytes(page[begin : begin + HEADER.size]), int(
        page[begin + 40 : begin + 48].view(np.uint64)[0]
    )
