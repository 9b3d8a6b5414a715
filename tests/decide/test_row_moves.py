"""Does each worker of the next group get all rows that it's to hold, from those who have them?"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.decide.row_moves import moves
from orchestrator.decide.spans import RowSpan, Share, bounds, held

SHARES = st.integers(1, 6).flatmap(lambda size: st.tuples(st.integers(0, size - 1), st.just(size)))
HAVE = st.dictionaries(st.sampled_from("abcdefgh"), SHARES, max_size=6)
SEATS = st.lists(st.sampled_from("abcdefghijk"), min_size=1, max_size=7, unique=True)


def rows_held(share: Share, copies: int, rows: int) -> list[int]:
    """Rows in the order in which they lie."""
    blocks = [span.of(rows) for span in held(share, copies)]
    return [row for first, end in blocks for row in range(first, end)]


@given(have=HAVE, seats=SEATS, copies=st.integers(1, 2), rows=st.integers(0, 40))
def test_rows_come_from_who_has_them_and_none_is_lacking_or_taken_twice(
    have: dict[str, Share], seats: list[str], copies: int, rows: int
) -> None:
    found = moves(have, seats, copies)
    holds = {worker: set(rows_held(share, copies, rows)) for worker, share in have.items()}
    if found is None:
        # With enough rows that each bound falls between two of them some are really nobody's
        many = 60
        known = {row for share in have.values() for row in rows_held(share, copies, many)}
        assert known != set(range(many))
        return
    for rank, (seat, taken) in enumerate(zip(seats, found, strict=True)):
        got = Counter(row for each in taken for row in range(*each.span.of(rows)))
        assert not got or max(got.values()) == 1
        for each in taken:
            assert set(range(*each.span.of(rows))) <= holds[each.holder]
        wanted = set(rows_held((rank, len(seats)), copies, rows))
        assert set(got) | (holds.get(seat, set()) & wanted) == wanted
        assert not set(got) & holds.get(seat, set())


@given(size=st.integers(1, 9), copies=st.integers(1, 2), rows=st.integers(0, 40))
def test_each_row_is_held_by_as_many_as_there_are_copies_and_owned_rows_lie_first(
    size: int, copies: int, rows: int
) -> None:
    counted: Counter[int] = Counter()
    for rank in range(size):
        own = list(range(rows * rank // size, rows * (rank + 1) // size))
        lie = rows_held((rank, size), copies, rows)
        assert lie[: len(own)] == own
        assert len(set(lie)) == len(lie)
        counted.update(lie)
    assert set(counted.values()) <= {min(copies, size)}
    assert len(counted) == rows


def test_givers_share_the_giving() -> None:
    have = {"a": (0, 2), "b": (1, 2)}
    found = moves(have, ["c", "d", "e", "f"], 1)
    assert found is not None
    assert Counter(each.holder for taken in found for each in taken) == {"a": 2, "b": 2}
    both = moves({"a": (0, 1), "b": (0, 1)}, ["c", "d"], 1)
    assert both is not None
    assert {each.holder for taken in both for each in taken} == {"a", "b"}
    assert Counter(each.holder for taken in both for each in taken) == {"a": 1, "b": 1}


def test_each_gives_about_as_much_however_large_its_pieces_are() -> None:
    """One has all rows and the other a third: what the first alone can give counts for it."""
    found = moves({"a": (0, 1), "b": (1, 3)}, ["c", "d"], 1)
    assert found is not None
    given: Counter[str] = Counter()
    for each in (each for taken in found for each in taken):
        given[each.holder] += int((each.span.end - each.span.begin) * 6)
    assert given == {"a": 4, "b": 2}
    four = moves({"a": (0, 1), "b": (0, 1)}, ["c", "d", "e", "f"], 1)
    assert four is not None
    assert Counter(each.holder for taken in four for each in taken) == {"a": 2, "b": 2}


def test_bounds_of_spans_are_also_those_of_all_rows() -> None:
    third, half = Fraction(1, 3), Fraction(1, 2)
    assert bounds([RowSpan(third, half)]) == [0, third, half, 1]
    assert bounds([]) == [0, 1]
