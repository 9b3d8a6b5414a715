"""When does a save copy a worker's rows?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.decide.save_copy import RESERVE_BYTES, MemoryLeft, copies_rows

GB = 1 << 30


@pytest.mark.parametrize(
    ("rows", "buffer", "left", "copies"),
    [
        (GB, 0, MemoryLeft(None, None), True),  # nothing is known against it
        (GB, 0, MemoryLeft(GB + RESERVE_BYTES, None), True),
        (GB, 0, MemoryLeft(GB + RESERVE_BYTES - 1, None), False),
        (GB, 0, MemoryLeft(None, 4 * GB, sharers=2), True),
        (GB, 0, MemoryLeft(None, 4 * GB, sharers=4), False),  # they all copy at once
        (GB, 0, MemoryLeft(0, 100 * GB), False),
        (GB, 0, MemoryLeft(100 * GB, 0), False),
        (GB, GB, MemoryLeft(0, 0), True),  # it's there already
        (GB, GB // 2, MemoryLeft(GB // 2 + RESERVE_BYTES, None), True),
        (GB, GB // 2, MemoryLeft(GB // 2, None), False),
        (0, 0, MemoryLeft(-1, -1), True),
    ],
)
def test_rows_are_copied_where_a_second_block_fits(
    rows: int, buffer: int, left: MemoryLeft, copies: bool
) -> None:
    assert copies_rows(rows, buffer, left) is copies


BYTES = st.integers(0, 1 << 40)


@given(BYTES, BYTES, BYTES, st.integers(1, 100))
def test_copies_of_all_workers_of_a_machine_fit_it_together(
    rows: int, own: int, shared: int, sharers: int
) -> None:
    if rows and copies_rows(rows, 0, MemoryLeft(own, shared, sharers)):
        assert rows * sharers <= shared
        assert rows <= own


@given(BYTES, BYTES, BYTES)
def test_more_memory_never_takes_a_copy_away(rows: int, left: int, more: int) -> None:
    if copies_rows(rows, 0, MemoryLeft(left, None)):
        assert copies_rows(rows, 0, MemoryLeft(left + more, None))
