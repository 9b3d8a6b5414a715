"""Which part of a divided table's rows is whose?

Rule: a part is a span between two fractions of all rows, so that the rules need not know how many rows
there are, and any two divisions have their bounds in common where they meet. Of so many workers each
owns one span, in the order of ranks; with copies it holds besides what the ranks behind it own.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

Share = tuple[int, int]
"""Rank and world size."""


class RowSpan(NamedTuple):
    """The rows from one fraction of all up to another."""

    begin: Fraction
    end: Fraction

    def of(self, rows: int) -> tuple[int, int]:
        """The first row, and the one behind the last, of so many rows."""
        return (
            rows * self.begin.numerator // self.begin.denominator,
            rows * self.end.numerator // self.end.denominator,
        )


def held(share: Share, copies: int) -> tuple[RowSpan, ...]:
    """What a rank of so many workers holds, what it owns first."""
    rank, world_size = share
    ranks = ((rank + behind) % world_size for behind in range(min(copies, world_size)))
    return tuple(
        RowSpan(Fraction(each, world_size), Fraction(each + 1, world_size)) for each in ranks
    )


def bounds(spans: Iterable[RowSpan]) -> list[Fraction]:
    """Where any of these begins or ends, and where all rows do, in their order."""
    return sorted({Fraction(0), Fraction(1), *(edge for span in spans for edge in span)})
