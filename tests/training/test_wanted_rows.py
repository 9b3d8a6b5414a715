"""Do the rows that a rank wants survive the wire, and is nonsense seen?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import PeerLost
from orchestrator.training.host.wanted_rows import each_once, packed, unpacked

LIMIT = 50
WANTED = st.lists(st.lists(st.integers(0, LIMIT - 1), max_size=8), min_size=1, max_size=4)


@given(WANTED)
def test_wanted_rows_arrive_as_they_were_sent_each_once(wanted: list[list[int]]) -> None:
    sent = [each_once([np.array(rows, np.int64)]) for rows in wanted]
    found = unpacked(memoryview(packed(sent)), [LIMIT] * len(wanted), 1)

    assert [rows.tolist() for rows in found] == [sorted(set(rows)) for rows in wanted]


@pytest.mark.parametrize(
    "numbers",
    [
        [],
        [1],
        [2, 0, 7],
        [-1, 1],
        [1, 1, 3, LIMIT],
        [1, 1, -1, 3],
        [1 << 62, 1 << 62, 3],
    ],
)
def test_nonsense_is_a_lost_peer_with_its_rank(numbers: list[int]) -> None:
    with pytest.raises(PeerLost, match="rank 2 answered nonsense"):
        unpacked(np.array(numbers, np.int64).tobytes(), [LIMIT, LIMIT], 2)


def test_message_of_odd_length_is_a_lost_peer() -> None:
    with pytest.raises(PeerLost, match="7 bytes"):
        unpacked(bytes(7), [LIMIT], 0)
