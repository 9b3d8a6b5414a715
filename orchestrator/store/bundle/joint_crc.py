"""Were a tensor's bytes the ones that were saved, where several readers have read a part each?

Rule: an index has one checksum over all bytes of a piece, and checksums of neighbouring bytes can
be put together (a crc is linear; the method is zlib's ``crc32_combine``, over the polynomial of
crc32c). So each reader tells the checksum of what it has read, and whoever gets them all compares:
nobody reads a byte for the check alone, and any checkpoint will do, whoever has written it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from orchestrator.store.bundle.bundle import BundleTensor

_POLYNOMIAL = 0x82F63B78
"""Castagnoli's, with its bits reversed: RFC 3720, appendix B.4."""


@dataclass(frozen=True)
class PartRead:
    """What one reader has read of a piece in a file: the bytes from ``start`` up to ``end``, and
    their crc32c. Pickles.
    """

    file: str
    piece: BundleTensor
    start: int
    end: int
    crc32c: int


def combined(first: int, second: int, second_bytes: int) -> int:
    """The crc32c of some bytes and those behind them.

    Args:
        first, second: of each by itself.
        second_bytes: how many the latter are.
    """
    power = 0
    while second_bytes:
        if second_bytes & 1:
            first = _applied(_zeros(power), first)
        second_bytes >>= 1
        power += 1
    return first ^ second


def joint_problems(reads: Iterable[PartRead]) -> list[str]:
    """What's wrong with the pieces that were read in parts; empty where nothing is.

    Args:
        reads: of all readers. The same part may be there more than once, and has to be the same
            bytes then.
    """
    by_piece: dict[tuple[str, int, BundleTensor], set[PartRead]] = {}
    for read in reads:
        place = read.file, read.piece.offset, read.piece
        by_piece.setdefault(place, set()).add(read)
    found = []
    for (file, _, piece), parts in sorted(by_piece.items(), key=lambda pair: pair[0][:2]):
        problem = _problem(piece, sorted(parts, key=lambda part: (part.start, -part.end)))
        if problem:
            found.append(f"{file}: tensor {piece.key!r} {problem}")
    return found


def _problem(piece: BundleTensor, parts: list[PartRead]) -> str:
    crc = end = 0
    known: dict[tuple[int, int], int] = {}
    for part in parts:
        if known.setdefault((part.start, part.end), part.crc32c) != part.crc32c:
            return f"fails its checksum: of bytes {part.start} to {part.end} two have read others"
        if part.end <= end and part.start < end:
            continue  # a second copy of what counts already
        if part.start != end:
            what = "by nobody" if part.start > end else "in parts that don't meet"
            return f"can't be checked: bytes {min(end, part.start)} to {max(end, part.start)} were read {what}"
        crc, end = combined(crc, part.crc32c, part.end - part.start), part.end
    if end != piece.size_bytes:
        return f"can't be checked: bytes {end} to {piece.size_bytes} were read by nobody"
    return "" if piece.crc32c in (None, crc) else "fails its checksum"


def _applied(matrix: tuple[int, ...], vector: int) -> int:
    result = bit = 0
    while vector:
        if vector & 1:
            result ^= matrix[bit]
        vector >>= 1
        bit += 1
    return result


@cache
def _zeros(power: int) -> tuple[int, ...]:
    """What 2**power bytes of zeros behind it make of a checksum, as a matrix over its bits."""
    if power == 0:
        matrix = (_POLYNOMIAL, *(1 << bit for bit in range(31)))  # one bit
        for _ in range(3):
            matrix = _squared(matrix)
        return matrix
    return _squared(_zeros(power - 1))


def _squared(matrix: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(_applied(matrix, column) for column in matrix)
