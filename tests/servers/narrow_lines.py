"""How is a store imitated that gives each connection so many bytes a second and no more, as real ones
do and a server on loopback doesn't?

Rule: bytes pass as they are; what goes up is slowed, connection by connection.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.servers.programs import free_ports

PIECE_BYTES = 64 << 10


class NarrowLines:
    """A proxy on loopback.

    Args:
        upstream: the server's port.
        bytes_per_s: that one connection carries upwards.
    """

    def __init__(self, upstream: int, bytes_per_s: float) -> None:
        self.port = free_ports(1)[0]
        self._upstream, self._bytes_per_s = upstream, bytes_per_s
        self.loop = asyncio.new_event_loop()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def begin(self) -> asyncio.Server:
        """Listen; on this proxy's loop."""
        return await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def end(self, server: asyncio.Server) -> None:
        """Listen and carry no longer."""
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, to_them = await asyncio.open_connection("127.0.0.1", self._upstream)
        with suppress(ConnectionError, asyncio.CancelledError):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._carry(reader, to_them, self._bytes_per_s))
                tasks.create_task(self._carry(theirs, writer, None))
        for end in (writer, to_them):
            end.close()

    async def _carry(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        bytes_per_s: float | None,
    ) -> None:
        free_s = 0.0
        while piece := await source.read(PIECE_BYTES):
            target.write(piece)
            await target.drain()
            if bytes_per_s is not None:
                free_s = max(free_s, self.loop.time()) + len(piece) / bytes_per_s
                await asyncio.sleep(free_s - self.loop.time())
        if target.can_write_eof():
            target.write_eof()


@contextmanager
def narrow_lines(upstream: int, bytes_per_s: float) -> Iterator[NarrowLines]:
    """A proxy that ends with the block."""
    proxy = NarrowLines(upstream, bytes_per_s)
    thread = threading.Thread(target=proxy.loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(proxy.begin(), proxy.loop).result(30)
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(proxy.end(server), proxy.loop).result(30)
        proxy.loop.call_soon_threadsafe(proxy.loop.stop)
        thread.join(30)
        proxy.loop.close()
