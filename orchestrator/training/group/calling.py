"""How does a member connect with another one?

Rule: through a Unix socket on its own machine, over TCP to others, with a greeting in which both
prove that they belong to the run. Where the other side closes the door in the greeting, or the
kernel has no more room before it, it's tried again: a crowd of strangers may have stood there.
"""

from __future__ import annotations

import socket
import time

from orchestrator.errors import PeerLost
from orchestrator.training.group.addresses import Address, family
from orchestrator.training.group.authentication import ClosedEarly, Hello, Stranger, call
from orchestrator.training.group.links import Links

GREETING_S = 5.0
"""Longest time for a greeting: two packets each way, and a thread that the other side has to start
for it.
"""
CROWD_PAUSE_S = 0.05
"""Before a connection is tried again. The other side closes what comes beyond
``GREETINGS_AT_ONCE``, and each of those takes milliseconds.
"""


class Caller:
    """The side that connects.

    Args:
        own: the address of the member that calls.
    """

    def __init__(self, secret: bytes, own: Address) -> None:
        self._secret, self._own = secret, own

    def call(self, address: Address, hello: Hello, links: Links | None = None) -> socket.socket:
        """A connection on which both sides know each other.

        Args:
            links: cut the call short, from another thread, where they are cut.

        Raises:
            PeerLost: nobody answers there, or nobody of this run.
        """
        deadline_s = time.monotonic() + 2 * GREETING_S
        while True:
            try:
                return self._called(address, hello, links)
            except _Crowded as error:
                if time.monotonic() >= deadline_s or (links is not None and links.over):
                    raise error.lost from None
                time.sleep(CROWD_PAUSE_S)

    def _called(self, address: Address, hello: Hello, links: Links | None) -> socket.socket:
        near = address.machine == self._own.machine
        connection = socket.socket(socket.AF_UNIX if near else family(address.host))
        try:
            if links is not None:
                links.calling(connection)
            connection.settimeout(GREETING_S)
            connection.connect(f"\0{address.name}" if near else (address.host, address.port))
            if not near:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            call(connection, self._secret, hello, time.monotonic() + GREETING_S)
        except (OSError, Stranger) as error:
            connection.close()
            there = "the same machine" if near else f"{address.host}:{address.port}"
            unreachable = PeerLost(
                f"rank {hello.caller} on {self._own.host} can't reach rank {hello.called} on {there}: {error}",
                remedy="Where the peer lives, let the workers' hosts reach each other on all TCP ports (`tfresume doctor` tries it)",
                details={
                    "rank": hello.caller,
                    "peer": hello.called,
                    "generation": hello.generation,
                },
            )
            # BlockingIOError: a Unix socket at which as many wait as may, where TCP would wait itself
            crowd = ConnectionResetError | BrokenPipeError | BlockingIOError | ClosedEarly
            if isinstance(error, crowd):
                raise _Crowded(unreachable) from error
            raise unreachable from error
        return connection


class _Crowded(Exception):
    """The other side closed the connection before it had greeted, or let nobody in."""

    def __init__(self, lost: PeerLost) -> None:
        super().__init__()
        self.lost = lost
