"""Does the run machine keep its promises under seeded schedules of losses, hangs, notices, storage
faults and driver deaths?

A failing seed prints itself: ``World(seed, policy(**shape), faults).play()`` replays it.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import is_dataclass
from typing import Any, get_args

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide import recovery
from orchestrator.decide.actions import Outcome
from orchestrator.decide.rules.saving import DIVERGENCE_LIMIT
from tests.simulation import parted_saves
from tests.simulation.parts import (
    Faults,
    leaping,
    policy,
)
from tests.simulation.schedules import ENDS, SCHEDULES, played
from tests.simulation.world import World
from tests.turns import quick_in_turn

SEEDS = 4
SEEDS_AT_MOST = 12  # until what a schedule is named for has happened
MANY_SEEDS = int(os.environ.get("TFRESUME_SEEDS", "500"))
OFTEN = {"processes replaced without a standby": 0.05, "store outages": 0.1, "bits that flip": 0.1}
"""The part of the runs that may end so, where it's more than one in a hundred: here each death,
every six seconds, costs all processes; a store's outage takes as long as five saves; three bits in
a row flip before a save.
"""


def was_right_to_give_up(world: World, finish: act.Finish) -> bool:
    """Whether what the run says of its end is what its journal shows: so many saves in a row
    failed, or groups took no step.
    """
    ends = ("save_failed", "save_committed", "save_refused")
    saves = [str(event["event"]) for event in world.journal if event["event"] in ends]
    formed = [event["step"] for event in world.journal if event["event"] == "generation"]
    if "saves failed in a row" in finish.reason:
        return (
            saves[-world.rules.saving.max_failed :]
            == ["save_failed"] * world.rules.saving.max_failed
        )
    if "saves in a row" in finish.reason:
        before = saves[:-1] if saves[-1] == "save_committed" else saves
        return before[-DIVERGENCE_LIMIT:] == ["save_refused"] * DIVERGENCE_LIMIT
    if "times in a row without finishing a step" in finish.reason:
        return (
            len(set(formed[-recovery.FRUITLESS_LIMIT :])) == 1
            and len(formed) >= recovery.FRUITLESS_LIMIT
        )
    return False


def play(name: str, seed: int) -> World:
    world, finish = played(name, seed)
    assert finish.outcome is Outcome.DONE, f"seed {seed}: {finish}"
    last = max(world.committed)
    assert last >= world.rules.until, f"seed {seed}: the last step isn't saved"
    assert last == world.rules.until or world.faults.counter is leaping, f"seed {seed}: {last}"
    return world


HAPPENS = {
    "calm": {"save_committed"},
    "kills with a standby": {"died", "finding_checkpoint"},
    "hangs": {"hung"},
    "notices": {"reform_planned", "worker_notice"},
    "failing saves": {"save_failed"},
    "joins that fail": {"join_failed"},
    "deaths that are none": {"worker_loss_explained"},
    "driver deaths": {"adopted"},
    "processes replaced": {"processes_used_up", "worker_lost"},
    "draining nodes": {"worker_notice"},
    "nodes that are lost": {"node"},
    "room that comes": {"growing"},
    "slow copies": {"died"},
    "slow writes and notices": {"reform_planned"},
    "driver deaths during slow writes": {"save_postponed", "adopted"},
    "standbys that can't load": {"worker_lost"},
    "store outages": {"save_failed", "join_failed", "backing_off"},
    "damaged checkpoints": {"checkpoint_bad"},
    "checkpoints that vanish": {"join_failed", "finding_checkpoint"},
    "a counter that stands still": {"counter_stands", "save_failed", "adopted"},
    "bits that flip": {"divergence"},
    "a place that makes NaN once": {"rolling_back", "adopted"},
}


@pytest.mark.parametrize("name", quick_in_turn(SCHEDULES, 18))
def test_run_under_seeded_faults_reaches_its_last_step_without_breaking_an_invariant(
    name: str,
) -> None:
    missed = set(HAPPENS.get(name, ()))
    for seed in range(SEEDS_AT_MOST):
        if seed >= SEEDS and not missed:
            break
        for event in play(name, seed).journal:
            missed -= {str(event["event"])}
            missed -= {str(event["kind"])} if event["event"] == "incident" else set()
    assert not missed, f"the schedule doesn't do what its name says: {missed}"


@pytest.mark.parametrize("name", quick_in_turn(ENDS, 4))
def test_run_that_ends_otherwise_ends_as_it_should_with_what_could_be_saved(name: str) -> None:
    _, _, outcome, reason = ENDS[name]
    for seed in range(SEEDS):
        _, finish = played(name, seed)
        assert (finish.outcome, reason in finish.reason) == (outcome, True), (
            f"seed {seed}: {finish}"
        )


@pytest.mark.slow
def test_every_event_every_cause_and_every_error_is_told_by_some_schedule() -> None:
    """What the simulation never says, no seed can find anything about."""
    kinds = {
        kind
        for kind in vars(ev).values()
        if isinstance(kind, type) and is_dataclass(kind) and kind.__module__ == ev.__name__
    }
    assert set(get_args(ev.Event)) == kinds
    with_error = {kind for kind in kinds if "error" in kind.__annotations__}
    causes = (ev.Cause, ev.Doing, ev.Obstacle, ev.StopCause)
    wanted = kinds, with_error, {value for kind in causes for value in kind}
    # Ranks that stand still for a save are those of divided tables alone
    still = parted_saves.play("ranks that stand still", 4)
    told: tuple[set[Any], set[Any], set[Any]] = (
        set(still.told),
        set(still.errors),
        set(still.values),
    )
    # Found by trying: with seed 4 the schedules have told everything soonest. Where a change of the
    # rules makes that untrue, the others are played as well
    for seed, name in itertools.product((4, 0, 1, 2), [*ENDS, *SCHEDULES]):
        world, _ = played(name, seed)
        told = told[0] | world.told, told[1] | world.errors, told[2] | world.values
        if told == wanted:
            break
    assert told == wanted


@pytest.mark.soak
@pytest.mark.parametrize("name", SCHEDULES)
def test_run_under_many_seeded_faults_keeps_every_invariant(name: str) -> None:
    given_up = []
    for seed in range(SEEDS, SEEDS + MANY_SEEDS):
        world, finish = played.__wrapped__(name, seed)  # so many aren't to be kept
        if finish.outcome is Outcome.DONE:
            assert max(world.committed) >= world.rules.until, (
                f"seed {seed}: the last step isn't saved"
            )
        else:
            assert was_right_to_give_up(world, finish), f"seed {seed}: {finish}"
            given_up.append(seed)
    assert len(given_up) <= MANY_SEEDS * OFTEN.get(name, 0.01), (
        f"too many runs were given up: {given_up}"
    )


@pytest.mark.slow
@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.soak)])
def test_run_with_many_workers_survives_kills_among_them(count: int) -> None:
    world = World(1, policy(count=count, standby=2, until=600), Faults(kill_s=3.0))
    assert world.play(most_events=5_000_000).outcome is Outcome.DONE
    assert any(event["event"] == "incident" for event in world.journal)
