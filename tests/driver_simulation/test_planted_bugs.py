"""Does each invariant of the simulated world catch the bug that it's there for?"""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

from orchestrator.driver.attempt import Attempt
from orchestrator.workers.fleet import Fleet
from orchestrator.workers.member import Member
from tests.driver_simulation.actors import CallFaults
from tests.driver_simulation.faults import Faults
from tests.driver_simulation.kinds import KINDS, world_of
from tests.driver_simulation.planted_bugs import BUGS, SHORT, WAKING, always_holds, spoilt_state
from tests.driver_simulation.shrinking import shrunk
from tests.driver_simulation.store import StoreFaults
from tests.driver_simulation.world import World
from tests.simulation.parts import Broken

SEEDS = 8
RARELY = {SHORT: 40}
"""Kinds in few of whose schedules the bug shows: a driver has to die while a late grant is on its
way to one member and has come to another.
"""
Patch = pytest.MonkeyPatch


@pytest.mark.slow
@pytest.mark.turns(6)
@pytest.mark.parametrize("invariant", BUGS)
def test_planted_bug_is_caught_by_its_invariant(invariant: str, monkeypatch: Patch) -> None:
    kind, plant = BUGS[invariant]
    plant(monkeypatch)
    told: list[str] = []
    for seed in range(RARELY.get(kind, SEEDS)):
        # What one seed shows as another invariant's breach, the next may show as this one's
        try:
            world_of(kind, seed).play()
        except Broken as broken:
            told.append(str(broken))
            if re.search(invariant, told[-1]):
                return
    pytest.fail(f"caught {len(told)} times, never by this invariant: {told[:3]}")


def test_every_invariant_has_a_planted_bug() -> None:
    """The messages of the world's checks against those that the tests above expect."""
    messages = []
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.name.startswith("test_") or path.name == "planted_bugs.py":
            continue
        messages += [
            ast.unparse(node.args[1])
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
            and (getattr(node.func, "attr", "") or getattr(node.func, "id", "")) == "check"
        ]
    planted = "|".join(BUGS)
    unproved = [
        message for message in messages if not re.search(planted, message.replace("\\", ""))
    ]
    assert len(messages) >= 20
    assert not unproved, f"no planted bug shows that these can fail: {unproved}"


@pytest.mark.slow
def test_driver_that_knows_that_it_was_followed_ends_nobody_whatever_its_fleet_would_do(
    monkeypatch: Patch,
) -> None:
    monkeypatch.setattr(Fleet, "close", always_holds)
    fired: set[str] = set()
    for seed in range(SEEDS):
        world = world_of(WAKING, seed)
        world.play()
        fired |= world.fired
    assert "fenced" in fired


@pytest.mark.slow
@pytest.mark.parametrize("asks", [True, False])
def test_driver_whose_heartbeat_is_old_at_its_end_asks_the_lease_and_ends_its_workers(
    asks: bool, monkeypatch: Patch
) -> None:
    if not asks:
        monkeypatch.setattr(Attempt, "_holds_still", lambda attempt: attempt._claim.lease.is_fresh)
    slow = Faults(store=StoreFaults(slow=0.3, slow_s=6.0))
    told = []
    for seed in range(SEEDS):
        try:
            World(seed, slow, until=20).play()
        except Broken as broken:
            told.append(str(broken))
    assert any("a worker lives on" in each for each in told) is not asks


@pytest.mark.slow
def test_failing_schedule_is_shrunk_to_the_faults_that_it_needs(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Member, "held_state", spoilt_state)
    calls = CallFaults(late=0.01, overtaken=0.02)
    faults = Faults(calls=calls, kill_s=6.0, outage_s=50.0, skew_s=100.0)

    def fails(seed: int, fewer: Faults) -> bool:
        try:
            World(seed, fewer).play()
        except Broken:
            return True
        return False

    # A schedule without one kind of fault is another schedule, so not each seed can lose all others
    for seed in (seed for seed in range(SEEDS) if fails(seed, faults)):
        fewer = shrunk(faults, functools.partial(fails, seed))
        assert fails(seed, fewer)
        assert fewer.kill_s == 6.0
        if fewer == Faults(kill_s=6.0, until_s=fewer.until_s) and fewer.until_s < faults.until_s:
            return
    pytest.fail("no schedule was shrunk to its kills alone")


def test_kinds_of_the_planted_bugs_are_those_that_are_played() -> None:
    assert {kind for kind, _ in BUGS.values()} <= set(KINDS)
