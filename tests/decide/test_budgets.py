"""Are losses paid for once, across drivers, and planned ones not at all?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.decide.budgets import (
    LONGEST_BACKOFF_S,
    TOGETHER_S,
    WINDOW_S,
    Budgets,
    Entry,
    Losses,
    backoff_s,
    from_journal,
)
from orchestrator.decide.events import Cause
from orchestrator.journal.parsing import parse_all

CAUSES = st.sampled_from(list(Cause))


@given(st.lists(st.tuples(CAUSES, st.floats(0, 100))), st.integers(1, 5))
def test_budgets_spending_never_gives_anything_back(
    losses: list[tuple[Cause, float]], limit: int
) -> None:
    budgets, now_s, before = Budgets(limit), 0.0, 0
    for cause, gap_s in losses:
        now_s += min(gap_s, WINDOW_S / 1000)
        budgets = budgets.spend(cause, "n", now_s)
        assert budgets.spent(now_s) >= before
        before = budgets.spent(now_s)
    assert budgets.limit == limit


def test_budgets_one_loss_more_than_allowed_are_exhausted() -> None:
    budgets = Budgets(2)
    for number in range(2):
        budgets = budgets.spend(Cause.DIED, "n", 20.0 * number)
        assert not budgets.exhausted(20.0 * number)
    assert "3 unplanned" in budgets.spend(Cause.HUNG, "n", 40.0).exhausted(40.0)


def test_budgets_what_is_lost_together_is_one_loss() -> None:
    """A rack of 61 workers, noticed within seconds, ended runs whose survivors held the state."""
    budgets = Budgets(1)
    for number in range(61):
        budgets = budgets.spend(Cause.NODE, f"n{number}", TOGETHER_S * number / 61)
    assert budgets.spent(20.0) == 1
    assert not budgets.exhausted(20.0)
    assert budgets.spend(Cause.DIED, "n", 20.0).exhausted(20.0)


def test_budgets_losses_of_an_hour_ago_are_forgotten() -> None:
    budgets = Budgets(1).spend(Cause.DIED, "n", 0.0).spend(Cause.DIED, "n", 20.0)
    assert budgets.exhausted(20.0)
    assert not budgets.exhausted(WINDOW_S + 21)


def test_budgets_preemptions_are_the_platforms_doing_however_many_there_are() -> None:
    budgets = Budgets(60)
    for number in range(601):
        budgets = budgets.spend(Cause.PREEMPTED, "n", 5.0 * number)
    assert not budgets.exhausted(3005.0)


def test_budgets_node_that_keeps_failing_is_excluded() -> None:
    budgets = Budgets(100)
    for number in range(3):
        budgets = budgets.spend(Cause.DIED, "bad", 20.0 * number).spend(
            Cause.PREEMPTED, "taken", 20.0 * number
        )
    for number in range(8):
        budgets = budgets.spend(Cause.NODE, "went down once with all its workers", 40.0 + number)
    assert budgets.excluded_nodes(50.0) == ("bad",)


def test_budgets_of_a_dead_driver_are_still_paid() -> None:
    journal: list[dict[str, object]] = [
        {"event": "worker_lost", "cause": "died", "node": "a", "at": 1000.0},
        {"event": "progress", "at": 1001.0},
        {"event": "worker_lost", "cause": "preempted", "node": "a", "at": 1002.0},
        {"event": "worker_lost", "cause": "error", "node": "a", "at": 1003.0, "spared": True},
    ]
    budgets = from_journal(parse_all(journal), 5, now_s=50.0, now_unix_s=1010.0)
    assert budgets.spent(50.0) == 1
    assert [entry.at_s for entry in budgets.entries] == [40.0, 42.0]


@given(st.integers(0, 50), st.text(min_size=1))
def test_backoff_grows_to_a_bound_and_starts_with_none(failures: int, worker: str) -> None:
    delay_s = backoff_s(failures, worker)
    assert 0 <= delay_s <= LONGEST_BACKOFF_S * 1.25
    assert delay_s == backoff_s(failures, worker)
    if failures <= 1:
        assert delay_s == 0


def test_backoff_doubles_and_its_jitter_is_the_names_own_on_every_machine() -> None:
    waits = [backoff_s(failures, "w0003") for failures in range(5)]
    assert waits == [0.0, 0.0, 0.5185, 1.037, 2.074]
    assert backoff_s(2, "w0001") == 0.4075
    assert backoff_s(40, "w0003", 300.0) == pytest.approx(300.0 * 1.037)


def test_losses_together_are_those_within_ten_seconds_of_the_first() -> None:
    budgets = Budgets(9)
    for at_s in (20.0, 20.0 + TOGETHER_S):
        budgets = budgets.spend(Cause.DIED, "n", at_s)
    assert budgets.spent(100.0) == 1
    assert budgets.spend(Cause.DIED, "n", 20.25 + TOGETHER_S).spent(100.0) == 2


def test_budgets_late_losses_are_counted_as_early_ones_are() -> None:
    """What is no longer in the window is found by the difference of two times, not by their size."""
    budgets = Budgets(1)
    for at_s in (2.0 * WINDOW_S, 2.0 * WINDOW_S + 20, 3.0 * WINDOW_S - 1):
        budgets = budgets.spend(Cause.DIED, "n", at_s)
    assert budgets.spent(3.0 * WINDOW_S - 1) == 3
    assert budgets.spent(3.0 * WINDOW_S) == 2


def test_budgets_of_a_dead_driver_are_the_ones_that_it_had() -> None:
    journal: list[dict[str, object]] = [
        {"event": "worker_lost", "cause": "preempted", "node": "a", "at": 1000.0},
        {"event": "worker_lost", "cause": "of a later version", "node": "b", "at": 1010.0},
        {"event": "worker_lost", "cause": "node", "node": None, "at": 1020.0},
        {"event": "worker_lost", "cause": "hung", "node": "c", "at": 1030.5},
    ]
    budgets = from_journal(parse_all(journal), 7, now_s=50.0, now_unix_s=1031.0)
    assert budgets == Budgets(
        7,
        (
            Entry(Cause.PREEMPTED, "a", 19.0),
            Entry(Cause.DIED, "b", 29.0),
            Entry(Cause.NODE, "", 39.0),
            Entry(Cause.HUNG, "c", 49.5),
        ),
    )


def test_losses_that_may_still_count_are_kept_and_older_ones_are_not() -> None:
    journal: list[dict[str, object]] = [
        {"event": "worker_lost", "cause": "died", "node": "a", "at": 1000.0},
        {"event": "worker_lost", "cause": "died", "node": "b", "at": 2000.0},
        {"event": "worker_lost", "cause": "died", "node": "c", "at": 2001.0, "spared": True},
        {"event": "worker_lost", "cause": "died", "node": "d"},
        {"event": "progress", "at": 2002.0},
        {"event": "worker_lost", "cause": "died", "node": "e", "at": 1000.0 + WINDOW_S},
    ]
    losses = Losses()
    for event in parse_all(journal):
        losses.take(event)
    assert [loss.node for loss in losses.told] == ["b", "e"]
