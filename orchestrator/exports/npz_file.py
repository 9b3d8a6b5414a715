"""How is an export laid out as NumPy's ``.npz``?

Rule: one uncompressed ``.npy`` for each tensor, as ``numpy.savez`` writes them, streamed into the
archive. Strings are NumPy's fixed-width bytes, which lose zero bytes at an element's end: such a
tensor is refused. Nothing is pickled.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from orchestrator.errors import ConfigError, CorruptCheckpoint
from orchestrator.exports.items import SAME, Item, ReadBack, Tensors, chunks_as_stored
from orchestrator.store.bundle.values import CHUNK_BYTES, Chunk
from orchestrator.store.objects.location import Location

FILE = "model.npz"
HOLDS = SAME | {
    "bfloat16": "float32",
    "complex64": "complex64",
    "complex128": "complex128",
    "string": "bytes",
}
"""Types that NumPy holds, by the type that holds them."""
RESERVED: dict[str, str] = {}
"""Every name can be had."""
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The archive's earliest date: two exports of one checkpoint are the same bytes."""


def write(directory: Path, items: Sequence[Item], values: Tensors) -> list[Path]:
    """Write the file.

    Raises:
        CorruptCheckpoint: a tensor of the source is damaged.
        ConfigError: a string ends in a zero byte.
    """
    with zipfile.ZipFile(directory / FILE, "w", zipfile.ZIP_STORED) as archive:
        for item in items:
            member = zipfile.ZipInfo(f"{item.name}.npy", _LONG_AGO)
            # The archive isn't told the size beforehand, and would refuse a member beyond 2 GiB else
            with archive.open(member, "w", force_zip64=True) as file:
                if item.dtype == "string":
                    _write_strings(file, item, values.strings(item.key))
                    continue
                _write_head(file, np.dtype(item.stored_as).newbyteorder("<"), item.shape)
                for chunk in chunks_as_stored(values, item):
                    file.write(chunk)
    return [directory / FILE]


def _write_head(file: IO[bytes], dtype: Any, shape: tuple[int, ...]) -> None:
    head = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_2_0(file, head)


def _write_strings(file: IO[bytes], item: Item, strings: list[bytes]) -> None:
    if any(text.endswith(b"\0") for text in strings):
        raise ConfigError(
            f"a string of {item.key!r} ends in a zero byte, which NumPy's strings lose",
            remedy=f"Leave it out with --omit '{item.key}', or export --to checkpoint",
        )
    width = max(1, *map(len, strings)) if strings else 1
    _write_head(file, np.dtype(f"S{width}"), item.shape)
    for text in strings:
        file.write(text.ljust(width, b"\0"))


def reader(directory: Location) -> ReadBack:
    """What was written, read back from where it lies. Raises CorruptCheckpoint."""
    return NpzReader(directory)


class NpzReader:
    """The file, read back."""

    def __init__(self, directory: Location) -> None:
        self._file = directory.child(FILE)
        try:
            self._archive = zipfile.ZipFile(io.BufferedReader(_Ranges(self._file), CHUNK_BYTES))
        except zipfile.BadZipFile as error:
            raise self._damage("is no archive") from error

    def chunks(self, item: Item) -> Iterator[Chunk]:
        """See ``ReadBack``."""
        with self._member(item) as file:
            dtype = self._head(file, item)
            if dtype != np.dtype(item.stored_as):
                raise self._damage(f"holds {item.name!r} as {dtype}")
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def strings(self, item: Item) -> list[bytes]:
        """See ``ReadBack``."""
        with self._member(item) as file:
            width = self._head(file, item).itemsize
            content = file.read()
        return [
            content[start : start + width].rstrip(b"\0") for start in range(0, len(content), width)
        ]

    @contextmanager
    def _member(self, item: Item) -> Iterator[IO[bytes]]:
        try:
            with self._archive.open(f"{item.name}.npy") as file:
                yield file
        except KeyError as error:
            raise self._damage(f"lacks {item.name!r}") from error
        except zipfile.BadZipFile as error:
            raise self._damage(f"holds {item.name!r} damaged") from error

    def _head(self, file: IO[bytes], item: Item) -> Any:
        """The member's NumPy type, at its data."""
        if npy.read_magic(file) != (2, 0):
            raise self._damage(f"holds {item.name!r} in another version of the format")
        shape, _, dtype = npy.read_array_header_2_0(file)
        if shape != item.shape:
            raise self._damage(f"holds {item.name!r} with the shape {list(shape)}")
        return dtype

    def _damage(self, what: str) -> CorruptCheckpoint:
        return CorruptCheckpoint(f"{self._file.shown} {what}", remedy="Delete it and export again")


class _Ranges(io.RawIOBase):
    """A file of any store, for libraries that seek."""

    def __init__(self, location: Location) -> None:
        super().__init__()
        info = location.info()
        self._location, self._size = location, 0 if info is None else info.size_bytes
        self._at = 0

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be read from anywhere."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Where reading goes on."""
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, begin + offset)
        return self._at

    def tell(self) -> int:
        """Where reading goes on."""
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """The next bytes, as many as there is room for."""
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        data = self._location.read_bytes(self._at, end)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
