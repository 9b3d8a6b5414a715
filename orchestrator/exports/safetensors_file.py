"""How is an export laid out as safetensors?

Rule: the format is written by hand, since the library wants all tensors in memory at once: 8 bytes
of length, a JSON header padded to 8, then the tensors without gaps, widest type first, so that each
lies at a multiple of its width. The library itself reads it back in the tests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from orchestrator.errors import CorruptCheckpoint
from orchestrator.exports.items import SAME, Item, ReadBack, Tensors, chunks_as_stored
from orchestrator.store.bundle.protos import ITEM_BYTES
from orchestrator.store.bundle.values import CHUNK_BYTES, Chunk
from orchestrator.store.objects.location import Location

FILE = "model.safetensors"
HOLDS = SAME | {
    "bfloat16": "bfloat16",
    "complex64": "complex64",
    "float8_e5m2": "float8_e5m2",
    "float8_e4m3fn": "float8_e4m3fn",
}
"""Types that the format holds, by the type that holds them; no strings, no complex128."""
RESERVED = {"__metadata__": "__metadata___"}
"""The header's own key, and the name of a tensor that is called so."""
_WORDS = {
    "bool": "BOOL",
    "bfloat16": "BF16",
    "complex64": "C64",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fn": "F8_E4M3",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
}
_MAX_HEADER_BYTES = 100_000_000
"""The library's own limit: ``MAX_HEADER_SIZE`` of ``safetensors/src/tensor.rs``."""


def write(directory: Path, items: Sequence[Item], values: Tensors) -> list[Path]:
    """Write the file; raises CorruptCheckpoint where a tensor of the source is damaged."""
    ordered = sorted(items, key=lambda item: (-ITEM_BYTES[item.stored_as], item.name))
    head = _header(ordered)
    with open(directory / FILE, "wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for item in ordered:
            for chunk in chunks_as_stored(values, item):
                file.write(chunk)
    return [directory / FILE]


def _header(ordered: Sequence[Item]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "np"}}
    offset = 0
    for item in ordered:
        end = offset + item.size_bytes
        entries[item.name] = {
            "dtype": word(item.stored_as),
            "shape": list(item.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)


def word(dtype: str) -> str:
    """A type as the format calls it: ``F32``, ``U8``, …."""
    return _WORDS.get(dtype) or dtype[0].upper() + dtype.lstrip("uint")


def reader(directory: Location) -> ReadBack:
    """What was written, read back from where it lies. Raises CorruptCheckpoint."""
    return SafetensorsReader(directory)


class SafetensorsReader:
    """The file, read back."""

    def __init__(self, directory: Location) -> None:
        self._file = directory.child(FILE)
        length = int.from_bytes(self._file.read_bytes(0, 8), "little")
        if not 0 < length <= _MAX_HEADER_BYTES:
            raise self._damage("has no header")
        self._start = 8 + length
        try:
            self._entries = json.loads(self._file.read_bytes(8, self._start))
        except ValueError as error:
            raise self._damage("has a damaged header") from error

    def chunks(self, item: Item) -> Iterator[Chunk]:
        """See ``ReadBack``."""
        entry = self._entries.get(item.name)
        if entry is None or (entry["dtype"], entry["shape"]) != (
            word(item.stored_as),
            list(item.shape),
        ):
            raise self._damage(f"doesn't hold {item.name!r} as it was written")
        begin, end = entry["data_offsets"]
        for start in range(self._start + begin, self._start + end, CHUNK_BYTES):
            yield self._file.read_bytes(start, min(start + CHUNK_BYTES, self._start + end))

    def strings(self, item: Item) -> list[bytes]:
        """See ``ReadBack``; the format holds none."""
        raise self._damage(f"can't hold the strings of {item.name!r}")

    def _damage(self, what: str) -> CorruptCheckpoint:
        return CorruptCheckpoint(f"{self._file.shown} {what}", remedy="Delete it and export again")
