"""How do the members of a group find each other?

Rule: each process listens once for its whole life, on a TCP port that the system chose and on a
Unix socket without a file. In a group a rank connects to the lower ones of its peers (see
``topology``) and waits for the higher ones. Peers come when they are ready: a connection for a
generation that isn't joined here yet waits; one for a generation that was left or called off is
cut, so its owner learns that nobody comes. Whatever strangers send is bounded in bytes, seconds and
number.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import select
import socket
import threading
import time
from collections.abc import Mapping, Sequence

from orchestrator.errors import PeerLost
from orchestrator.training.group import calling
from orchestrator.training.group.addresses import Address, family, this_machine, topology_of
from orchestrator.training.group.authentication import DATA, Hello, Stranger, answer
from orchestrator.training.group.collectives import Collectives
from orchestrator.training.group.lifelines import Lifeline, Watches, ended
from orchestrator.training.group.links import Links
from orchestrator.training.group.over_memory import why_not_shared
from orchestrator.training.group.over_sockets import OverSockets
from orchestrator.training.group.wires import GONE, Wires

GREETINGS_AT_ONCE = 64
"""Threads that greet at a time: members of a group come at the same moment, and strangers can't
take more threads than these. Who is turned away tries again (``calling``).
"""
WAITING_AT_MOST = 4096
"""Connections that wait for their generation to be joined here: two for each of 2,000 peers."""
log = logging.getLogger("tfresume")


class Listener:
    """Takes connections of peers, for one generation after another.

    Args:
        secret: what peers prove to each other.
        host: the name or address by which other machines reach this one.
        machine: see ``Address``; for tests, in which processes of one machine play several.

    Raises:
        OSError: this host has no such address.
    """

    def __init__(self, secret: bytes, host: str, *, machine: str | None = None) -> None:
        self._secret = secret
        # 512 connections may wait to be accepted: a whole group connects in the same moment, and
        # the kernel drops what goes beyond, to be tried again only a second later
        self._tcp = socket.create_server((host, 0), family=family(host), backlog=512)
        self._unix = socket.socket(socket.AF_UNIX)
        name = f"tfresume-{secrets.token_hex(12)}"
        self._unix.bind(f"\0{name}")
        self._unix.listen(512)
        missing = why_not_shared()
        if missing:
            log.warning(
                "this host has no shared memory for the exchange (%s): it goes through sockets, which is slower",
                missing,
            )
        self._lifeline, self._watches = Lifeline(host), Watches()
        self._lifelines: tuple[int, Mapping[int, socket.socket]] = (0, {})
        self._address = Address(
            machine or this_machine(),
            host,
            self._tcp.getsockname()[1],
            name,
            not missing,
            self._lifeline.name,
            self._lifeline.port,
        )
        self._caller = calling.Caller(secret, self._address)
        self._forming: Links | None = None
        self._closed = False
        self._waiting: dict[Hello, socket.socket] = {}
        self._floor = 0
        """Generations up to this one are over here."""
        self._changed = threading.Lock()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._greeting = threading.BoundedSemaphore(GREETINGS_AT_ONCE)
        for server in (self._tcp, self._unix):
            threading.Thread(
                target=self._accept, args=(server,), name="tfresume-listen", daemon=True
            ).start()

    @property
    def address(self) -> str:
        """Where peers reach this process; the same for its life."""
        return self._address.as_text()

    def join(
        self,
        generation: int,
        rank: int,
        addresses: Sequence[str],
        *,
        cancelled: threading.Event,
        timeout_s: float,
    ) -> Collectives:
        """Be connected with all members.

        Args:
            addresses: ``Listener.address`` of every rank, in the order of ranks.
            cancelled: ends the wait, together with ``cancel``.

        Raises:
            PeerLost: a peer can't be reached, is gone, has called the generation off, or didn't
                come within ``timeout_s``.
        """
        if len(addresses) <= 1:  # who is alone needn't be told where it is
            return OverSockets(Wires(0, generation, {}))
        found = [Address.parse(text) for text in addresses]
        links = Links(generation, rank, topology_of(found))
        try:
            with self._changed:
                self._forming = links
            self._must_go_on(links, cancelled)
            for hello in links.to_call():
                links.add(hello, self._caller.call(found[hello.called], hello, links))
            self._await(links, cancelled, time.monotonic() + timeout_s)
            peers = {peer: found[peer] for peer in topology_of(found).peers(rank)}
            lifelines = self._watches.on(peers, self._address)
            self._lifelines = (generation, lifelines)
            return links.collectives(lifelines)
        except BaseException:
            links.close()
            raise
        finally:
            with self._changed:
                self._forming = None
                self._close_bell()

    def cancel(self, generation: int) -> None:
        """This generation, and all before it, are over here, from any thread: peers that wait for
        this member learn it.
        """
        with self._changed:
            self._floor = max(self._floor, generation)
            over = [hello for hello in self._waiting if hello.generation <= self._floor]
            for hello in over:
                self._waiting.pop(hello).close()
            if self._forming is not None and self._forming.generation <= self._floor:
                self._forming.cut()
        self._ring()

    def decline(self, generation: int, rank: int, addresses: Sequence[str]) -> None:
        """Tell the lower ranks, who wait for this one to connect, that it won't come; the higher
        ones learn it when they connect.
        """
        self.cancel(generation)
        with contextlib.suppress(ValueError):  # nobody waits there
            found = [Address.parse(text) for text in addresses]
            for peer in topology_of(found).peers(rank):
                with contextlib.suppress(PeerLost):  # whoever can't be reached needn't be told
                    if peer < rank:
                        self._caller.call(found[peer], Hello(generation, rank, peer, DATA)).close()

    def dead(self, generation: int) -> tuple[int, ...]:
        """Ranks of this generation whose processes have ended, as far as it's known here."""
        formed, lifelines = self._lifelines
        return tuple(sorted(ended(lifelines))) if formed == generation else ()

    def close(self) -> None:
        """Listen no longer."""
        for server in (self._tcp, self._unix):
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()
        self.cancel(1 << 62)  # beyond every generation: whoever waits here learns that it's over
        self._watches.close()
        self._lifeline.close()
        with self._changed:
            self._closed = True
            self._close_bell()

    # -- the side that is connected to

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                if server.fileno() < 0:
                    return
                time.sleep(0.01)  # out of descriptors, say: others may close some
                continue
            # Never waited for: a crowd of strangers would keep the peers behind it from being heard
            if not self._greeting.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(
                target=self._greet, args=(connection,), name="tfresume-greet", daemon=True
            ).start()

    def _greet(self, connection: socket.socket) -> None:
        try:
            hello = answer(connection, self._secret, time.monotonic() + calling.GREETING_S)
            if connection.family != socket.AF_UNIX:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, Stranger) as error:
            log.debug("a connection was refused: %s", error)
            connection.close()
            return
        finally:
            self._greeting.release()
        with self._changed:
            # The last case is somebody who repeats a greeting of his own run; the first one stands
            if (
                hello.generation <= self._floor
                or len(self._waiting) >= WAITING_AT_MOST
                or hello in self._waiting
            ):
                connection.close()
                return
            self._waiting[hello] = connection
        self._ring()

    def _await(self, links: Links, cancelled: threading.Event, deadline_s: float) -> None:
        """Take the connections of the higher ranks as they come; the others are watched meanwhile."""
        wanted = links.to_come()
        while wanted:
            with self._changed:
                for hello in [hello for hello in wanted if hello in self._waiting]:
                    links.add(hello, self._waiting.pop(hello))
                    wanted.discard(hello)
            self._must_go_on(links, cancelled)
            if not wanted:
                break
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                late = sorted({hello.caller for hello in wanted})
                raise links.lost(late[0], f"didn't come in time (missing: {late})")
            self._wait(links, left_s)
        self._must_go_on(links, cancelled)

    def _must_go_on(self, links: Links, cancelled: threading.Event) -> None:
        with self._changed:
            over = links.generation <= self._floor
        if over or cancelled.is_set():
            raise links.lost(links.rank, "was called off before all had come")

    def _wait(self, links: Links, seconds: float) -> None:
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        by_descriptor = {
            connection.fileno(): peer for (_, peer), connection in links.sockets.items()
        }
        for descriptor in by_descriptor:
            poll.register(descriptor, select.POLLRDHUP)
        # Within a second at most, since ``cancelled`` may be set by somebody who rings no bell
        for descriptor, flags in poll.poll(min(seconds, 1.0) * 1000):
            if descriptor == self._bell:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._bell)
            elif flags & GONE:
                raise links.lost(
                    by_descriptor[descriptor], "is gone, or has called this generation off"
                )

    def _ring(self) -> None:
        with self._changed:
            if self._bell >= 0:
                os.eventfd_write(self._bell, 1)

    def _close_bell(self) -> None:
        # Whoever still waits for it closes it: its number could be another file's by then
        if self._closed and self._forming is None and self._bell >= 0:
            os.close(self._bell)
            self._bell = -1
