"""Does the quick way to change a frozen dataclass give what ``dataclasses.replace`` gives, and
nothing else?
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.decide import events as ev
from orchestrator.decide import machine
from orchestrator.decide.budgets import Budgets
from orchestrator.decide.turn import Turn, changed
from tests.simulation.world import policy


def test_changed_is_what_replace_gives_and_leaves_the_original_alone() -> None:
    run, _ = machine.begin(policy(count=2), ev.Found(3, 0), None, Budgets(50), 0, 0.0)
    for item in (run, *run.workers.values()):
        before = replace(item)  # type: ignore[type-var]
        changes = {"step": 7} if hasattr(item, "heard_s") else {"step": 7, "moved_s": 2.5}
        assert changed(item, changes) == replace(item, **changes)  # type: ignore[type-var]
        assert item == before


def test_change_of_a_field_that_is_not_there_is_refused() -> None:
    run, _ = machine.begin(policy(count=2), ev.Found(3, 0), None, Budgets(50), 0, 0.0)
    with pytest.raises(TypeError, match="Run has no stepp"):
        Turn(run, 0.0).set(stepp=1)
    with pytest.raises(TypeError, match="Worker has no hard_s"):
        Turn(run, 0.0).worker("w0001", hard_s=1.0)
