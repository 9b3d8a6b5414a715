"""How do bytes move between all members at once?

Rule: one thread sends to all and receives from all at the same time, whichever connection is ready,
so that nobody waits for one who waits for him. Every wait looks at all connections, also at those
that nothing is expected from: a peer that is gone is known at once. Waiting happens in ``poll`` and
costs no processor time.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterator, Mapping, Sequence

from orchestrator.errors import PeerLost

GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR | select.POLLNVAL
"""POLLRDHUP tells of a peer that has closed while bytes of his are still unread (poll(2)); without
it his end would show only after all of them were read.
"""
GRACE_S = 0.25
"""How long the living may take to show that a step can be finished without the dead: a busy
machine's milliseconds.
"""
VECTOR = 512
"""Buffers in one ``sendmsg``; Linux takes 1,024 (IOV_MAX of writev(2))."""


def lost(rank: int, peer: int, generation: int, why: str) -> PeerLost:
    """The error for a peer that is gone."""
    return PeerLost(
        f"rank {rank}: rank {peer} of generation {generation} {why}",
        remedy="Nothing changed on this rank; join a new group and take the step again",
        details={"rank": rank, "peer": peer, "generation": generation},
    )


class Wires:
    """One connection to each peer.

    Args:
        sockets: by rank; connected, authenticated. They belong to this object from now on.
        watched: others, whose end is to be seen in every wait; they belong to somebody else.
        lifelines: of any of these peers, a connection that ends at once when the peer is dead,
            where the others may take longer; they belong to somebody else.

    Attributes:
        rank: this member's place.
        generation: the group's.
        moved, messages: bytes sent so far, and in how many pieces to one peer each; for those who
            measure.
    """

    def __init__(
        self,
        rank: int,
        generation: int,
        sockets: Mapping[int, socket.socket],
        watched: Mapping[int, socket.socket] | None = None,
        *,
        lifelines: Mapping[int, socket.socket] | None = None,
    ) -> None:
        self.rank, self.generation = rank, generation
        self._sockets, self._watched = dict(sockets), dict(watched or {})
        self._seen = {**self._sockets, **self._watched}
        self._lifelines = dict(lifelines or {})
        self._by_descriptor = {
            each.fileno(): peer
            for seen in (self._seen, self._lifelines)
            for peer, each in seen.items()
        }
        for each in self._sockets.values():
            each.setblocking(False)
        self._gone: set[int] = set()
        self._dead: set[int] = set()
        self._left = False
        self.moved = self.messages = 0

    @property
    def peers(self) -> tuple[int, ...]:
        """The ranks at the other ends."""
        return tuple(self._sockets)

    @property
    def cut(self) -> frozenset[int]:
        """The watched peers who are known to be gone."""
        return frozenset(self._gone & self._watched.keys())

    @property
    def dead(self) -> frozenset[int]:
        """Whose lifelines have ended: what they had sent is here, and no more comes."""
        return frozenset(self._dead)

    def socket_of(self, peer: int) -> socket.socket:
        """The connection to a peer."""
        return self._sockets[peer]

    def swap(
        self,
        outgoing: Mapping[int, Sequence[memoryview]],
        incoming: Mapping[int, Sequence[memoryview]],
        *,
        to_the_dead: bool = False,
    ) -> None:
        """Send and receive all of these bytes.

        Args:
            outgoing: by rank, what to send.
            incoming: by rank, memory to fill.
            to_the_dead: what a peer who is gone doesn't take any more is no failure: this member
                has what it wants.

        Raises:
            PeerLost: a peer from whom something is still wanted is gone, or this member has left.
        """
        sending = {peer: _Queue(buffers) for peer, buffers in outgoing.items()}
        self.messages += sum(not queue.empty for queue in sending.values())
        receiving = {
            peer: queue
            for peer, buffers in incoming.items()
            if not (queue := _Queue(buffers)).empty
        }
        self._send_all(sending, list(sending), to_the_dead=to_the_dead)
        while sending or receiving:
            ready = self.wait(set(sending), set(receiving))
            for peer, events in ready.items():
                if peer in receiving and events & (select.POLLIN | GONE):
                    self._receive(peer, receiving[peer])
                    if receiving[peer].empty:
                        del receiving[peer]
            self._send_all(
                sending, [peer for peer in ready if peer in sending], to_the_dead=to_the_dead
            )

    def wait(
        self, writing: set[int], reading: set[int], timeout_ms: int | None = None
    ) -> dict[int, int]:
        """Wait until something can be done; by rank, what (``poll``'s flags).

        A peer who is gone and from whom nothing is wanted is remembered and told at the next
        ``check``: the step may be complete all the same, and where it isn't, the one who lacks
        something says so by leaving. That takes milliseconds, unless he's stopped.

        Raises:
            PeerLost: this member has left, or a peer is gone and nothing came of it for
                ``GRACE_S``.
        """
        poll = select.poll()
        for peer, each in self._seen.items():
            flags = (select.POLLOUT if peer in writing else 0) | (
                select.POLLIN if peer in reading else 0
            )
            if each.fileno() < 0:
                raise lost(self.rank, self.rank, self.generation, "has left the group")
            # One who is known to be gone would end every wait at once, for nothing
            if flags or peer not in self._gone:
                poll.register(each, flags | select.POLLRDHUP)
        for peer, each in self._lifelines.items():
            if peer not in self._dead and each.fileno() >= 0:
                poll.register(each, select.POLLRDHUP)
        if self._left:
            raise lost(self.rank, self.rank, self.generation, "has left the group")
        patience_ms = GRACE_S * 1000 if timeout_ms is None and self._gone else timeout_ms
        # Of a dead peer what he had sent may still be read, and nothing more comes: his connection
        # is looked at until it's empty, without waiting for it to end
        wanted_of_the_dead = self._dead & (writing | reading)
        if wanted_of_the_dead:
            patience_ms = 0
        found: dict[int, int] = {}
        for descriptor, flags in poll.poll(patience_ms):
            peer = self._by_descriptor[descriptor]
            found[peer] = found.get(peer, 0) | flags
            if peer in self._lifelines and self._lifelines[peer].fileno() == descriptor:
                self._dead.add(peer)
        for peer in wanted_of_the_dead:
            found[peer] = found.get(peer, 0) | select.POLLHUP
        if self._left:
            raise lost(self.rank, self.rank, self.generation, "has left the group")
        if not found and timeout_ms is None:
            raise lost(self.rank, min(self._gone), self.generation, "is gone")
        self._gone.update(peer for peer, flags in found.items() if flags & GONE)
        return found

    def check(self) -> None:
        """Raise PeerLost where a peer is known to be gone, or is found to be."""
        self.wait(set(), set(), 0)
        for peer in sorted(self._gone):
            raise lost(self.rank, peer, self.generation, "is gone")

    @contextlib.contextmanager
    def leaving_when_lost(self) -> Iterator[None]:
        """Who finds that a step can't be finished leaves at once: a peer that waits for this member
        would never learn it otherwise.
        """
        try:
            yield
        except PeerLost:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Cut all connections, from any thread; they stay allocated until ``close``."""
        self._left = True
        for each in self._sockets.values():
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Cut all connections."""
        self.abandon()
        for each in self._sockets.values():
            each.close()

    def _send_all(
        self, sending: dict[int, _Queue], peers: Sequence[int], *, to_the_dead: bool
    ) -> None:
        for peer in peers:
            try:
                self._send(peer, sending[peer])
            except PeerLost:
                if not to_the_dead or self._left:
                    raise
                self._gone.add(peer)
                del sending[peer]
                continue
            if sending[peer].empty:
                del sending[peer]

    def _send(self, peer: int, queue: _Queue) -> None:
        try:
            while not queue.empty:
                sent = self._sockets[peer].sendmsg(queue.next(VECTOR), (), socket.MSG_NOSIGNAL)
                self.moved += sent
                queue.done(sent)
        except (BlockingIOError, InterruptedError):
            self._must_live(peer)
        except OSError as error:
            raise lost(
                self.rank, peer, self.generation, f"doesn't take what is sent to it ({error})"
            ) from error

    def _receive(self, peer: int, queue: _Queue) -> None:
        try:
            while not queue.empty:
                count = self._sockets[peer].recv_into(queue.next(1)[0])
                if count == 0:
                    raise lost(self.rank, peer, self.generation, "is gone")
                queue.done(count)
        except (BlockingIOError, InterruptedError):
            self._must_live(peer)
        except OSError as error:
            raise lost(self.rank, peer, self.generation, f"can't be read from ({error})") from error

    def _must_live(self, peer: int) -> None:
        """Nothing can be done for the moment: for a dead peer that means for ever."""
        if peer in self._dead:
            raise lost(self.rank, peer, self.generation, "is gone")


class _Queue:
    """Buffers of which a beginning is done."""

    def __init__(self, buffers: Sequence[memoryview]) -> None:
        self._buffers = [view.cast("B") for view in buffers if view.nbytes]
        self._at, self._offset = 0, 0

    @property
    def empty(self) -> bool:
        return self._at == len(self._buffers)

    def next(self, count: int) -> list[memoryview]:
        first = self._buffers[self._at]
        return [first[self._offset :], *self._buffers[self._at + 1 : self._at + count]]

    def done(self, count: int) -> None:
        while count:
            left = self._buffers[self._at].nbytes - self._offset
            if count < left:
                self._offset += count
                return
            count -= left
            self._at, self._offset = self._at + 1, 0
