"""Is what a run was warned of in its result, once and from all of its attempts?"""

from __future__ import annotations

from orchestrator.decide.standing import JournaledState
from orchestrator.journal.folding import folded
from orchestrator.journal.parsing import parse_all


def test_warnings_of_all_attempts_are_told_once_in_their_order() -> None:
    events = [
        {"event": "attempt"},
        {"event": "warning", "reason": "slots missing"},
        {"event": "warning", "reason": "passed over"},
        {"event": "attempt"},
        {"event": "warning", "reason": "slots missing"},
    ]
    assert folded(JournaledState, parse_all(events)).warnings == ["slots missing", "passed over"]
