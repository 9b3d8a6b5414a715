"""Is the last step's end reckoned from what was told before it, and never after it was told?"""

from __future__ import annotations

import pytest

from orchestrator.decide.last_words import LastStep
from orchestrator.decide.timeline import Moment
from orchestrator.journal.event import JournalEvent
from orchestrator.journal.parsing import parse
from orchestrator.journal.run_events import RunEnded

FINISH_S = 100.0


def agreed(step: int, at_s: float) -> Moment:
    return moment({"event": "save_agreed", "step": step}, at_s)


def told(step: int, at_s: float, steps_per_s: float = 0.0, attempt: int = 1) -> Moment:
    return moment({"event": "progress", "step": step, "steps_per_s": steps_per_s}, at_s, attempt)


def moment(record: dict[str, object], at_s: float, attempt: int = 1) -> Moment:
    return Moment(at_s, attempt, parse(record))


def reached_s(step: int | None, *moments: Moment) -> float:
    found = LastStep()
    for each in moments:
        found.take(each)
    record = {"event": "finish"} | ({} if step is None else {"step": step})
    ended: JournalEvent = parse(record)
    assert isinstance(ended, RunEnded)
    return found.reached_s(ended, FINISH_S)


@pytest.mark.parametrize(
    ("step", "moments", "at_s"),
    [
        (20, [], FINISH_S),
        (20, [told(20, 80.0), told(20, 90.0)], 80.0),  # when it was told first
        (20, [told(20, 80.0), told(21, 90.0)], FINISH_S),
        (20, [agreed(20, 70.0)], 70.0),
        (20, [agreed(20, 70.0), agreed(30, 75.0)], FINISH_S),
        (20, [agreed(20, 70.0), told(10, 65.0, 0.5)], 85.0),  # ten steps after 65, at two seconds
        (20, [agreed(20, 70.0), told(10, 65.0, 100.0)], 70.0),  # not before it was agreed
        (20, [agreed(20, 70.0), told(10, 65.0, 0.5), told(20, 80.0)], 80.0),
        # The rate of the step itself is that of a group that stands still
        (
            20,
            [told(5, 40.0, 5.0), told(10, 65.0, 0.5), told(20, 90.0, 9.0), agreed(20, 70.0)],
            85.0,
        ),
        (20, [told(10, 60.0, 9.0), told(10, 65.0, 0.5), agreed(20, 70.0)], 85.0),
        (20, [told(10, 65.0, 0.5), told(12, 66.0), agreed(20, 70.0)], 85.0),  # without a rate
        (
            20,
            [told(5, 50.0, 0.5), told(20, 85.0, 9.0), told(20, 90.0, 9.0), agreed(20, 70.0)],
            80.0,
        ),
        # Of an attempt before this one nothing counts
        (20, [told(20, 80.0), told(1, 85.0, attempt=2)], FINISH_S),
        (20, [agreed(20, 70.0), told(1, 85.0, attempt=2)], FINISH_S),
        (None, [told(1, 80.0), agreed(1, 70.0)], FINISH_S),
        (None, [told(0, 80.0)], FINISH_S),
    ],
)
def test_last_step_was_reached_when_it_was_told_or_reckoned_to_be(
    step: int | None, moments: list[Moment], at_s: float
) -> None:
    assert reached_s(step, *moments) == at_s


def test_no_more_is_kept_than_is_asked_for() -> None:
    found = LastStep()
    for step in range(10):
        found.take(told(step, 1.0 * step, 1.0))
    assert [step for step, _, _ in found.rated] == [8, 9]
