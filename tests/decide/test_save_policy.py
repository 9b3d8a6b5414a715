"""Which steps are saved, and what is never committed?"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.decide.save_policy import (
    SaveLog,
    SavePolicy,
    Verdict,
    differing,
    due_step,
    ground_of,
    is_due,
    judge,
    too_many_failed,
)

POLICY = SavePolicy(10, None, "skip", 3, "stop")
LOG = SaveLog(last_step=0, last_s=0.0)


@pytest.mark.parametrize(
    ("policy", "log", "after", "upto", "due"),
    [
        (POLICY, LOG, 0, 9, None),
        (POLICY, LOG, 0, 10, 10),
        (POLICY, LOG, 0, 35, 10),
        (POLICY, replace(LOG, last_step=10), 10, 35, 20),
        (POLICY, replace(LOG, last_step=3), 3, 12, 10),  # multiples, wherever the run started
        (POLICY, LOG, 10, 10, None),
        (replace(POLICY, save_steps=None), LOG, 0, 10**6, None),
    ],
)
def test_save_by_steps_comes_due(
    policy: SavePolicy, log: SaveLog, after: int, upto: int, due: int | None
) -> None:
    assert due_step(policy, log, after, upto) == due


TIMED = replace(POLICY, save_steps=None, save_every_s=60.0)
SELDOM = replace(POLICY, save_steps=1000)


@pytest.mark.parametrize(
    ("policy", "log", "step", "now_s", "due"),
    [
        (TIMED, LOG, 50, 59.0, False),
        (TIMED, LOG, 50, 60.0, True),
        (TIMED, LOG, 0, 60.0, True),
        (TIMED, replace(LOG, last_s=30.0), 50, 89.0, False),
        (replace(SELDOM, save_every_s=60.0), LOG, 50, 61.0, True),
        (SELDOM, LOG, 50, 10**6, False),
        (SELDOM, replace(LOG, owed=True), 50, 0.0, True),
        (SELDOM, replace(LOG, owed=True, again_s=2.0), 50, 1.0, False),
        # saved before the counter came to a multiple, since it stood still: saved again when it has
        (SELDOM, replace(LOG, last_step=999), 999, 0.0, False),
        (SELDOM, replace(LOG, last_step=999), 1001, 0.0, True),
        (SELDOM, replace(LOG, last_step=1000), 1999, 0.0, False),
    ],
)
def test_save_comes_due_wherever_the_group_is(
    policy: SavePolicy, log: SaveLog, step: int, now_s: float, due: bool
) -> None:
    assert is_due(policy, log, step, now_s) is due


LINKED = replace(LOG, ground=7, links=2)


@pytest.mark.parametrize(
    ("log", "last", "ground"),
    [
        (LINKED, False, 7),
        (replace(LINKED, links=3), False, 7),
        (replace(LINKED, links=4), False, 0),  # it stands on as many as it may already
        (replace(LINKED, failed=1), False, 7),
        (replace(LINKED, failed=2), False, 0),  # it may be the ground that is bad
        (replace(LINKED, links=0), False, 0),
        (LINKED, True, 0),
        (LOG, False, 0),
    ],
)
def test_save_stands_on_the_one_before_it_while_that_is_good_and_short(
    log: SaveLog, last: bool, ground: int
) -> None:
    assert ground_of(replace(POLICY, most_links=3), log, last=last) == ground
    assert ground_of(POLICY, log, last=last) == 0, "where each is full"


def test_state_is_committed_up_to_the_position_that_is_known_of_its_step() -> None:
    log = replace(LOG, committed=6, committed_position=12)
    assert log.holds(6, 12)
    assert not log.holds(6, 13), "the counter stood still, and batches were consumed"
    assert not log.holds(7, 12)
    assert replace(log, committed_position=None).holds(6, 13)


@given(st.integers(1, 50), st.integers(0, 500), st.integers(0, 500), st.integers(0, 100))
def test_save_by_steps_falls_on_multiples_beyond_the_last(
    every: int, last: int, after: int, more: int
) -> None:
    due = due_step(
        replace(POLICY, save_steps=every), replace(LOG, last_step=last), after, after + more
    )
    if due is not None:
        assert due % every == 0
        assert max(after, last) < due <= after + more


SAME = {"a": {"v": 1, "w": 2}, "b": {"v": 1, "w": 2}}
DIFFERENT = {"a": {"v": 1, "w": 2}, "b": {"v": 1, "w": 3}, "c": {}}


@pytest.mark.parametrize(
    ("on_nonfinite", "nonfinite", "digests", "verdict"),
    [
        ("stop", (), SAME, Verdict.COMMIT),
        ("stop", ("w",), SAME, Verdict.STOP),
        ("rollback", ("w",), SAME, Verdict.ROLL_BACK),
        ("ignore", ("w",), SAME, Verdict.COMMIT),
        ("stop", (), DIFFERENT, Verdict.REPAIR),
        ("ignore", ("w",), DIFFERENT, Verdict.REPAIR),
    ],
)
def test_written_save_is_judged(
    on_nonfinite: str,
    nonfinite: tuple[str, ...],
    digests: dict[str, dict[str, int]],
    verdict: Verdict,
) -> None:
    assert judge(replace(POLICY, on_nonfinite=on_nonfinite), nonfinite, digests) is verdict  # type: ignore[arg-type]


def test_differing_names_the_variables() -> None:
    assert differing(DIFFERENT) == ("w",)
    assert differing(SAME) == ()


def test_too_many_failed_saves_in_a_row_stop_the_run() -> None:
    assert not too_many_failed(POLICY, replace(LOG, failed=2))
    assert too_many_failed(POLICY, replace(LOG, failed=3))


def test_what_nobody_says_has_jumped_is_committed() -> None:
    assert judge(replace(POLICY, on_outlier="stop"), (), {}) is Verdict.COMMIT
    assert judge(replace(POLICY, on_outlier="stop"), (), {}, jumped=True) is Verdict.STOP
