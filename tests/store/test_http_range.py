"""Which objects are had by plain HTTP, what is asked for, and which answers are taken for their bytes?"""

from __future__ import annotations

import http.client
import io
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.store.objects.client_errors import is_transient
from orchestrator.store.objects.location import Location
from orchestrator.store.transfer import http_range
from orchestrator.store.transfer.http_range import (
    BUSY,
    Link,
    NotDirect,
    NotWritten,
    link_to,
    read_range,
    write_at,
)

SIGNED = "https://bucket.s3.test:9000/a/b%20c?X-Amz-Expires=100&X-Amz-Signature=secret"
MEDIA = "https://storage.test/download/storage/v1/b/bucket/o/a?alt=media"
DATA = bytes(range(256)) * 40


class Client:
    """What the clients of S3 and Google tell of an object's address."""

    async_impl = False

    def __init__(self, protocol: Any, address: str) -> None:
        self.protocol, self.address = protocol, address

    def url(self, path: str) -> str:
        assert path == "bucket/a"
        if not self.address:
            raise PermissionError("no key to sign with")
        return self.address

    def _get_headers(self, given: None) -> dict[str, str]:
        assert given is None
        return {"Authorization": "Bearer token"}


def place(protocol: Any, address: str) -> Location:
    return Location("x://bucket/a", "bucket/a", Client(protocol, address))


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxies and no certificates of somebody's own."""
    for name in os.environ:
        if name.lower().endswith("_proxy") or name in http_range._OWN_CERTIFICATES:
            monkeypatch.delenv(name)


TOKEN = {"Authorization": "Bearer token"}


@pytest.mark.parametrize(
    ("protocol", "address", "link"),
    [
        (
            ("s3", "s3a"),
            SIGNED,
            Link("bucket.s3.test", 9000, True, SIGNED.partition(":9000")[2], {}),
        ),
        ("s3a", "http://127.0.0.1/a", Link("127.0.0.1", None, False, "/a", {})),
        (
            ("gs", "gcs"),
            MEDIA,
            Link("storage.test", None, True, MEDIA.partition(".test")[2], TOKEN),
        ),
        ("gcs", "http://host:1/a", Link("host", 1, False, "/a", TOKEN)),
    ],
)
def test_link_is_the_address_that_the_client_tells(protocol: Any, address: str, link: Link) -> None:
    assert link_to(place(protocol, address)) == link


@pytest.mark.parametrize(
    ("protocol", "address"),
    [
        ("abfs", SIGNED),
        ("memory", SIGNED),
        ("s3", ""),
        ("gs", ""),
        ("s3", "/a/b"),
        ("s3", "https:/a/b"),
        ("s3", "ftp://host/a"),
    ],
)
def test_object_without_an_address_of_plain_http_has_no_link(protocol: str, address: str) -> None:
    assert link_to(place(protocol, address)) is None


PROXY = "http://proxy.test:3128"


