"""Does an export hold what its source holds, byte for byte?

Rule: both are read from where they lie, through different readers, and compared as they come; no
tensor is held whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from orchestrator.errors import CorruptCheckpoint
from orchestrator.exports.items import Item, ReadBack, Tensors, chunks_as_stored
from orchestrator.store.bundle.values import Chunk


def compare(items: Sequence[Item], values: Tensors, stored: ReadBack, shown: str) -> int:
    """How many bytes were compared.

    Args:
        shown: the export's URL, for messages.

    Raises:
        CorruptCheckpoint: a tensor differs.
    """
    total = 0
    for item in items:
        if item.dtype == "string":
            expected, found = values.strings(item.key), stored.strings(item)
            same = expected == found
            total += sum(map(len, expected))
        else:
            same, size = same_bytes(chunks_as_stored(values, item), stored.chunks(item))
            total += size
        if not same:
            raise CorruptCheckpoint(
                f"{shown}: {item.name!r} isn't what was written",
                remedy="Delete the directory and export again; if it comes back, suspect the store",
                details={"tensor": item.key},
            )
    return total


def same_bytes(one: Iterable[Chunk], other: Iterable[Chunk]) -> tuple[bool, int]:
    """Whether two streams are the same, and how many bytes of the first were seen."""
    seen, left = 0, memoryview(b"")
    theirs = iter(other)
    for chunk in one:
        mine = memoryview(chunk).cast("B")
        seen += len(mine)
        while len(mine):
            if not len(left):
                left = _next(theirs)
                if not len(left):
                    return False, seen
            size = min(len(mine), len(left))
            if mine[:size] != left[:size]:
                return False, seen
            mine, left = mine[size:], left[size:]
    return not len(left) and not len(_next(theirs)), seen


def _next(chunks: Iterator[Chunk]) -> memoryview:
    """The next bytes of a stream; empty at its end."""
    for chunk in chunks:
        if len(chunk):
            return memoryview(chunk).cast("B")
    return memoryview(b"")
