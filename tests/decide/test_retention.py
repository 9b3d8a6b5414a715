"""Which checkpoints may go: as tf.train.Saver has it, and never the last good one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.decide.retention import Kept, retention

HOUR = 3600.0


def kept(*hours: float, good: int | None = 0) -> list[Kept]:
    """Checkpoints saved after so many hours of training, newest first."""
    return [
        Kept(f"c{number}", hour * HOUR, True if number == good else None)
        for number, hour in enumerate(hours)
    ]


@pytest.mark.parametrize(
    ("hours", "max_to_keep", "every_h", "deleted"),
    [
        ((3, 2, 1), 5, 10000, ()),
        ((3, 2, 1), 2, 10000, ("c2",)),
        ((3, 2, 1), 1, 10000, ("c1", "c2")),
        ((3, 2, 1), 0, 10000, ()),
        ((4, 3, 2, 1), 1, 2.0, ("c1", "c3")),  # 2 h stays for good; 3 h is 1 h after it
        ((4, 3, 2, 1), 1, 1.0, ()),
        ((4, 3.5, 3, 2.9, 1), 1, 2.0, ("c1", "c2", "c4")),
        ((), 3, 1.0, ()),
    ],
)
def test_retention_of_saved_hours_deletes(
    hours: tuple[float, ...], max_to_keep: int, every_h: float, deleted: tuple[str, ...]
) -> None:
    assert retention(kept(*hours), max_to_keep=max_to_keep, keep_every_h=every_h).delete == deleted


def test_retention_newest_are_bad_keeps_the_last_good() -> None:
    decision = retention(kept(5, 4, 3, 2, 1, good=3), max_to_keep=1, keep_every_h=10000)
    assert decision.keep == ("c0", "c3")
    assert decision.reasons["c3"] == "last good"


def test_retention_without_a_known_good_one_deletes_nothing() -> None:
    assert retention(kept(3, 2, 1, good=None), max_to_keep=1, keep_every_h=10000).delete == ()


CHECKPOINTS = st.lists(
    st.tuples(st.floats(0, 1e6), st.sampled_from([True, False, None])), max_size=30
).map(
    lambda rows: [
        Kept(f"c{number}", seconds, good)
        for number, (seconds, good) in enumerate(sorted(rows, key=lambda row: -row[0]))
    ]
)


@given(CHECKPOINTS, st.integers(0, 8), st.floats(0.01, 1e5), st.sets(st.integers(0, 29)))
def test_retention_any_facts_keep_its_promises(
    items: list[Kept], max_to_keep: int, every_h: float, numbers: set[int]
) -> None:
    protected = {f"c{number}" for number in numbers}
    decision = retention(items, max_to_keep=max_to_keep, keep_every_h=every_h, protected=protected)
    labels = [item.label for item in items]
    assert sorted([*decision.keep, *decision.delete]) == sorted(labels)
    window = labels if max_to_keep == 0 else labels[:max_to_keep]
    assert set(window) <= set(decision.keep)
    assert not protected & set(decision.delete)
    good = [item.label for item in items if item.good]
    assert not good or good[0] in decision.keep
    assert set(decision.reasons) == set(decision.keep)


@given(CHECKPOINTS, st.integers(1, 8), st.floats(0.01, 1e5))
def test_retention_asked_again_deletes_nothing_more(
    items: list[Kept], max_to_keep: int, every_h: float
) -> None:
    decision = retention(items, max_to_keep=max_to_keep, keep_every_h=every_h)
    rest = [item for item in items if item.label in decision.keep]
    assert retention(rest, max_to_keep=max_to_keep, keep_every_h=every_h).delete == ()


def test_retention_says_why_each_stays() -> None:
    items = kept(9, 8, 6, 5, 3, 2, good=3)
    decision = retention(items, max_to_keep=1, keep_every_h=3.0, protected={"c0", "c5"})
    assert decision.reasons == {
        "c0": "newest",
        "c4": "hourly",
        "c2": "hourly",
        "c3": "last good",
        "c5": "protected",
    }
    unknown = retention(kept(2, 1, good=None), max_to_keep=1, keep_every_h=1.0)
    assert unknown.reasons == {"c0": "no good one known", "c1": "no good one known"}
