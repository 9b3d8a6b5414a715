"""What do the tests of training share? Rank processes that outlive a test, and states loaded
without TensorFlow in this process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.training.ranks import RankPool, Ranks

NewRanks = Callable[[int], Ranks]


@pytest.fixture(scope="session")
def rank_pool() -> Iterator[RankPool]:
    """All rank processes of this test session."""
    pool = RankPool()
    yield pool
    pool.close()


@pytest.fixture
def new_ranks(rank_pool: RankPool, request: pytest.FixtureRequest) -> Iterator[NewRanks]:
    """``new_ranks(3)``: three rank processes, given back after the test."""
    taken: list[Ranks] = []

    def take(count: int) -> Ranks:
        ranks = Ranks(rank_pool.take(count))
        ranks.everyone = list(ranks.processes)
        taken.append(ranks)
        return ranks

    failed_before = request.session.testsfailed
    yield take
    for ranks in taken:
        rank_pool.give_back(ranks.everyone, reusable=request.session.testsfailed == failed_before)
