"""How do the members of a group find each other?

Rule: each process listens once for its whole life, on a TCP port that the system chose and on a Unix socket without a file. In a group rank i
connects to the lower ranks and waits for the higher ones. Peers come when they are ready: a connection for a generation that isn't joined
here yet waits; one for a generation that was left or called off is cut, so its owner learns that nobody comes. Whatever strangers send is
bounded in bytes, seconds and number.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import select
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.errors import PeerLost
from orchestrator.training.group.authentication import BELL, DATA, ClosedEarly, Hello, Stranger, answer, call
from orchestrator.training.group.collectives import Collectives
from orchestrator.training.group.over_memory import OverMemory, SharedMemoryMissing
from orchestrator.training.group.over_sockets import OverSockets
from orchestrator.training.group.wires import GONE, Wires

GREETING_S = 5.0
"""Longest time for a greeting: four packets."""
GREETINGS_AT_ONCE = 64
CROWD_PAUSE_S = 0.05
WAITING_AT_MOST = 4096
"""Connections that wait for their generation to be joined here: two for each of 2,000 peers."""
log = logging.getLogger("tfresume")


@dataclass(frozen=True)
class Address:
    """Where a member can be reached.

    Attributes:
        machine: equal for processes that share memory and the namespace of Unix sockets.
        host, port: of its TCP socket.
        name: of its Unix socket.
    """

    machine: str
    host: str
    port: int
    name: str

    def as_text(self) -> str:
        """For ``GroupSpec.addresses``."""
        return json.dumps([self.machine, self.host, self.port, self.name])

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address in ``text``. Raises ValueError."""
        machine, host, port, name = json.loads(text)
        return cls(str(machine), str(host), int(port), str(name))


