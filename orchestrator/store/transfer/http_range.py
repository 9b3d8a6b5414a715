"""How is a file downloaded at the speed of the network, rather than of one Python event loop?

Rule: where the store's client can tell a plain HTTP address for an object (a signed URL of S3,
Google's media link with its token), its ranges are read by threads straight from sockets into the
file: no copies in Python, the interpreter's lock let go while bytes move. Everything else
(credentials, redirects, error bodies, proxies, private certificates) stays the client's: at the
first answer that isn't the bytes asked for, the range is left to it.
"""

from __future__ import annotations

import errno
import http.client
import os
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from orchestrator.store.objects.location import Location

BUFFER_BYTES = 1 << 20
"""Read from a socket at once: large enough that Python's part in it doesn't count, small enough for
each of many streams.
"""
BUSY = frozenset({408, 429, 500, 502, 503, 504})
_OWN_CERTIFICATES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")


class NotDirect(Exception):
    """The object can't be had this way: ask the store's client."""


class NotWritten(Exception):
    """The local disk refused; ``args[0]`` is its OSError. No retry helps, whatever the network
    does.
    """


@dataclass(frozen=True)
class Link:
    """An object as plain HTTP reaches it. Holds credentials: never shown."""

    host: str
    port: int | None
    secure: bool
    target: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


def link_to(location: Location) -> Link | None:
    """The object's plain HTTP address; None where there is none, or where the way to it is the
    client's secret.
    """
    try:
        url, headers = _address(location)
    except Exception:  # noqa: BLE001  whatever it is, the client's own path will meet it again and say it properly
        return None
    parts = urlsplit(url)
    if parts.hostname is None or parts.scheme not in ("http", "https"):
        return None
    if urllib.request.getproxies().get(parts.scheme) and not urllib.request.proxy_bypass(
        parts.hostname
    ):
        return None
    if parts.scheme == "https" and any(os.environ.get(name) for name in _OWN_CERTIFICATES):
        return None
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    return Link(parts.hostname, parts.port, parts.scheme == "https", target, headers)


def _address(location: Location) -> tuple[str, Mapping[str, str]]:
    if location.protocol in ("gs", "gcs"):
        return str(location.fs.url(location.path)), location.fs._get_headers(None)
    if location.protocol in ("s3", "s3a"):
        return str(location.call("read", "url", location.path)), {}
    return "", {}


def read_range(
    link: Link,
    descriptor: int,
    start: int,
    end: int,
    stall_s: float,
    came: Callable[[memoryview], int],
) -> None:
    """Writes the object's bytes from ``start`` up to ``end`` to their place in a file.

    Args:
        stall_s: longest silence of the socket.
        came: shown the bytes that have come; answers how many of them to write. Fewer than there
            are: no more are wanted.

    Raises:
        NotDirect: the answer isn't the bytes asked for; the store's client will say why.
        NotWritten: the disk refused.
        OSError, http.client.HTTPException: a reset, a silence, a short body, a busy store: try
            again.
    """
    kind = http.client.HTTPSConnection if link.secure else http.client.HTTPConnection
    connection = kind(link.host, link.port, timeout=stall_s)
    try:
        connection.request(
            "GET", link.target, headers={**link.headers, "Range": f"bytes={start}-{end - 1}"}
        )
        response = connection.getresponse()
        if response.status in BUSY:
            raise OSError(errno.EBUSY, f"HTTP {response.status} {response.reason}")
        if response.status != 206 or int(response.headers.get("Content-Length", -1)) != end - start:
            raise NotDirect(f"HTTP {response.status}")
        _pour(response, descriptor, start, end, came)
    finally:
        connection.close()


def _pour(
    response: http.client.HTTPResponse,
    descriptor: int,
    start: int,
    end: int,
    came: Callable[[memoryview], int],
) -> None:
    view = memoryview(bytearray(min(BUFFER_BYTES, end - start)))
    position = start
    while position < end:
        count = response.readinto(view[: min(len(view), end - position)])
        if not count:
            raise ConnectionError(
                f"the answer ended after {position - start} of {end - start} bytes"
            )
        wanted = came(view[:count])
        write_at(descriptor, view[:wanted], position)
        if wanted < count:
            return
        position += count


def write_at(descriptor: int, data: memoryview, position: int) -> None:
    """All of ``data`` to its place in a file. Raises NotWritten."""
    while data:
        try:
            written = os.pwrite(descriptor, data, position)
        except OSError as error:
            raise NotWritten(error) from error
        data, position = data[written:], position + written
