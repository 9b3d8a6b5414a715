"""Does the simulation notice what is wrong for a counter that stands still and right for all others?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.decide import grant_policy
from orchestrator.decide.save_policy import SaveLog
from tests.simulation.parts import Broken
from tests.simulation.test_planted_bugs import worlds
from tests.simulation.world import World

STANDS = "a counter that stands still"
REAL_END = grant_policy.next_end


def by_steps_alone(
    end: int, fastest: int, step_time_s: float | None, limit: int | None, **reach: Any
) -> int:
    """No position is granted beyond the first ones."""
    return REAL_END(end, fastest, step_time_s, limit, **reach) if limit or end < 400 else end


PLANTED: dict[str, tuple[str, Callable[[pytest.MonkeyPatch], None]]] = {
    "neither ended nor waited": (
        STANDS,
        lambda patch: patch.setattr(grant_policy, "next_end", by_steps_alone),
    ),
    "the run ends without what it could have saved": (
        "a stop while the counter stands still",
        lambda patch: patch.setattr(
            SaveLog, "holds", lambda log, step, position: log.committed == step
        ),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("invariant", PLANTED)
def test_planted_bug_of_a_standing_counter_is_caught_by_its_invariant(
    invariant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule, plant = PLANTED[invariant]
    plant(monkeypatch)
    with pytest.raises(Broken, match=invariant):
        worlds(World, schedule)
