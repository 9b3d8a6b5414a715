"""How long is a store waited for?

Rule: one that has answered this process before is busy when it doesn't, and is given its time. One
that has never answered is more often a wrong address or a missing network than an outage: for its
first answer to a small question (a listing, a record) FIRST_CONTACT_S is enough. (gcsfs alone tries
six times with 31 s of pauses; three tries of that were two minutes before a typing error was told.)
"""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlsplit

FIRST_CONTACT_S = 10.0
"""A first answer takes a name look-up, a TLS handshake and a token: a second or two over a slow
line.
"""
PROBE_S = 3.0
"""A handshake over the slowest line takes less; whoever waits has waited ``FIRST_CONTACT_S``
already.
"""
_answers: dict[tuple[str, str, str], int] = {}


def _place(protocol: str, fs: Any, path: str) -> tuple[str, str, str]:
    return protocol, str(getattr(fs, "_fs_token", "")), path.strip("/").partition("/")[0]


def has_answered(protocol: str, fs: Any, path: str) -> bool:
    """Whether the bucket of ``path`` ever gave this process an answer, be it a refusal."""
    return answers(protocol, fs, path) > 0


def answers(protocol: str, fs: Any, path: str) -> int:
    """How many it gave, about: a store that moves is told from one that stands still."""
    return _answers.get(_place(protocol, fs, path), 0)


def answered(protocol: str, fs: Any, path: str) -> None:
    """Remembers that it did."""
    place = _place(protocol, fs, path)
    _answers[place] = _answers.get(place, 0) + 1


def why_silent(fs: Any) -> str:
    """What a plain connection to the store's address meets; for clients whose own retries outlast
    our patience unsaid.
    """
    parts = urlsplit(str(getattr(fs, "base", "") or getattr(fs, "endpoint_url", "") or ""))
    if parts.hostname is None:
        return f"no answer within {FIRST_CONTACT_S:g} s"
    port = parts.port or (80 if parts.scheme == "http" else 443)
    try:
        socket.create_connection((parts.hostname, port), PROBE_S).close()
    except OSError as error:
        return f"no connection to {parts.hostname}:{port} ({error})"
    return f"{parts.hostname}:{port} takes connections, but gave no answer within {FIRST_CONTACT_S:g} s"
