"""Under which address will the other workers find this one's next session?

Rule: the port is held open until the session's server takes it, and lies below the range from which
the kernel hands out ports to outgoing connections, since TensorFlow's server binds it exclusively
and can't be told to try another.
"""

from __future__ import annotations

import errno
import os
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from orchestrator.errors import AddressTaken

LOWEST_PORT = 20_000
"""Above the ports that Ray gives to its own workers (10002 to 19999)."""
FIRST_EPHEMERAL_PORT = 32_768
"""Where Linux begins to hand out ports by default: ``ip_local_port_range`` of ip(7)."""
TRIES = 64
"""Ports drawn at random among 12,768: where so many are taken, all are."""
OPEN = frozenset(
    {psutil.CONN_ESTABLISHED, psutil.CONN_SYN_SENT, psutil.CONN_SYN_RECV, psutil.CONN_CLOSE_WAIT}
)
LOOKS = 8
"""A peer that lost its connection comes back at once, and may have done so between a look and the
end of the listener: measured once in about a hundred departures on a busy machine. Its next step
would wait on that connection for ever.
"""


class Reservation:
    """A port that is ours until ``release``.

    Attributes:
        port: the TCP port, on all interfaces.
    """

    def __init__(self, port: int, held: socket.socket) -> None:
        self.port = port
        self._held: socket.socket | None = held

    def release(self) -> None:
        """Let the server bind the port."""
        if self._held is not None:
            self._held.close()
            self._held = None


def reserve(*, seed: int | None = None) -> Reservation:
    """A free port of this machine.

    Raises:
        AddressTaken: no port could be bound.
    """
    choose = random.Random(seed)
    candidates = [choose.randrange(LOWEST_PORT, _first_ephemeral_port()) for _ in range(TRIES)]
    last: OSError | None = None
    # At last any port that the kernel has: one in its range may be taken by an outgoing connection
    # before the server binds it, which is still better than no address
    for port in [*candidates, 0]:
        held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            held.bind(("", port))
        except OSError as error:
            held.close()
            # Another process has it, or this one may not: the next one may be free
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            last = error
            continue
        return Reservation(int(held.getsockname()[1]), held)
    raise AddressTaken(
        f"no free TCP port from {LOWEST_PORT} to {FIRST_EPHEMERAL_PORT} on this machine",
        remedy="Look for processes that hold many ports (`ss -tln`)",
    ) from last


def port_of(address: str) -> int:
    """The port in ``host:port``."""
    return int(address.rpartition(":")[2])


def cut_connections(own: str, others: frozenset[str], *, listener: bool) -> int:
    """Shut down this process's connections to and from the group, as its death would; the number of
    sockets.

    Args:
        own: the address that this process serves on.
        others: the other ranks' addresses.
        listener: accept no new connections either.

    TensorFlow has no way to leave a group: a server can't be stopped, and a failing operation isn't
    told to ranks that wait. Shutting the sockets down tells them within milliseconds. The
    descriptors stay with their owner. The listener goes first.
    """
    ports = {port_of(address) for address in others}
    mine = port_of(own)
    cut = 0
    if listener:
        cut += _shut_down_all(
            lambda found: _port(found.laddr) == mine and found.status == psutil.CONN_LISTEN
        )
    for _ in range(LOOKS):
        done = _shut_down_all(
            lambda found: (
                found.status in OPEN and (_port(found.laddr) == mine or _port(found.raddr) in ports)
            )
        )
        cut += done
        if not done:
            break
    return cut


def _shut_down_all(chosen: Callable[[Any], bool]) -> int:
    found = psutil.Process().net_connections("tcp")
    return sum(_shut_down(one.fd) for one in found if one.fd >= 0 and chosen(one))


def _port(end: Any) -> int | None:
    return end.port if end else None


def _shut_down(descriptor: int) -> int:
    try:
        # A descriptor of our own for the same connection: closing it leaves gRPC's open, whose
        # owner would else close a number that by then is another file's
        duplicate = socket.socket(fileno=os.dup(descriptor))
    except OSError:
        return 0  # closed by its owner in the meantime
    with duplicate:
        try:
            duplicate.shutdown(socket.SHUT_RDWR)
        except OSError:
            return 0  # not connected any more
    return 1


def _first_ephemeral_port() -> int:
    try:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        lowest = FIRST_EPHEMERAL_PORT
    return max(lowest, LOWEST_PORT + 1000)
