"""Who takes which rows of divided tables from whom, where a group is formed anew?

Rule: a row goes on only from where it is: who has the state that goes on holds the rows of the share
that it told of, and keeps those of them that its next rank holds. What it lacks it takes from those
who hold it, each of whom gives about as much. Where nobody holds some row, none of this is of use.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from orchestrator.decide.spans import RowSpan, Share, bounds, held


@dataclass(frozen=True)
class RowsFrom:
    """Rows that a worker takes, and who gives them."""

    holder: str
    span: RowSpan


def moves(
    have: Mapping[str, Share], seats: Sequence[str], copies: int
) -> tuple[tuple[RowsFrom, ...], ...] | None:
    """By rank of the next group what each of it takes; None where some rows are held by nobody.

    Args:
        have: workers whose rows count, with their shares.
        seats: the next group by rank.
        copies: how many workers are to hold each row.
    """
    now = {holder: held(share, copies) for holder, share in have.items()}
    then = [held((rank, len(seats)), copies) for rank in range(len(seats))]
    edges = bounds(span for spans in (*now.values(), *then) for span in spans)
    holders: list[list[str]] = [[] for _ in edges[1:]]
    for holder, spans in now.items():
        for place in _pieces(edges, spans):
            holders[place].append(holder)
    if not all(holders):
        return None
    given = dict.fromkeys(now, Fraction(0))
    return tuple(
        _taken(edges, holders, given, spans, now.get(seat, ()))
        for seat, spans in zip(seats, then, strict=True)
    )


def _pieces(edges: Sequence[Fraction], spans: Sequence[RowSpan]) -> list[int]:
    """Which of the pieces between two edges make up some spans, each once."""
    places: dict[int, None] = {}
    for span in spans:
        begin, end = bisect_left(edges, span.begin), bisect_left(edges, span.end)
        places.update(dict.fromkeys(range(begin, end)))
    return list(places)


def _taken(
    edges: Sequence[Fraction],
    holders: Sequence[Sequence[str]],
    given: dict[str, Fraction],
    wanted: Sequence[RowSpan],
    kept: Sequence[RowSpan],
) -> tuple[RowsFrom, ...]:
    """What one worker takes; notes in ``given`` how much each holder gives."""
    keeps = frozenset(_pieces(edges, kept))
    taken = []
    for place in _pieces(edges, wanted):
        if place not in keeps:
            span = RowSpan(edges[place], edges[place + 1])
            holder = min(holders[place], key=lambda each: (given[each], each))
            given[holder] += span.end - span.begin
            taken.append(RowsFrom(holder, span))
    return tuple(taken)
