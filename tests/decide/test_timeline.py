"""Does each event stand at the moment at which it happened?"""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.decide.timeline import Clock, Moment, number_of, timeline
from orchestrator.journal.parsing import parse, parse_all


def moments(*events: tuple[int | None, float | None, float | None]) -> list[float]:
    """When they happened, by attempt, ``at`` and ``t_s``."""
    names = ("attempt", "at", "t_s")
    told = [
        {"event": "progress"}
        | {name: value for name, value in zip(names, event, strict=True) if value is not None}
        for event in events
    ]
    return [moment.at_s for moment in timeline(parse_all(told))]


@pytest.mark.parametrize(
    ("events", "at_s"),
    [
        # The driver's own clock counts where both say it, whatever the other does
        ([(1, 100.0, 5.0), (1, 300.0, 7.5)], [0.0, 2.5]),
        ([(1, 100.0, None), (1, 103.0, 7.5)], [0.0, 3.0]),
        ([(1, 100.0, 5.0), (1, 103.0, None)], [0.0, 3.0]),
        # What says nothing usable stands at the one before
        ([(1, 100.0, None), (1, 104.0, None), (1, None, 9.0)], [0.0, 4.0, 4.0]),
        ([(1, None, 5.0), (1, None, 6.0), (1, 104.0, None)], [0.0, 1.0, 1.0]),
        ([(1, 100.0, 5.0), (1, None, 6.0), (1, None, None)], [0.0, 1.0, 1.0]),
        ([(1, 100.0, None), (2, None, None), (2, 110.0, None)], [0.0, 0.0, 0.0]),
        # Time doesn't run backwards
        ([(1, 100.0, None), (1, 90.0, None)], [0.0, 0.0]),
        ([(1, 100.0, None), (2, 90.0, None), (2, 91.0, None)], [0.0, 0.0, 1.0]),
        # Attempts stand beside each other by the clock that they share
        ([(1, 100.0, 5.0), (2, 110.0, 1.0), (2, 111.0, 3.0)], [0.0, 10.0, 12.0]),
        # What a driver wrote after it was taken over stands at the take-over
        ([(1, 100.0, None), (1, 130.0, None), (2, 110.0, None)], [0.0, 10.0, 10.0]),
        (
            [
                (1, 100.0, None),
                (1, 130.0, None),
                (2, 120.0, None),
                (2, 125.0, None),
                (3, 123.0, None),
            ],
            [0.0, 20.0, 20.0, 23.0, 23.0],
        ),
        ([(1, 100.0, None), (1, 105.0, None), (2, 110.0, None)], [0.0, 5.0, 10.0]),
        # An event that doesn't say its attempt is of the first
        ([(2, 110.0, None), (None, 100.0, None)], [0.0, 10.0]),
        ([(1, 100.0, None), (1, 100.12346, None)], [0.0, 0.1235]),
    ],
)
def test_event_stands_at_its_moment(
    events: list[tuple[int | None, float | None, float | None]], at_s: list[float]
) -> None:
    assert moments(*events) == pytest.approx(at_s, abs=1e-9)


def test_clock_that_is_told_an_event_without_any_time_begins_with_it() -> None:
    clock, event = Clock(), parse({"event": "progress"})
    assert clock.place(event) == Moment(0.0, 1, event)
    late: dict[str, Any] = {"event": "progress", "attempt": 2}
    assert clock.place(parse(late)).attempt == 2
    assert clock.place(event).attempt == 2, "it stands with the later one"


def test_attempt_that_is_not_told_is_the_first() -> None:
    assert number_of(parse({"event": "progress"})) == 1
    assert number_of(parse({"event": "progress", "attempt": 7})) == 7