@pytest.mark.parametrize(
    ("address", "environment", "linked"),
    [
        ("https://host/a", {"https_proxy": PROXY}, False),
        ("https://host/a", {"https_proxy": PROXY, "no_proxy": "host"}, True),
        ("https://host/a", {"https_proxy": PROXY, "no_proxy": "other"}, False),
        ("https://host/a", {"http_proxy": PROXY}, True),
        ("http://host/a", {"http_proxy": PROXY}, False),
        ("http://host/a", {"https_proxy": PROXY}, True),
        *(("https://host/a", {name: "/ca.pem"}, False) for name in http_range._OWN_CERTIFICATES),
        ("https://host/a", {"AWS_CA_BUNDLE": ""}, True),
        ("http://host/a", {"AWS_CA_BUNDLE": "/ca.pem"}, True),
    ],
)
def test_proxies_and_own_certificates_are_left_to_the_client(
    monkeypatch: pytest.MonkeyPatch, address: str, environment: dict[str, str], linked: bool
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (link_to(place("s3", address)) is not None) == linked


class Server:
    """The other end of a connection: it says ``answer`` to whatever it's asked."""

    def __init__(self, answer: bytes) -> None:
        self.answer, self.asked, self.closed = answer, b"", False
        self.place: tuple[Any, ...] = ()

    def connected(self, place: tuple[str, int], timeout_s: float, *_: Any) -> Server:
        self.place = (*place, timeout_s)
        return self

    def setsockopt(self, *_: int) -> None:
        """As a socket."""

    def sendall(self, data: bytes) -> None:
        self.asked += data

    def makefile(self, *_: Any) -> io.BytesIO:
        return io.BytesIO(self.answer)

    def close(self) -> None:
        self.closed = True


def served(
    monkeypatch: pytest.MonkeyPatch,
    body: bytes,
    status: str = "206 Partial",
    length: int | None = -1,
) -> Server:
    """A server behind every new connection. Its answer tells a length, by default that of its body."""
    told = (
        b"" if length is None else b"Content-Length: %d\r\n" % (len(body) if length < 0 else length)
    )
    server = Server(b"HTTP/1.1 %s\r\n%s\r\n%s" % (status.encode(), told, body))
    monkeypatch.setattr(socket, "create_connection", server.connected)
    return server


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A file of 300 bytes, and its descriptor."""
    path = tmp_path / "copy"
    path.write_bytes(b"." * 300)
    descriptor = os.open(path, os.O_RDWR)
    yield path, descriptor
    os.close(descriptor)


LINK = Link("host.test", 8080, False, "/a?b=c", {"Authorization": "Bearer token"})


def test_range_is_asked_for_with_the_links_headers_and_put_in_its_place(
    monkeypatch: pytest.MonkeyPatch, copy: tuple[Path, int]
) -> None:
    path, descriptor = copy
    server = served(monkeypatch, DATA[100:250])
    shown: list[bytes] = []

    def came(data: memoryview) -> int:
        shown.append(bytes(data))
        return len(data)

    read_range(LINK, descriptor, 100, 250, 7.5, came)
    assert path.read_bytes() == b"." * 100 + DATA[100:250] + b"." * 50
    assert b"".join(shown) == DATA[100:250]
    assert server.place == ("host.test", 8080, 7.5)
    asked = server.asked.split(b"\r\n")
    assert asked[0] == b"GET /a?b=c HTTP/1.1"
    assert {b"Range: bytes=100-249", b"Authorization: Bearer token"} <= {*asked}
    assert server.closed


def test_secure_link_is_read_over_a_secure_connection(
    monkeypatch: pytest.MonkeyPatch, copy: tuple[Path, int]
) -> None:
    served(monkeypatch, b"x")
    secured: list[tuple[str, int, float]] = []

    class Secure(http.client.HTTPConnection):
        def connect(self) -> None:
            secured.append((self.host, self.port, self.timeout))  # type: ignore[arg-type]
            super().connect()

    monkeypatch.setattr(http_range.http.client, "HTTPSConnection", Secure)  # type: ignore[attr-defined]
    read_range(LINK, copy[1], 0, 1, 7.5, len)
    assert secured == []
    read_range(Link("host.test", 8443, True, "/a", {}), copy[1], 0, 1, 7.5, len)
    assert secured == [("host.test", 8443, 7.5)]


@pytest.mark.parametrize("status", sorted(BUSY))
def test_busy_store_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, copy: tuple[Path, int], status: int
) -> None:
    server = served(monkeypatch, b"x" * 10, f"{status} Later")
    with pytest.raises(OSError, match=f"HTTP {status} Later") as told:
        read_range(LINK, copy[1], 0, 10, 1.0, len)
    assert is_transient(told.value)
    assert server.closed


@pytest.mark.parametrize(
    ("status", "length"),
    [
        ("200 OK", 10),
        ("403 Forbidden", 10),
        ("404 Gone", 10),
        ("307 Elsewhere", 10),
        ("206 Partial", 9),
        ("206 Partial", 11),
        ("206 Partial", None),
        ("206 Partial of one byte", None),
    ],
)
def test_answer_that_is_not_the_range_is_left_to_the_client(
    monkeypatch: pytest.MonkeyPatch, copy: tuple[Path, int], status: str, length: int | None
) -> None:
    path, descriptor = copy
    size = 1 if "one byte" in status else 10
    server = served(monkeypatch, b"x" * size, status, length)
    with pytest.raises(NotDirect, match=status[:3]):
        read_range(LINK, descriptor, 0, size, 1.0, len)
    assert path.read_bytes() == b"." * 300
    assert server.closed


def test_answer_that_ends_early_is_a_failure_and_what_came_stays(
    monkeypatch: pytest.MonkeyPatch, copy: tuple[Path, int]
) -> None:
    path, descriptor = copy
    served(monkeypatch, b"x" * 70, length=100)
    with pytest.raises(ConnectionError, match="ended after 70 of 100 bytes"):
        read_range(LINK, descriptor, 20, 120, 1.0, len)
    assert path.read_bytes() == b"." * 20 + b"x" * 70 + b"." * 210


def test_large_range_comes_in_pieces_each_to_its_place(
    monkeypatch: pytest.MonkeyPatch, copy: tuple[Path, int]
) -> None:
    path, descriptor = copy
    monkeypatch.setattr(http_range, "BUFFER_BYTES", 64)
    served(monkeypatch, DATA[:200])
    sizes: list[int] = []

    def came(data: memoryview) -> int:
        sizes.append(len(data))
        return len(data)

    read_range(LINK, descriptor, 10, 210, 1.0, came)
    assert path.read_bytes() == b"." * 10 + DATA[:200] + b"." * 90
    assert sizes == [64, 64, 64, 8]


@pytest.mark.parametrize("wanted", [0, 10, 63])
def test_stream_that_wants_no_more_ends_and_writes_what_it_wanted(
    monkeypatch: pytest.MonkeyPatch, copy: tuple[Path, int], wanted: int
) -> None:
    path, descriptor = copy
    monkeypatch.setattr(http_range, "BUFFER_BYTES", 64)
    served(monkeypatch, DATA[:200])
    left = [64, wanted]
    read_range(LINK, descriptor, 0, 200, 1.0, lambda _: left.pop(0))
    written = 64 + wanted
    assert path.read_bytes() == DATA[:written] + b"." * (300 - written)
    assert left == []


def test_bytes_that_the_disk_takes_a_few_at_a_time_are_all_written(
    monkeypatch: pytest.MonkeyPatch, copy: tuple[Path, int]
) -> None:
    path, descriptor = copy
    real = os.pwrite
    fake = SimpleNamespace(pwrite=lambda to, data, at: real(to, data[:3], at))
    monkeypatch.setattr(http_range, "os", fake)
    write_at(descriptor, memoryview(DATA[:20]), 5)
    assert path.read_bytes() == b"." * 5 + DATA[:20] + b"." * 275


def test_disk_that_refuses_is_told_from_a_store_that_does(copy: tuple[Path, int]) -> None:
    reading = os.open(copy[0], os.O_RDONLY)
    try:
        with pytest.raises(NotWritten) as told:
            write_at(reading, memoryview(b"x"), 0)
    finally:
        os.close(reading)
    assert isinstance(told.value.args[0], OSError)
