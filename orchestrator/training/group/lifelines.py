"""How do peers learn at once that this process is dead?

Rule: a process that is killed gives its memory back before it closes its files, and that takes
0.1 ms for each megabyte. So one thread has a table of open files of its own, with nothing in it but
two sockets that listen: its files are closed when that thread ends, whatever the others still have
to give back. Peers connect there and wait for the end. Nothing is ever sent, read or accepted;
a connection that nobody has accepted ends with the socket that listens. Where threads can't have
tables of their own there are no lifelines, and peers learn it when the process is gone.

Source: unshare(2), CLONE_FILES; the order of ``exit_mm`` and ``exit_files`` in Linux's
``kernel/exit.c``.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import secrets
import select
import socket
import threading
import time
from collections.abc import Hashable, Mapping
from typing import TypeVar

from orchestrator.training.group.addresses import Address, family

_Whose = TypeVar("_Whose", bound=Hashable)
CLONE_FILES = 0x400
"""From Linux's ``linux/sched.h``; Python 3.11 has no name for it."""
CLOSE_RANGE = 436
"""The number of close_range(2), the same on all processors; older C libraries have no name for it,
and Python would then close a thousand million numbers one by one.
"""
HIGHEST = 0x7FFFFFFF
"""Above every descriptor: they are ints."""
BACKLOG = 4096
"""Peers that may hold on to a lifeline, those included that are gone by now: the most that Linux
takes without being asked.
"""
CONNECTED_S = 0.2
"""Longest wait for connections to lifelines on other hosts, all together; who isn't connected by
then is watched through the other connections alone.
"""


class Lifeline:
    """What ends with this process, and where peers hold on to it.

    Args:
        host: the address to listen on.

    Attributes:
        name: of the Unix socket; empty where there is no lifeline.
        port: of the TCP socket; 0 where there is no lifeline.
    """

    def __init__(self, host: str) -> None:
        self.name, self.port = "", 0
        self._leash: int | None = None
        begun, is_apart = threading.Event(), threading.Event()
        name = f"tfresume-life-{secrets.token_hex(12)}"
        with (
            socket.create_server((host, 0), family=family(host), backlog=BACKLOG) as tcp,
            socket.socket(socket.AF_UNIX) as unix,
        ):
            unix.bind(f"\0{name}")
            unix.listen(BACKLOG)
            end, leash = os.pipe()
            threading.Thread(
                target=_live,
                args=((tcp.fileno(), unix.fileno(), end), end, begun, is_apart),
                name="tfresume-lifeline",
                daemon=True,
            ).start()
            begun.wait()  # its end would be taken from a thread that came late
            port = tcp.getsockname()[1]
            # This table's copies go: from here on the sockets are the thread's alone
        if is_apart.is_set():
            os.close(end)
            self.name, self.port, self._leash = name, port, leash
        else:
            os.close(leash)

    def close(self) -> None:
        """End it; peers that hold on to it take this process for dead."""
        leash, self._leash = self._leash, None
        if leash is not None:
            os.close(leash)


def _live(
    kept: tuple[int, ...], end: int, begun: threading.Event, is_apart: threading.Event
) -> None:
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        memory = ctypes.create_string_buffer(1)
        if libc.unshare(CLONE_FILES) == 0:
            first = 0
            for descriptor in (*sorted(kept), HIGHEST):
                _close(libc, first, descriptor - 1)
                first = descriptor + 1
            is_apart.set()
    finally:
        begun.set()
    # A single call that lasts as long as the process: Python's garbage collector, which may close
    # any file of the process, must not run where its numbers mean other files
    while libc.read(end, memory, 1) < 0 and ctypes.get_errno() == errno.EINTR:
        continue
    if is_apart.is_set():
        _close(libc, 0, HIGHEST)
    else:
        os.close(end)


def _close(libc: ctypes.CDLL, first: int, last: int) -> None:
    """Close all files of this table from ``first`` to ``last``."""
    if first <= last and libc.syscall(CLOSE_RANGE, first, last, 0) != 0:
        # A kernel before 5.9, or a container that refuses what it doesn't know: one by one, as far
        # as there can be any
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        os.closerange(first, min(last + 1, soft))


class Watches:
    """The lifelines of other processes that this one holds on to: one for each, for as long as both
    live, from one generation to the next.
    """

    def __init__(self) -> None:
        self._held: dict[Address, socket.socket] = {}

    def on(self, peers: Mapping[int, Address], own: Address) -> dict[int, socket.socket]:
        """By rank, a connection that ends with that peer; without those who have no lifeline, or
        whose can't be reached.

        Args:
            peers: who has just been greeted, so that a lifeline that has ended was cut on the way.
        """
        for address in ended(self._held) & set(peers.values()):
            self._held.pop(address).close()
        wanted = [each for each in peers.values() if each not in self._held and each.life_name]
        self._held.update(_connected(wanted, own))
        return {rank: self._held[each] for rank, each in peers.items() if each in self._held}

    def close(self) -> None:
        """Hold on to none."""
        while self._held:
            self._held.popitem()[1].close()


def ended(held: Mapping[_Whose, socket.socket]) -> set[_Whose]:
    """Whose lifelines have ended; those that aren't held any more tell nothing."""
    poll = select.poll()
    by_descriptor = {each.fileno(): whose for whose, each in held.items() if each.fileno() >= 0}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.POLLRDHUP)
    return {by_descriptor[descriptor] for descriptor, _ in poll.poll(0)}


def _connected(wanted: list[Address], own: Address) -> dict[Address, socket.socket]:
    found: dict[Address, socket.socket] = {}
    begun: dict[int, tuple[Address, socket.socket]] = {}
    for address in wanted:
        near = address.machine == own.machine
        connection = socket.socket(socket.AF_UNIX if near else family(address.host))
        connection.setblocking(False)
        try:
            connection.connect(
                f"\0{address.life_name}" if near else (address.host, address.life_port)
            )
            found[address] = connection
        except BlockingIOError as error:
            if error.errno == errno.EINPROGRESS:
                begun[connection.fileno()] = (address, connection)
            else:
                connection.close()  # as many hold on to it as can
        except OSError:
            connection.close()
    deadline_s = time.monotonic() + CONNECTED_S
    poll = select.poll()
    for descriptor in begun:
        poll.register(descriptor, select.POLLOUT)
    while begun and (left_s := deadline_s - time.monotonic()) > 0:
        for descriptor, _ in poll.poll(left_s * 1000):
            poll.unregister(descriptor)
            address, connection = begun.pop(descriptor)
            if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                connection.close()
            else:
                found[address] = connection
    for _, connection in begun.values():
        with contextlib.suppress(OSError):
            connection.close()
    return found
