"""Does anything that could be a Ray cluster answer at an address?

Rule: asked before Ray is, whose own attempts take minutes and may end the process. A cluster's head
speaks HTTP/2 (gRPC) at its port: a connection that comes about and the first frame of the answer
tell it from a machine that is gone, from a port where nobody listens, and from another program's.
What was tried stands in the error.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from orchestrator.errors import PlacementError

CONNECT_S, ANSWER_S = 4.0, 4.0
"""A packet that is lost is sent again after 1 and 3 seconds (RFC 6298), so two losses are borne;
together they stay below the ten seconds that ``reach`` promises.
"""
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How a client opens HTTP/2, with empty settings: RFC 9113, section 3.4."""
_FRAME_HEAD = 9
"""Bytes of an HTTP/2 frame's header: RFC 9113, section 4.1."""
_SETTINGS = 4
"""The type of the frame with which a server begins: RFC 9113, sections 3.4 and 6.5."""
_REMEDY = "Check --address with `ray status` on the cluster's head; from outside the cluster use `tfresume submit --address http://HEAD:8265`"


def reach(address: str, environment: Mapping[str, str] = os.environ) -> None:
    """Return where a cluster may answer at ``address``: ``auto``, ``local`` or ``HOST:PORT``.

    Raises:
        PlacementError: nothing does, or the address is none; says what was tried. Within ten
            seconds.
    """
    named = environment.get("RAY_ADDRESS") or address if address == "auto" else address
    if named in ("auto", "local"):
        return
    where = named if named == address else f"{named} (RAY_ADDRESS)"
    host, _, port = named.rpartition(":")
    host = host.strip("[]")
    if not (host and port.isdecimal() and 0 < int(port) < 65536) or "://" in named:
        raise PlacementError(
            f"{where} isn't the address of a Ray cluster",
            remedy="Give auto or HOST:PORT, as in 10.0.0.4:6379",
        )
    try:
        with socket.create_connection((host, int(port)), CONNECT_S) as connection:
            _greet(connection, environment)
    except socket.gaierror as error:
        raise PlacementError(
            f"no Ray cluster answers at {where}: the name {host} isn't known ({error.strerror})",
            remedy=_REMEDY,
        ) from error
    except TimeoutError as error:
        raise PlacementError(
            f"no Ray cluster answers at {where}: tried TCP port {port} of {host}, no answer within {CONNECT_S:.0f} s",
            remedy=_REMEDY,
        ) from error
    except OSError as error:
        raise PlacementError(
            f"no Ray cluster answers at {where}: tried TCP port {port} of {host}: {error.strerror or error}",
            remedy=_REMEDY,
        ) from error


def _greet(connection: socket.socket, environment: Mapping[str, str]) -> None:
    """Raises OSError, TimeoutError where no HTTP/2 is spoken. With TLS the connection has to do."""
    if environment.get("RAY_USE_TLS", "0").lower() not in ("", "0", "false"):
        return
    connection.settimeout(ANSWER_S)
    connection.sendall(_PREFACE)
    answer = b""
    while len(answer) < _FRAME_HEAD:
        part = connection.recv(_FRAME_HEAD - len(answer))
        if not part:
            break
        answer += part
    if len(answer) < _FRAME_HEAD or answer[3] != _SETTINGS:
        raise ConnectionError("somebody else's program listens there")
