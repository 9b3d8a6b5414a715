"""What becomes of each tensor in an export: under which name and as which type is it held?

Rule: a value is never changed without it being said. A type that a format doesn't know is widened
where that loses nothing (bfloat16 as float32), held by its width where only the name of the type
differs (quantised integers), and refused otherwise, by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from orchestrator.store.bundle.protos import ITEM_BYTES
from orchestrator.store.bundle.values import Chunk

_PLAIN = ("float16", "float32", "float64", "int8", "int16", "int32", "int64")
_UNSIGNED = ("uint8", "uint16", "uint32", "uint64", "bool")
_QUANTISED = {
    "qint8": "int8",
    "quint8": "uint8",
    "qint16": "int16",
    "quint16": "uint16",
    "qint32": "int32",
}
SAME = {name: name for name in (*_PLAIN, *_UNSIGNED)} | _QUANTISED
"""Types that every format holds, by the type that holds them."""


@dataclass(frozen=True)
class Item:
    """One tensor of an export.

    Attributes:
        key: in the source.
        name: in the export.
        dtype: in the source, as in ``BundleTensor``.
        stored_as: in the export; the same name but where the format doesn't know the type.
        shape: of the whole tensor.
        role: what it is to the model, as in ``kept_keys``.
        variables: of the graph, that it is the value of.
    """

    key: str
    name: str
    dtype: str
    stored_as: str
    shape: tuple[int, ...]
    role: str = ""
    variables: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """In the export; 0 for strings."""
        return int(np.prod(self.shape, dtype=np.int64)) * ITEM_BYTES.get(self.stored_as, 0)


class Tensors(Protocol):
    """The tensors of a source: ``Values`` of a checkpoint, ``Folded`` of a chain."""

    def chunks(self, key: str) -> Iterator[Chunk]:
        """See ``Values``."""

    def strings(self, key: str) -> list[bytes]:
        """See ``Values``."""


class ReadBack(Protocol):
    """An export's tensors, read back."""

    def chunks(self, item: Item) -> Iterator[Chunk]:
        """The bytes of numbers in C order. Raises CorruptCheckpoint: it isn't there, or not as
        ``item`` says.
        """

    def strings(self, item: Item) -> list[bytes]:
        """The elements of a string tensor in C order. Raises as ``chunks``."""


def chunks_as_stored(values: Tensors, item: Item) -> Iterator[Chunk]:
    """The source's bytes of an item as the export holds them."""
    pieces = values.chunks(item.key)
    if item.dtype == "bfloat16" and item.stored_as == "float32":
        # A bfloat16 is the upper half of the float32 of the same value
        for piece in pieces:
            halves = np.frombuffer(piece, "<u2").astype("<u4")
            yield (halves << np.uint32(16)).tobytes()
    else:
        yield from pieces


def plain_name(key: str) -> str:
    """A key as text: what isn't UTF-8 is escaped as ``\\xNN``."""
    return key.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def distinct(names: Iterable[str], taken: Mapping[str, str]) -> dict[str, str]:
    """Keys to names, no two alike.

    Args:
        taken: names that a format keeps for itself, to what is put in their place.
    """
    found: dict[str, str] = {}
    used = set(taken)
    for key in names:
        name = plain_name(key)
        name = taken.get(name, name)
        while name in used:
            name += "_"
        used.add(name)
        found[key] = name
    return found
