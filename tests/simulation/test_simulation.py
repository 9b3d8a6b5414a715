"""Does the run machine keep its promises under thousands of seeded schedules of losses, hangs, notices, storage faults and driver deaths?"""

from __future__ import annotations

import pytest

from orchestrator.decide.actions import Outcome
from tests.simulation.world import Faults, World, policy

SCHEDULES = {
    "calm": (dict(count=2), Faults()),
    "kills with a standby": (dict(count=2, standby=1), Faults(kill_s=2.0)),
    "kills without a standby": (dict(count=3), Faults(kill_s=3.0)),
    "shrink and replace": (dict(count=4, smallest=1), Faults(kill_s=1.5)),
    "hangs": (dict(count=3, standby=1), Faults(stop_s=8.0)),
    "notices": (dict(count=3, smallest=2, standby=1), Faults(notice_s=6.0)),
    "failing saves": (dict(count=2, standby=1, until=300), Faults(kill_s=4.0, save_fails=0.2)),
    "joins that fail": (dict(count=3, standby=1), Faults(kill_s=4.0, join_fails=0.1)),
    "driver deaths": (dict(count=2, standby=1), Faults(driver_s=6.0)),
    "everything": (dict(count=4, smallest=2, largest=6, standby=1), Faults(4.0, 15.0, 12.0, 20.0, 0.1, 0.03)),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_run_under_seeded_faults_reaches_its_last_step_without_breaking_an_invariant(name: str) -> None:
    shape, faults = SCHEDULES[name]
    for seed in range(100):
        world = World(seed, policy(**shape), faults)
        finish = world.play()
        assert finish.outcome is Outcome.DONE, f"seed {seed}: {finish}"
        assert max(world.committed) == world.rules.until, f"seed {seed}: the last step isn't saved"
