"""Is whoever connects a member of this run?

Rule: both sides prove that they know the run's secret, by HMAC-SHA256 over fresh random numbers of
both and over what is agreed (generation, ranks, purpose), before anything else that came from the
other side is looked at. Replays fail, since each side brings a random number. What it doesn't give:
nothing is encrypted, and who can change packets under way can change numbers.
"""

from __future__ import annotations

import hmac
import os
import socket
import struct
import time
from dataclasses import dataclass

DATA, BELL = 0, 1
"""Purposes of a connection: numbers and messages pass through the one, rings and descriptors of
memory through the other, so that a ring never waits behind a gradient.
"""
HELLO = struct.Struct("<8sQIIB32s")
"""Magic, generation, rank of the caller, rank of the called, purpose, the caller's random number;
of fixed size, so that a stranger can't make anybody read more.
"""
MAGIC = b"tfresum1"
"""With the version of what follows."""
NONCE_BYTES = 32
"""256 bits: none comes twice, so no greeting that was overheard fits another one."""
MAC_BYTES = 32
"""The length of a SHA-256."""


class Stranger(Exception):
    """The other side isn't a member of this run, or doesn't speak its language; never seen outside
    of this room.
    """


class ClosedEarly(Stranger):
    """The other side closed the connection in the middle of the greeting."""


@dataclass(frozen=True)
class Hello:
    """What a connection is for.

    Attributes:
        generation: of the group.
        caller, called: ranks of the two sides.
        purpose: ``DATA`` or ``BELL``.
    """

    generation: int
    caller: int
    called: int
    purpose: int


def call(connection: socket.socket, secret: bytes, hello: Hello, deadline_s: float) -> None:
    """The side that connected; done by ``deadline_s`` of the monotonic clock. Raises Stranger,
    OSError.
    """
    first = HELLO.pack(
        MAGIC, hello.generation, hello.caller, hello.called, hello.purpose, os.urandom(NONCE_BYTES)
    )
    connection.sendall(first)
    reply = _taken(connection, NONCE_BYTES + MAC_BYTES, deadline_s)
    theirs = reply[:NONCE_BYTES]
    if not hmac.compare_digest(reply[NONCE_BYTES:], _mac(secret, b"called", first, theirs)):
        raise Stranger("the other side doesn't know the run's secret")
    connection.sendall(_mac(secret, b"caller", first, theirs))


def answer(connection: socket.socket, secret: bytes, deadline_s: float) -> Hello:
    """The side that was connected to; done by ``deadline_s`` of the monotonic clock. Raises
    Stranger, OSError.
    """
    first = _taken(connection, HELLO.size, deadline_s)
    magic, generation, caller, called, purpose, _ = HELLO.unpack(first)
    if magic != MAGIC:
        raise Stranger("not a member of any run of this version")
    mine = os.urandom(NONCE_BYTES)
    connection.sendall(mine + _mac(secret, b"called", first, mine))
    if not hmac.compare_digest(
        _taken(connection, MAC_BYTES, deadline_s), _mac(secret, b"caller", first, mine)
    ):
        raise Stranger("the other side doesn't know the run's secret")
    return Hello(generation, caller, called, purpose)


def _mac(secret: bytes, side: bytes, first: bytes, nonce: bytes) -> bytes:
    return hmac.digest(secret, side + first + nonce, "sha256")


def _taken(connection: socket.socket, count: int, deadline_s: float) -> bytes:
    """Exactly so many bytes: what comes after them isn't ours to read."""
    found = bytearray()
    while len(found) < count:
        # for all of it: one who sends a byte now and then isn't waited for
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise Stranger("the greeting took too long")
        connection.settimeout(left_s)
        more = connection.recv(count - len(found))
        if not more:
            raise ClosedEarly("the connection was closed in the middle of the greeting")
        found += more
    return bytes(found)