def this_machine() -> str:
    """The kernel's boot and the network namespace: containers of one pod share both, and those of two pods don't share sockets."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as boot:
            return f"{boot.read().strip()}/{os.stat('/proc/self/ns/net').st_ino}"
    except OSError:
        return secrets.token_hex(16)


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
        self._tcp = socket.create_server((host, 0), family=_family(host), backlog=512)
        self._unix = socket.socket(socket.AF_UNIX)
        name = f"tfresume-{secrets.token_hex(12)}"
        self._unix.bind(f"\0{name}")
        self._unix.listen(512)
        self._address = Address(machine or this_machine(), host, self._tcp.getsockname()[1], name)
        self._waiting: dict[Hello, socket.socket] = {}
        self._floor = 0
        """Generations up to this one are over here."""
        self._changed = threading.Lock()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._greeting = threading.BoundedSemaphore(GREETINGS_AT_ONCE)
        for server in (self._tcp, self._unix):
            threading.Thread(target=self._accept, args=(server,), name="tfresume-listen", daemon=True).start()

    @property
    def address(self) -> str:
        """Where peers reach this process; the same for its life."""
        return self._address.as_text()

    def join(
        self, generation: int, rank: int, addresses: Sequence[str], *, cancelled: threading.Event, timeout_s: float
    ) -> Collectives:
        """Be connected with all members.

        Args:
            addresses: ``Listener.address`` of every rank, in the order of ranks.
            cancelled: ends the wait, together with ``cancel``.

        Raises:
            PeerLost: a peer can't be reached, is gone, has called the generation off, or didn't come within ``timeout_s``.
        """
        if len(addresses) == 1:
            return OverSockets(Wires(0, generation, {}))
        found = [Address.parse(text) for text in addresses]
        near = all(address.machine == self._address.machine for address in found)
        purposes = (DATA, BELL) if near else (DATA,)
        links = _Links(generation, rank)
        try:
            for peer in range(rank):
                for purpose in purposes:
                    links.sockets[purpose, peer] = self._call(found[peer], Hello(generation, rank, peer, purpose))
            wanted = {Hello(generation, peer, rank, purpose) for peer in range(rank + 1, len(found)) for purpose in purposes}
            self._await(wanted, links, cancelled, time.monotonic() + timeout_s)
        except BaseException:
            links.close()
            raise
        return links.collectives(near=near)

    def cancel(self, generation: int) -> None:
        """This generation, and all before it, are over here, from any thread: peers that wait for this member learn it."""
        with self._changed:
            self._floor = max(self._floor, generation)
            over = [hello for hello in self._waiting if hello.generation <= self._floor]
            for hello in over:
                self._waiting.pop(hello).close()
        self._ring()

    def decline(self, generation: int, rank: int, addresses: Sequence[str]) -> None:
        """Tell the lower ranks, who wait for this one to connect, that it won't come; the higher ones learn it when they connect."""
        self.cancel(generation)
        for peer in range(rank):
            with contextlib.suppress(PeerLost, ValueError):  # whoever can't be reached needn't be told
                self._call(Address.parse(addresses[peer]), Hello(generation, rank, peer, DATA)).close()

    def close(self) -> None:
        """Listen no longer."""
        for server in (self._tcp, self._unix):
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()
        self.cancel(1 << 62)

    # -- the side that connects

    def _call(self, address: Address, hello: Hello) -> socket.socket:
        """Connect, again where the other side closed the door in the greeting: a crowd may have stood in it for ``GREETING_S``."""
        deadline_s = time.monotonic() + 2 * GREETING_S
        while True:
            try:
                return self._called(address, hello)
            except _Crowded as error:
                if time.monotonic() >= deadline_s:
                    raise error.lost from None
                time.sleep(CROWD_PAUSE_S)

    def _called(self, address: Address, hello: Hello) -> socket.socket:
        near = address.machine == self._address.machine
        connection = socket.socket(socket.AF_UNIX if near else _family(address.host))
        try:
            connection.settimeout(GREETING_S)
            connection.connect(f"\0{address.name}" if near else (address.host, address.port))
            if not near:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            call(connection, self._secret, hello, time.monotonic() + GREETING_S)
        except (OSError, Stranger) as error:
            connection.close()
            there = "the same machine" if near else f"{address.host}:{address.port}"
            unreachable = PeerLost(
                f"rank {hello.caller} on {self._address.host} can't reach rank {hello.called} on {there}: {error}",
                remedy="Where the peer lives, let the workers' hosts reach each other on all TCP ports (`tfresume doctor` tries it)",
                details={"rank": hello.caller, "peer": hello.called, "generation": hello.generation},
            )
            if isinstance(error, ConnectionResetError | BrokenPipeError | ClosedEarly):
                raise _Crowded(unreachable) from error
            raise unreachable from error
        return connection

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
            if not self._greeting.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._greet, args=(connection,), name="tfresume-greet", daemon=True).start()

    def _greet(self, connection: socket.socket) -> None:
        try:
            hello = answer(connection, self._secret, time.monotonic() + GREETING_S)
            if connection.family != socket.AF_UNIX:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, Stranger) as error:
            log.debug("a connection was refused: %s", error)
            connection.close()
            return
        finally:
            self._greeting.release()
        with self._changed:
            if hello.generation <= self._floor or len(self._waiting) >= WAITING_AT_MOST or hello in self._waiting:
                connection.close()
                return
            self._waiting[hello] = connection
        self._ring()

    def _await(self, wanted: set[Hello], links: _Links, cancelled: threading.Event, deadline_s: float) -> None:
        """Take the connections of the higher ranks as they come; the others are watched meanwhile."""
        while wanted:
            with self._changed:
                for hello in [hello for hello in wanted if hello in self._waiting]:
                    links.sockets[hello.purpose, hello.caller] = self._waiting.pop(hello)
                    wanted.discard(hello)
                over = links.generation <= self._floor
            if over or cancelled.is_set():
                raise links.lost(links.rank, "was called off before all had come")
            if not wanted:
                break
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                late = sorted({hello.caller for hello in wanted})
                raise links.lost(late[0], f"didn't come in time (missing: {late})")
            self._wait(links, left_s)
        with self._changed:
            if links.generation <= self._floor or cancelled.is_set():
                raise links.lost(links.rank, "was called off before all had come")

    def _wait(self, links: _Links, seconds: float) -> None:
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        by_descriptor = {connection.fileno(): peer for (_, peer), connection in links.sockets.items()}
        for descriptor in by_descriptor:
            poll.register(descriptor, select.POLLRDHUP)
        for descriptor, flags in poll.poll(min(seconds, 1.0) * 1000):
            if descriptor == self._bell:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._bell)
            elif flags & GONE:
                raise links.lost(by_descriptor[descriptor], "is gone, or has called this generation off")

    def _ring(self) -> None:
        with contextlib.suppress(OSError):
            os.eventfd_write(self._bell, 1)


class _Crowded(Exception):
    """The other side closed the connection before it had greeted."""

    def __init__(self, lost: PeerLost) -> None:
        super().__init__()
        self.lost = lost


class _Links:
    """The connections of a group that is being formed, by (purpose, peer)."""

    def __init__(self, generation: int, rank: int) -> None:
        self.generation, self.rank = generation, rank
        self.sockets: dict[tuple[int, int], socket.socket] = {}

    def collectives(self, *, near: bool) -> Collectives:
        """What the members do together over these connections."""
        wires = Wires(
            self.rank, self.generation, {peer: each for (purpose, peer), each in self.sockets.items() if purpose == DATA}
        )
        if not near:
            return OverSockets(wires)
        bells = Wires(
            self.rank, self.generation, {peer: each for (purpose, peer), each in self.sockets.items() if purpose == BELL}
        )
        try:
            return OverMemory(wires, bells)
        except SharedMemoryMissing as error:
            log.warning("this host has no shared memory for the exchange (%s): it goes through sockets, which is slower", error)
            return OverSockets(wires, bells)
        except BaseException:
            wires.close()
            bells.close()
            raise

    def lost(self, peer: int, why: str) -> PeerLost:
        """The error of a group that doesn't come together."""
        return PeerLost(
            f"rank {self.rank}: rank {peer} of generation {self.generation} {why}",
            remedy="Nothing changed on this rank; join a new group",
            details={"rank": self.rank, "peer": peer, "generation": self.generation},
        )

    def close(self) -> None:
        """Cut what is there."""
        for connection in self.sockets.values():
            connection.close()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
