"""What happens to a client when its HTTP store misbehaves?

A proxy that understands HTTP: it reads whole requests, passes them on, and spoils the exchanges
that a script names. Faults fire a counted number of times and are recorded, so that a test can
assert that its fault happened.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal[
    "unavailable",
    "throttled",
    "denied",
    "expired",
    "reset",
    "reset_in_body",
    "truncate",
    "slow",
    "hang",
    "drop_reply",
]
EXPIRED = {
    False: (
        401,
        "Unauthorized",
        "Content-Type: application/json\r\n",
        '{"error": {"code": 401, "message": "Token expired"}}',
    ),
    True: (
        400,
        "Bad Request",
        "Content-Type: application/xml\r\n",
        "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>",
    ),
}
"""How Google and Amazon say that a token has expired."""


@dataclass(frozen=True)
class Request:
    """One HTTP request. ``about`` is its target and the beginning of its body, where Google's
    uploads keep the object's name.
    """

    method: str
    target: str
    head: bytes
    body: bytes

    @property
    def about(self) -> str:
        return self.target + "\n" + self.body[:2000].decode("latin-1")


@dataclass
class Fault:
    """One line of the script: spoil ``times`` exchanges that match."""

    kind: Kind
    matches: Callable[[Request], bool]
    times: int = 1
    fired: list[Request] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def end(self) -> None:
        """Spoil nothing more, and break off what hangs."""
        self.times = 0
        self.over.set()


class FaultProxy:
    """The proxy, on a free port of its own thread and loop.

    Args:
        upstream: (host, port) of the real server.

    Attributes:
        requests: all that came.
        answered_bytes: of all answers of the real server, heads included.
    """

    def __init__(self, upstream: tuple[str, int]) -> None:
        self._upstream = upstream
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self.requests: list[Request] = []
        self.answered_bytes = 0
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="fault-proxy", daemon=True
        )
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop
        ).result(10)
        self.port: int = self._server.sockets[0].getsockname()[1]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def spoil(self, kind: Kind, method: str = "", about: str = "", times: int = 1) -> Fault:
        """Spoils the next ``times`` requests of that method whose target or body's beginning holds
        ``about``.
        """
        return self._add(
            Fault(
                kind,
                lambda request: method in ("", request.method) and about in request.about,
                times,
            )
        )

    def refuse(self, matches: Callable[[Request], bool]) -> Fault:
        """Denies every request that matches, until the fault's ``times`` is set to 0."""
        return self._add(Fault("denied", matches, sys.maxsize))

    def _add(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _shut(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _due(self, request: Request) -> Fault | None:
        with self._lock:
            self.requests.append(request)
            for fault in self._faults:
                if len(fault.fired) < fault.times and fault.matches(request):
                    fault.fired.append(request)
                    return fault
        return None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while (request := await _read_request(reader, writer)) is not None:
                if not await self._exchange(request, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went away, or the test is over
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _exchange(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        fault = self._due(request)
        kind = fault.kind if fault else None
        match kind:
            case "unavailable":
                return await _answer(writer, 503, "Service Unavailable", "Retry-After: 1\r\n")
            case "throttled":
                return await _answer(writer, 429, "Too Many Requests", "Retry-After: 1\r\n")
            case "denied":
                return await _answer(writer, 403, "Forbidden", "")
            case "expired":
                return await _answer(
                    writer, *EXPIRED["amz-" in request.head.decode("latin-1").lower()]
                )
            case "reset":
                return _reset(writer)
            case "hang":
                assert fault is not None
                while not fault.over.is_set():
                    await asyncio.sleep(0.02)
                return _reset(writer)
        response = await self._forward(request)
        self.answered_bytes += len(response)
        match kind:
            case "drop_reply":
                return _reset(writer)
            case "reset_in_body" | "truncate":
                head, _, body = response.partition(b"\r\n\r\n")
                writer.write(head + b"\r\n\r\n" + body[: len(body) // 2])
                await writer.drain()
                return _reset(writer) if kind == "reset_in_body" else False
            case "slow":
                for start in range(0, len(response), max(1, len(response) // 8)):
                    writer.write(response[start : start + max(1, len(response) // 8)])
                    await writer.drain()
                    await asyncio.sleep(0.05)
            case _:
                writer.write(response)
        await writer.drain()
        return True

    async def _forward(self, request: Request) -> bytes:
        reader, writer = await asyncio.open_connection(*self._upstream)
        try:
            writer.write(request.head + request.body)
            await writer.drain()
            return await _read_response(reader, has_body=request.method != "HEAD")
        finally:
            writer.close()


async def _read_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
    if b"100-continue" in head.lower():
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        head = b"\r\n".join(
            line for line in head.split(b"\r\n") if not line.lower().startswith(b"expect:")
        )
    return Request(method, target, head, await _read_body(reader, head))


async def _read_response(reader: asyncio.StreamReader, has_body: bool) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    if not has_body or status in (204, 304):
        return head
    return head + await _read_body(reader, head)


async def _read_body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    headers = {
        key.strip().lower(): value.strip()
        for key, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
    }
    if b"chunked" in headers.get(b"transfer-encoding", b""):
        parts = []
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            parts += (
                [line, await reader.readexactly(size + 2)]
                if size
                else [line, await reader.readuntil(b"\r\n")]
            )
            if not size:
                return b"".join(parts)
    return await reader.readexactly(int(headers.get(b"content-length", b"0")))


async def _answer(
    writer: asyncio.StreamWriter, status: int, reason: str, headers: str, body: str = ""
) -> bool:
    writer.write(
        f"HTTP/1.1 {status} {reason}\r\n{headers}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    await writer.drain()
    return True


def _reset(writer: asyncio.StreamWriter) -> bool:
    """RST instead of FIN: zero linger."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False
