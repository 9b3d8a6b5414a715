"""Do status and report stand any journal: of a later version, of a damaged part, with fields that
nobody expects?
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from launch.report.model import report
from launch.report.page import page
from launch.runs.history import history
from launch.runs.status_model import Driver, LeaseHolder, run_status
from launch.terminal import plain_data
from launch.text.status_text import status_text
from tests.launch import journals

KINDS = sorted(
    {item["event"] for item in journals.whole_run()}
    | {"adopted", "waiting", "worker_released", "save_failed", "stopping", "new"}
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**6),
    st.sampled_from([2**63 - 1, 10**400, -(10**400), 1e308]),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.text(max_size=8),
    st.lists(st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
FIELDS = (
    "at",
    "t_s",
    "attempt",
    "worker",
    "workers",
    "rank",
    "node",
    "pid",
    "generation",
    "step",
    "steps_per_s",
    "loss",
    "world_size",
    "until",
    "seconds",
    "size_bytes",
    "stall_s",
    "recovered_s",
    "detected_s",
    "steps_redone",
    "kind",
    "reason",
    "action",
    "config",
    "versions",
    "holder",
    "outcome",
    "complete",
    "checkpoint",
    "next_save_step",
    "cause",
)
EVENTS = st.builds(
    lambda kind, fields: {"event": kind, **fields},
    st.sampled_from(KINDS),
    st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=8),
)


@pytest.mark.slow
@given(st.lists(EVENTS, max_size=15), st.sampled_from(Driver))
@settings(max_examples=200, deadline=None, phases=(Phase.explicit, Phase.generate))
def test_status_and_report_of_any_journal_are_made(
    events: list[dict[str, Any]], driver: Driver
) -> None:
    _make(events, driver)


def _make(events: list[dict[str, Any]], driver: Driver) -> None:
    seen = history(events)
    status = run_status(
        "gs://b/more", seen, driver, LeaseHolder(1, "ann"), {}, None, now=journals.EPOCH
    )
    json.dumps(plain_data(status), allow_nan=False)
    status_text(status)
    text = page(report(status, seen, {}, (), made_at=journals.EPOCH))
    assert text.count("</html>") == 1


@pytest.mark.parametrize("number", [10**309, -(10**400), 1e308], ids=["huge", "lowest", "float"])
@pytest.mark.parametrize("field", FIELDS)
def test_status_and_report_of_a_journal_with_an_absurd_number_are_made(
    field: str, number: float
) -> None:
    events = [{**item, field: number} for item in journals.whole_run()]
    _make(events, Driver.DEAD)


@pytest.mark.slow
@given(st.integers(0, 60))
def test_status_and_report_of_a_run_cut_off_anywhere_are_made(kept: int) -> None:
    seen = history(journals.whole_run()[:kept])
    status = run_status(
        "gs://b/more", seen, Driver.DEAD, LeaseHolder(1, "ann"), {}, None, now=journals.EPOCH
    )
    assert status.state in ("dead", "done")
    assert page(report(status, seen, {}, (), made_at=journals.EPOCH))
