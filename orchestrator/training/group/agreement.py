"""Do all members mean the same operation?

Rule: before anything else each tells what it is about to do in a record of a few bytes: which
operation, the how manieth, how many bytes, and a digest of what is to be added in which order. Who
finds another record than its own says so, and so does everybody else.
"""

from __future__ import annotations

import functools
import hashlib
import struct

from orchestrator.errors import GroupDisagrees, PeerLost
from orchestrator.training.group.collectives import Sum
from orchestrator.training.group.wires import lost

HEADER = struct.Struct("<4sQQ16s")
"""Operation, number, size in bytes, digest."""
REDUCE, GATHER = b"sum1", b"get1"
LARGEST = 1 << 40
"""A message can't be larger than a terabyte: no machine could hold it. Memory of the size that a
peer names is reserved before its message comes, so nonsense has to be known for what it is.
"""


@functools.lru_cache(maxsize=256)
def fingerprint(wanted: Sum) -> bytes:
    """What two members compare to know that they mean the same sum, 16 bytes."""
    told = repr((wanted.layout.arrays, wanted.slots, wanted.held, wanted.divisor, wanted.key))
    return hashlib.blake2b(told.encode(), digest_size=16).digest()


def disagreement(rank: int, peer: int, wanted: Sum, size: int) -> GroupDisagrees:
    """The error of members that don't mean the same."""
    shapes = ", ".join(f"{dtype}{list(shape)}" for dtype, shape in wanted.layout.arrays[:8])
    more = f" and {len(wanted.layout.arrays) - 8} more" if len(wanted.layout.arrays) > 8 else ""
    there = (
        f"{size} bytes"
        if size != wanted.layout.size
        else "as many bytes of other shapes, slots or order"
    )
    return GroupDisagrees(
        f"rank {rank} and rank {peer} don't exchange the same tensors: here {wanted.layout.size} bytes ({shapes}{more}), there {there}",
        remedy="Give every batch the same shape where a gradient's shape follows from it, or use one worker",
        details={"rank": rank, "peer": peer},
    )


def difference(
    rank: int, generation: int, mine: bytes, peer: int, theirs: bytes, wanted: Sum | None
) -> GroupDisagrees | PeerLost:
    """The error of a member whose record is ``mine`` about a peer whose record is another."""
    operation, number, size, _ = HEADER.unpack(theirs)
    if wanted is None or (operation, number) != HEADER.unpack(mine)[:2] or size > LARGEST:
        return lost(rank, peer, generation, f"does something else: {theirs[:12]!r}")
    return disagreement(rank, peer, wanted, size)
