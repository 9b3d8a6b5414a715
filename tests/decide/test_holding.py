"""Who holds an output: a heartbeat that changes is alive, whatever any clock on the wall says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.decide.holding import Hold, Sight, Watch, fresh, look

HELD = Sight(number=3, beat=b"a 1", lease_s=30.0)


@pytest.mark.parametrize(
    ("watch", "sight", "now_s", "hold"),
    [
        (None, Sight(), 0.0, Hold.TAKE),
        (None, replace(HELD, released=True), 0.0, Hold.TAKE),
        (None, replace(HELD, dead=True), 0.0, Hold.TAKE),
        (None, HELD, 0.0, Hold.WAIT),
        (Watch(HELD, 0.0), HELD, 29.9, Hold.WAIT),
        (Watch(HELD, 0.0), HELD, 30.0, Hold.TAKE),
        (Watch(HELD, 0.0), replace(HELD, beat=b"a 2"), 29.9, Hold.REFUSE),
        (Watch(HELD, 0.0), replace(HELD, beat=b"a 2"), 31.0, Hold.REFUSE),
        (Watch(HELD, 0.0), replace(HELD, number=4), 31.0, Hold.REFUSE),
        (Watch(HELD, 0.0), replace(HELD, released=True), 1.0, Hold.TAKE),
        (Watch(replace(HELD, beat=b""), 0.0), HELD, 1.0, Hold.REFUSE),
    ],
)
def test_look_at_a_lease_decides(
    watch: Watch | None, sight: Sight, now_s: float, hold: Hold
) -> None:
    found, seen = look(watch, sight, now_s)
    assert found is hold
    # What the next look goes by, which there is also after TAKE where somebody else was faster
    unchanged = watch is not None and watch.sight == sight
    assert seen == (watch if unchanged else Watch(sight, now_s))


@given(st.lists(st.tuples(st.floats(0.1, 10), st.booleans()), max_size=60))
def test_look_takes_only_after_a_whole_lease_of_silence(steps: list[tuple[float, bool]]) -> None:
    now_s, beat, last_change_s, first = 0.0, 0, 0.0, True
    watch: Watch | None = None
    for pause_s, beats in steps:
        now_s += pause_s
        if beats:
            beat += 1
        hold, watch = look(watch, Sight(1, beat=f"{beat}".encode(), lease_s=30.0), now_s)
        if first or beats:
            last_change_s = now_s
        first = False
        if hold is Hold.TAKE:
            assert now_s - last_change_s >= 30.0
        if hold is Hold.REFUSE:
            assert beats
            return


def test_fresh_ends_with_the_lease() -> None:
    assert fresh(100.0, 30.0, 129.9)
    assert not fresh(100.0, 30.0, 130.0)
