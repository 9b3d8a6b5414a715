"""Is every second of a run accounted for once, and is time that was lost never called useful?"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.decide.goodput import Spent, goodput, spans
from orchestrator.decide.timeline import timeline
from orchestrator.journal.parsing import parse_all


def entry(t: float, event: str, attempt: int = 1, **fields: Any) -> dict[str, Any]:
    return {"event": event, "at": 1_000_000.0 + t, "attempt": attempt, **fields}


START = [
    entry(0, "attempt"),
    entry(10, "generation", generation=1),
    entry(12, "training", generation=1),
]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param(
            [*START, entry(112, "finish", step=5)], {"start": 12, "useful": 100}, id="undisturbed"
        ),
        pytest.param(
            [*START, entry(8, "staging", seconds=4), entry(112, "finish", step=5)],
            {"start": 8, "staging": 4, "useful": 100},
            id="staging that is told late still belongs to the start",
        ),
        pytest.param(
            [START[0], entry(6, "staging", seconds=4), *START[1:], entry(112, "finish", step=5)],
            {"start": 8, "staging": 4, "useful": 100},
            id="staging is told apart from the start",
        ),
        pytest.param(
            [
                *START,
                entry(50, "worker_lost", rank=1),
                entry(50.2, "generation", generation=2),
                entry(50.3, "training", generation=2),
                entry(51, "incident", recovered_s=2.0, steps_redone=0),
                entry(112, "finish", step=5),
            ],
            {"start": 12, "useful": 98, "recovery": 2},
            id="a recovery counts from its first symptom to the first useful step",
        ),
        pytest.param(
            [
                *START,
                entry(40, "progress", steps_per_s=10.0, step=300),
                entry(51, "incident", recovered_s=1.0, steps_redone=50),
                entry(112, "finish", step=5),
            ],
            {"start": 12, "useful": 94, "recovery": 1, "redone": 5},
            id="work that was done twice is useful once",
        ),
        pytest.param(
            [
                *START,
                entry(60, "save_committed", seconds=20.0, stall_s=0.5),
                entry(112, "finish", step=5),
            ],
            {"start": 12, "useful": 99.5, "save_stall": 0.5},
            id="a save costs its stall alone, not its upload",
        ),
        pytest.param(
            [*START, entry(100, "progress", step=5, steps_per_s=1.0), entry(112, "finish", step=5)],
            {"start": 12, "useful": 88, "save_stall": 12},
            id="waiting for the last save after the last step isn't useful",
        ),
        pytest.param(
            [
                *START,
                entry(104, "save_agreed", step=5),
                entry(112, "finish", step=5),
                entry(112, "progress", step=5),
            ],
            {"start": 12, "useful": 92, "save_stall": 8},
            id="where progress is told too late, the last save's agreement tells when the last step was near",
        ),
        pytest.param(
            [
                *START,
                entry(103, "save_agreed", step=1000),
                entry(104, "progress", step=980, steps_per_s=10.0),
                entry(112, "finish", step=1000),
            ],
            {"start": 12, "useful": 94, "save_stall": 6},
            id="and the last known rate when it was reached",
        ),
        pytest.param(
            [
                *START,
                entry(50, "worker_lost", rank=0),
                entry(50, "waiting", reason="no room"),
                entry(80, "generation", generation=2),
                entry(81, "training"),
                entry(82, "incident", recovered_s=32.0, steps_redone=0),
                entry(112, "finish", step=5),
            ],
            {"start": 12, "useful": 68, "recovery": 2, "waiting": 30},
            id="waiting for resources inside an incident stays waiting",
        ),
        pytest.param(
            [
                *START,
                entry(100, "progress", step=9),
                entry(108, "adopted", 2, complete=True),
                entry(120, "finish", 2, step=1),
            ],
            {"start": 12, "useful": 100, "recovery": 8},
            id="a time without a driver is recovery",
        ),
        pytest.param(
            [
                *START,
                entry(112, "finish", step=5),
                entry(1000, "attempt", 2),
                entry(1010, "training", 2),
                entry(1020, "finish", 2, step=6),
            ],
            {"start": 22, "useful": 110},
            id="a pause after an orderly end isn't the run's",
        ),
        pytest.param([], {}, id="nothing"),
    ],
)
def test_goodput_of_a_journal_puts_every_second_where_it_belongs(
    events: list[dict[str, Any]], expected: dict[str, float]
) -> None:
    found = goodput(parse_all(events))
    told = {kind.value: getattr(found, f"{kind.value}_s") for kind in Spent}
    assert {kind: seconds for kind, seconds in told.items() if seconds} == pytest.approx(expected)
    assert found.wall_s == pytest.approx(sum(expected.values()))
    assert found.fraction == pytest.approx(expected.get("useful", 0.0) / max(found.wall_s, 1e-9))


def test_timeline_of_a_driver_whose_wall_clock_jumps_follows_its_monotonic_one() -> None:
    events = [
        entry(0, "attempt", t_s=5.0),
        entry(7200, "training", t_s=15.0),
        entry(-500, "finish", t_s=16.5),
    ]
    assert [moment.at_s for moment in timeline(parse_all(events))] == [0.0, 10.0, 11.5]


def test_timeline_of_a_driver_that_wrote_after_its_successor_began_stops_at_the_takeover() -> None:
    events = [
        entry(0, "attempt"),
        entry(90, "progress"),
        entry(50, "attempt", 2),
        entry(60, "training", 2),
    ]
    assert [moment.at_s for moment in timeline(parse_all(events))] == [0.0, 50.0, 50.0, 60.0]


EVENTS = st.fixed_dictionaries(
    {
        "event": st.sampled_from(
            [
                "attempt",
                "training",
                "generation",
                "worker_lost",
                "waiting",
                "incident",
                "staging",
                "save_committed",
                "finish",
            ]
        ),
        "at": st.floats(0, 1e5, allow_nan=False),
        "attempt": st.integers(1, 3),
        "rank": st.sampled_from([None, 0, 1]),
        "recovered_s": st.one_of(st.none(), st.floats(0, 1e4)),
        "seconds": st.floats(0, 1e4),
        "stall_s": st.floats(0, 1e4),
        "steps_redone": st.integers(0, 100),
        "step": st.integers(0, 3),
    }
)


@pytest.mark.slow
@given(st.lists(EVENTS, max_size=30))
def test_spans_of_any_journal_are_ordered_and_never_overlap(events: list[dict[str, Any]]) -> None:
    found = spans(timeline(parse_all(sorted(events, key=lambda event: event["attempt"]))))
    assert all(span.begin_s < span.end_s for span in found)
    assert all(one.end_s <= two.begin_s + 1e-6 for one, two in itertools.pairwise(found))
    account = goodput(parse_all(events))
    assert account.useful_s >= 0
    assert sum(account.as_dict()[f"{kind.value}_s"] for kind in Spent) == pytest.approx(
        account.as_dict()["wall_s"], abs=0.01
    )
