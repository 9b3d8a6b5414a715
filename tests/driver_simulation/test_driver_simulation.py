"""Does the real driver keep its promises in a simulated world, whatever goes wrong in it?

Loop, attempt, storage thread, heartbeat, lease, lineage, journal, commit, retention, adoption, fleet
and the worker's own code run as they are. A failing schedule prints its kind and seed:
``world_of(KIND, SEED).play()`` replays it, and the message says which faults it needs.
"""

from __future__ import annotations

import itertools
import os
import sys
from typing import Any, get_args

import pytest

from orchestrator.decide import events as ev
from orchestrator.driver.result import RunResult
from tests.driver_simulation.faults import Faults
from tests.driver_simulation.kinds import FIRES, KINDS, world_of
from tests.driver_simulation.shrinking import shrunk
from tests.driver_simulation.world import World
from tests.turns import checksum_of_the_code, in_turn, quick_in_turn

SEEDS, PARTS = 12, 3
"""Of each kind; a third of them is run each time."""
MORE = 2
"""Of each kind besides, with the tests that take seconds: two hundred schedules in all."""
MANY = int(os.environ.get("TFRESUME_SCHEDULES", "100000"))
BLOCKS = 100
PLAYED: list[int] = []
"""By each block of this process."""


def played(kind: str, seed: int) -> World:
    """One schedule, which ends as its kind does; its failure says how to get it again."""
    world = world_of(kind, seed)
    try:
        ended(world)
        return world
    except Exception as error:
        (faults, settings), first = KINDS[kind], error
        fewer = shrunk(faults, lambda fewer: fails_alike(seed, fewer, settings, first))
        raise AssertionError(
            f"world_of({kind!r}, {seed}).play(): {type(error).__name__}: {error}\n"
            f"with fewer faults: World({seed}, {fewer}, **{settings}).play()"
        ) from error


def ends_as(faults: Faults) -> str:
    """How a run under these faults ends."""
    if faults.stop_at_s:
        return "stopped"
    if faults.input_raises_at:
        return "failed"
    return "end of data" if faults.data_ends_at else "done"


def ended(world: World) -> RunResult:
    """The result of a run that ended as it should. Raises Broken."""
    result = world.play()
    world.check(result.status == ends_as(world.faults), f"it ended as {result.status}")
    return result


def fails_alike(seed: int, faults: Faults, settings: dict[str, Any], first: Exception) -> bool:
    try:
        ended(World(seed, faults, **settings))
    except type(first):
        return True
    except Exception:  # noqa: BLE001 - whatever the production code raises, it's another failure
        return False
    return False


@pytest.mark.parametrize("kind", quick_in_turn(KINDS, 18))
def test_driver_in_a_world_where_things_go_wrong_ends_its_run_and_keeps_its_promises(
    kind: str,
) -> None:
    fired: set[str] = set()
    for seed in in_turn(range(SEEDS), PARTS, checksum_of_the_code()):
        fired |= played(kind, seed).everything_fired()
    missed = FIRES.get(kind, set()) - fired
    assert not missed, f"the schedules don't do what their name says: {missed}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_driver_in_more_worlds_keeps_its_promises(kind: str) -> None:
    assert (SEEDS // PARTS + MORE) * len(KINDS) >= 200
    for seed in range(SEEDS, SEEDS + MORE):
        played(kind, seed)


@pytest.mark.slow
def test_every_kind_of_event_is_heard_by_some_driver() -> None:
    """What no schedule tells, no seed can find anything about."""
    told: set[type] = set()
    kinds = ["an input that ends", "an input that raises", "nodes that are drained", *KINDS]
    for seed, kind in itertools.product(range(SEEDS), kinds):
        told |= played(kind, seed).heard
        if told == set(get_args(ev.Event)):
            break
    assert told == set(get_args(ev.Event))


@pytest.mark.slow
def test_schedule_follows_from_its_seed_alone() -> None:
    worlds = [world_of("everything", 1) for _ in range(2)]
    told = []
    for world in worlds:
        world.play()
        told.append(
            [(event["event"], event["t_s"]) for event in world.truth.told.everything_told()]
        )
    assert told[0] == told[1]
    assert worlds[0].schedule.turns == worlds[1].schedule.turns


@pytest.mark.soak
@pytest.mark.parametrize("block", range(BLOCKS))
def test_driver_in_many_worlds_keeps_its_promises(
    block: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """``TFRESUME_SCHEDULES`` of them in all. Each block can be run alone, goes on after a failure
    and prints how many it played, and how many were played so far.
    """
    count, failed = 0, []
    first = SEEDS + MORE
    for seed in range(first + block, first + MANY // len(KINDS) + 1, BLOCKS):
        for kind in KINDS:
            count += 1
            try:
                played(kind, seed)
            except AssertionError as error:
                failed.append(str(error))
    PLAYED.append(count)
    with capsys.disabled():
        sys.stdout.write(
            f"{count} schedules played, {len(failed)} failed; {sum(PLAYED)} so far of {MANY}\n"
        )
    assert not failed, "\n".join(failed)
