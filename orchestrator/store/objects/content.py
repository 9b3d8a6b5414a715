"""Where do the bytes of a file come from that goes up?

Rule: from a local file or from memory, any range of them, any number of times: parts go up side by
side, and one that fails is read once more. Nobody makes a copy of the whole on the way.
"""

from __future__ import annotations

import io
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import google_crc32c

from orchestrator.store.objects.manifest import FileRecord
from orchestrator.store.objects.traffic import MOVED

CHUNK_BYTES = 4 << 20
"""Read for a checksum, or for a disk, at once: half of what a worker without room for a copy can spare
would go into 8 MB, since such a chunk is there three times on its way.
"""


class BytesByRange(Protocol):
    """Bytes of which any part can be had at any time: ``bytes``, a ``memoryview``, or what reads
    them where they are.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, wanted: slice, /) -> bytes | memoryview: ...


class Content(Protocol):
    """A file that isn't in the store yet."""

    @property
    def name(self) -> str:
        """What it's called there."""

    @property
    def size_bytes(self) -> int:
        """How long it is."""

    def read(self, start: int, size: int) -> bytes:
        """The bytes from ``start`` on, at most ``size``. Safe for several threads."""

    def record(self) -> FileRecord:
        """What the manifest says of it, computed from these bytes."""


class FileContent:
    """A local file; under its own name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = path.name
        self.size_bytes = path.stat().st_size

    def read(self, start: int, size: int) -> bytes:
        with open(self._path, "rb", buffering=0) as file:
            return os.pread(file.fileno(), size, start)

    def record(self) -> FileRecord:
        crc = size = 0
        for chunk in chunks_of(self):
            crc, size = google_crc32c.extend(crc, chunk), size + len(chunk)
            MOVED.add(len(chunk))
        return FileRecord(name=self.name, size_bytes=size, crc32c=crc)


class MemoryContent:
    """Pieces of memory, one after the other. They're read where they lie; nobody may change them
    meanwhile.

    Args:
        crc32c: of all bytes, unmasked.
    """

    def __init__(
        self, name: str, pieces: Sequence[BytesByRange], crc32c: int | None = None
    ) -> None:
        self.name = name
        self._pieces = [piece for piece in pieces if len(piece)]
        self._ends = list(accumulate(map(len, self._pieces)))
        self.size_bytes = self._ends[-1] if self._ends else 0
        self._crc = crc32c

    def read(self, start: int, size: int) -> bytes:
        return b"".join(self._views(start, min(start + size, self.size_bytes)))

    def _views(self, start: int, end: int) -> Iterator[bytes | memoryview]:
        number = bisect_right(self._ends, start)
        while start < end:
            piece, offset = self._pieces[number], self._ends[number]
            begin = start - (offset - len(piece))
            yield piece[begin : begin + end - start]
            start, number = offset, number + 1

    def record(self) -> FileRecord:
        if self._crc is None:
            crc = 0
            for chunk in chunks_of(self):
                crc = google_crc32c.extend(crc, chunk)
            self._crc = crc
        return FileRecord(name=self.name, size_bytes=self.size_bytes, crc32c=self._crc)


class Reader(io.RawIOBase):
    """A content as a file to read from, for clients that want one."""

    def __init__(self, content: Content) -> None:
        super().__init__()
        self._content, self._position = content, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {
            io.SEEK_SET: 0,
            io.SEEK_CUR: self._position,
            io.SEEK_END: self._content.size_bytes,
        }
        self._position = origin[whence] + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        data = self._content.read(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def chunks_of(content: Content) -> Iterator[bytes]:
    """A content from its beginning to its end, a chunk at a time."""
    position = 0
    while chunk := content.read(position, CHUNK_BYTES):
        yield chunk
        position += len(chunk)


def describe(path: Path) -> FileRecord:
    """Name, size and crc32c of a local file."""
    return FileContent(path).record()
