"""How do the rows of sparse gradients travel between the ranks of a group?

Rule: everybody gets everybody's rows. A message holds, for each slot that its sender computed, the
rows of every sparse seam of the level; whoever reads the messages puts the slots in order, so that
all ranks add the same rows in the same order, whoever computed them. Plain bytes; no pickle, since
they come from another process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from orchestrator.errors import PeerLost

Rows = tuple[np.ndarray, np.ndarray]
"""(values ``[rows, ...]``, indices ``[rows]``) of one sparse seam."""


def packed(slots: Mapping[int, Sequence[Rows]]) -> bytes:
    """The message of a rank: slot to the rows of each seam."""
    header: list[int] = [len(slots)]
    parts: list[bytes] = []
    for slot, seams in sorted(slots.items()):
        header.append(slot)
        for values, indices in seams:
            header.append(len(indices))
            parts += [
                np.ascontiguousarray(values).tobytes(),
                np.ascontiguousarray(indices).tobytes(),
            ]
    return b"".join([np.array(header, np.int64).tobytes(), *parts])


def in_slot_order(
    messages: Sequence[bytes | memoryview], like: Sequence[Rows], slots: int
) -> list[Rows]:
    """The rows of all slots for each seam, one slot after the other.

    Args:
        messages: by rank.
        like: this rank's own rows of any slot, for types and the shape of a row.
        slots: how many slots there must be.

    Raises:
        PeerLost: a message isn't what it should be, or a slot is missing or came twice.
    """
    found: dict[int, list[Rows]] = {}
    for rank, message in enumerate(messages):
        for slot, seams in _unpacked(memoryview(message), like, rank).items():
            if slot in found:
                raise _nonsense(rank, f"slot {slot} came twice")
            found[slot] = seams
    if sorted(found) != list(range(slots)):
        raise _nonsense(None, f"of {slots} slots came {sorted(found)}")
    return [
        (
            np.concatenate([found[slot][seam][0] for slot in range(slots)]),
            np.concatenate([found[slot][seam][1] for slot in range(slots)]),
        )
        for seam in range(len(like))
    ]


def _unpacked(message: memoryview, like: Sequence[Rows], rank: int) -> dict[int, list[Rows]]:
    if len(message) < 8:
        raise _nonsense(rank, f"{len(message)} bytes are no message")
    count = int(np.frombuffer(message, np.int64, 1)[0])
    length = 1 + count * (1 + len(like))
    if count < 0 or len(message) < 8 * length:
        raise _nonsense(rank, f"{len(message)} bytes can't hold {count} slots")
    header = np.frombuffer(message, np.int64, length)[1:].reshape(count, 1 + len(like))
    offset, found = 8 * length, {}
    for row in header.tolist():
        seams: list[Rows] = []
        for rows, (values, indices) in zip(row[1:], like, strict=True):
            first, offset = _taken(message, offset, rows, values, rank)
            second, offset = _taken(message, offset, rows, indices, rank)
            seams.append((first, second))
        found[row[0]] = seams
    if offset != len(message):
        raise _nonsense(
            rank, f"{len(message)} bytes where {offset} were told: the shape of a row differs"
        )
    return found


def _taken(
    message: memoryview, offset: int, rows: int, like: np.ndarray, rank: int
) -> tuple[np.ndarray, int]:
    shape = (rows, *like.shape[1:])
    end = offset + int(np.prod(shape, dtype=np.int64)) * like.dtype.itemsize
    if rows < 0 or end > len(message):
        raise _nonsense(rank, f"{rows} rows don't fit into what is left of {len(message)} bytes")
    return np.frombuffer(message[offset:end], np.uint8).view(like.dtype).reshape(shape), end


def _nonsense(rank: int | None, why: str) -> PeerLost:
    who = (
        "the ranks' rows don't fit together"
        if rank is None
        else f"the rows of rank {rank} aren't what was agreed"
    )
    return PeerLost(
        f"{who}: {why}", remedy="Form a new group and take the step again", details={"rank": rank}
    )
