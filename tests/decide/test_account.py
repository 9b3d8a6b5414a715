"""Is the account of a run's time right however it comes: late, in pieces, for months?"""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.decide import goodput as module
from orchestrator.decide.goodput import Account, Goodput, Span, Spent, goodput, spans
from orchestrator.decide.timeline import timeline
from orchestrator.journal.parsing import parse, parse_all


def at(at_s: float, event: str, attempt: int = 1, **fields: Any) -> dict[str, Any]:
    return {"event": event, "at": 1000.0 + at_s, "attempt": attempt, **fields}


def account(*events: dict[str, Any]) -> Account:
    found = Account()
    for event in events:
        found.take(parse(event))
        assert all(end_s > begin_s for _, begin_s, end_s in found.painted), "none without a length"
    return found


def spent(*events: dict[str, Any]) -> dict[str, float]:
    """Seconds by kind, of those that there are."""
    told = account(*events).goodput().as_dict()
    return {
        name.removesuffix("_s"): value
        for name, value in told.items()
        if value and name not in ("fraction", "wall_s")
    }


def test_account_is_shown_in_seconds_to_a_thousandth() -> None:
    shown = Goodput(8.12345, 2.71828, 1.00049, 0.0, 0.25, 1.23456, 2.0, 0.92012).as_dict()
    assert shown == {
        "fraction": 0.3346,
        "wall_s": 8.123,
        "useful_s": 2.718,
        "start_s": 1.0,
        "staging_s": 0.0,
        "save_stall_s": 0.25,
        "recovery_s": 1.235,
        "redone_s": 2.0,
        "waiting_s": 0.92,
    }


BEGUN = [at(0, "attempt"), at(10, "training")]


def test_stretches_of_one_kind_that_touch_are_one_and_a_gap_is_nobody_s() -> None:
    """The first driver dies, the second ends in order, and so does the third at once."""
    events = [
        *BEGUN,
        at(50, "progress"),
        at(60, "attempt", 2),
        at(65, "training", 2),
        at(70, "waiting", 2),
        at(80, "training", 2),
        at(90, "finish", 2),
        at(100, "attempt", 3),
        at(102, "finish", 3),
        at(102.5, "attempt", 4),
        at(103, "progress", 4),
    ]
    assert spans(timeline(parse_all(events))) == (
        Span(Spent.START, 0.0, 10.0),
        Span(Spent.USEFUL, 10.0, 50.0),
        Span(Spent.RECOVERY, 50.0, 65.0),
        Span(Spent.USEFUL, 65.0, 70.0),
        Span(Spent.WAITING, 70.0, 80.0),
        Span(Spent.USEFUL, 80.0, 90.0),
        Span(Spent.START, 100.0, 102.0),
        Span(Spent.START, 102.5, 103.0),
    )


def test_what_goes_on_counts_up_to_the_last_event_and_nothing_before_any_time_has_passed() -> None:
    assert account(at(0, "attempt")).stretches() == []
    assert account(*BEGUN).stretches() == [Span(Spent.START, 0.0, 10.0)]
    assert spent(*BEGUN, at(10.5, "progress")) == {"start": 10.0, "useful": 0.5}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (
            [at(100, "waiting"), at(120, "training"), at(130, "waiting")],
            {"start": 10.0, "useful": 98.0, "waiting": 10.0, "recovery": 2.0},
        ),
        (
            [at(110, "waiting"), at(120, "training")],
            {"start": 10.0, "useful": 108.0, "recovery": 2.0},
        ),
        ([at(130, "progress")], {"start": 10.0, "useful": 108.0, "recovery": 2.0}),
    ],
)
def test_what_an_overtaken_driver_told_counts_up_to_the_takeover(
    events: list[dict[str, Any]], expected: dict[str, float]
) -> None:
    after = [at(110, "attempt", 2), at(112, "training", 2), at(120, "progress", 2)]
    assert spent(*BEGUN, *events, *after) == expected


def test_driver_that_was_overtaken_as_it_began_has_spent_nothing() -> None:
    assert spent(at(0, "attempt"), at(0, "attempt", 2), at(5, "training", 2)) == {"recovery": 5.0}
    overtaken = [at(0, "attempt"), at(9, "training"), at(0, "attempt", 2), at(5, "training", 2)]
    assert spent(*overtaken) == {"recovery": 5.0}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (at(50, "worker_lost", rank=1), {"useful": 40.0, "recovery": 10.0}),
        (at(50, "worker_hung", rank=0), {"useful": 40.0, "recovery": 10.0}),
        (at(50, "worker_lost", rank=None), {"useful": 50.0}),
        (at(50, "incident", recovered_s=None), {"useful": 50.0}),
        (at(50, "incident", recovered_s=40.0), {"useful": 10.0, "recovery": 40.0}),
        (at(50, "incident", recovered_s=0.5), {"useful": 49.5, "recovery": 0.5}),
        (at(50, "save_committed", stall_s=None), {"useful": 50.0}),
        (at(50, "save_committed", stall_s=-3.0), {"useful": 50.0}),
        (at(50, "save_committed", stall_s=2.5), {"useful": 47.5, "save_stall": 2.5}),
    ],
)
def test_event_says_what_the_time_around_it_is_spent_on(
    event: dict[str, Any], expected: dict[str, float]
) -> None:
    assert spent(*BEGUN, event, at(60, "progress")) == {"start": 10.0, **expected}


def test_loss_while_nobody_trains_makes_a_wait_no_recovery() -> None:
    lost = [at(50, "waiting"), at(52, "worker_lost", rank=1), at(60, "training")]
    assert spent(*BEGUN, *lost) == {"start": 10.0, "useful": 40.0, "waiting": 10.0}


def test_steps_that_were_done_twice_are_counted_over_all_incidents_at_the_rate_of_then() -> None:
    events = [
        at(40, "progress", steps_per_s=0.5),
        at(50, "incident", recovered_s=1.0, steps_redone=2),
        at(60, "progress", steps_per_s=2.0),
        at(70, "incident", recovered_s=1.0, steps_redone=6),
    ]
    assert spent(*BEGUN, *events) == {"start": 10.0, "useful": 51.0, "recovery": 2.0, "redone": 7.0}


WAITS = [at(10.0 + number, word) for number, word in enumerate(("waiting", "training") * 40)]
DEATHS = [
    at(20.0 * attempt + later, word, attempt)
    for attempt in range(2, 40)
    for later, word in ((0.0, "attempt"), (2.0, "training"), (9.0, "progress"))
]


@pytest.mark.parametrize(
    ("events", "longest"), [(WAITS, 7), (DEATHS, 7)], ids=["one by one", "two at once"]
)
def test_account_of_months_is_the_same_in_bounded_memory(
    events: list[dict[str, Any]], longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = goodput(parse_all([*BEGUN, *events]))
    assert whole.recovery_s + whole.waiting_s > 30.0
    monkeypatch.setattr(module, "KEPT", 4)
    found, lengths = Account(), []
    for event in (*BEGUN, *events):
        found.take(parse(event))
        lengths.append(len(found.painted))
    assert found.goodput() == whole
    assert max(lengths) == longest
    assert min(lengths[10:]) == 4, "what may still be painted over"
