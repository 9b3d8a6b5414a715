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
    judge,
    too_many_failed,
)

POLICY = SavePolicy(10, None, "skip", 3, "stop")
LOG = SaveLog(last_step=0, last_s=0.0)


@pytest.mark.parametrize(
    ("policy", "log", "after", "upto", "now_s", "due"),
    [
        (POLICY, LOG, 0, 9, 0.0, None),
        (POLICY, LOG, 0, 10, 0.0, 10),
        (POLICY, LOG, 0, 35, 0.0, 10),
        (POLICY, replace(LOG, last_step=10), 10, 35, 0.0, 20),
        (POLICY, replace(LOG, last_step=3), 3, 12, 0.0, 10),  # multiples, wherever the run started
        (POLICY, LOG, 10, 10, 0.0, None),
        (replace(POLICY, save_steps=None, save_every_s=60.0), LOG, 0, 50, 59.0, None),
        (replace(POLICY, save_steps=None, save_every_s=60.0), LOG, 0, 50, 60.0, 50),
        (replace(POLICY, save_steps=1000), replace(LOG, owed=True), 0, 50, 0.0, 50),
        (replace(POLICY, save_steps=1000, save_every_s=60.0), LOG, 0, 50, 61.0, 50),
    ],
)
def test_save_comes_due(
    policy: SavePolicy, log: SaveLog, after: int, upto: int, now_s: float, due: int | None
) -> None:
    assert due_step(policy, log, after, upto, now_s) == due


@given(st.integers(1, 50), st.integers(0, 500), st.integers(0, 500), st.integers(0, 100))
def test_save_by_steps_falls_on_multiples_beyond_the_last(
    every: int, last: int, after: int, more: int
) -> None:
    due = due_step(
        replace(POLICY, save_steps=every), replace(LOG, last_step=last), after, after + more, 0.0
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
