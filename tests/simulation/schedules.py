"""Which runs does the simulation play, and which faults befall each of them?

Rule: those of ``SCHEDULES`` reach their last step, those of ``ENDS`` end otherwise, as they should. A
run follows from its name and seed, so that one is played once for all tests of a process.
"""

from __future__ import annotations

import functools
from typing import Any

from orchestrator.decide import events as ev
from orchestrator.decide.actions import Finish, Outcome
from tests.simulation.parts import Faults, leaping, policy, skipping, standing
from tests.simulation.world import World

SCHEDULES: dict[str, tuple[dict[str, Any], Faults]] = {
    "calm": ({}, Faults()),
    "kills with a standby": ({"standby": 1}, Faults(kill_s=2.0)),
    "kills without a standby": ({"count": 3}, Faults(kill_s=3.0)),
    "kills that Ray alone tells": ({"standby": 1, "peers_tell": False}, Faults(kill_s=2.0)),
    "deaths that are none": (
        {"count": 3, "smallest": 1, "standby": 1, "until": 2000},
        Faults(kill_s=3.0, false_alarms=0.2),
    ),
    "shrink and replace": ({"count": 4, "smallest": 1}, Faults(kill_s=1.5)),
    "shrink for good": (
        {"count": 6, "smallest": 1, "on_loss": "shrink"},
        Faults(kill_s=4.0, until_s=10.0),
    ),
    "hangs": ({"count": 3, "standby": 1}, Faults(stop_s=8.0)),
    "notices": ({"count": 3, "smallest": 2, "standby": 1}, Faults(notice_s=6.0)),
    "failing saves": ({"standby": 1, "until": 300}, Faults(kill_s=4.0, save_fails=0.2)),
    "saves that wait": ({"standby": 1, "when_busy": "wait", "save_steps": 7}, Faults(kill_s=4.0)),
    "joins that fail": ({"count": 3, "standby": 1}, Faults(kill_s=4.0, join_fails=0.1)),
    "driver deaths": ({"standby": 1}, Faults(driver_s=6.0)),
    "processes replaced": ({"count": 3, "standby": 2, "in_place": False}, Faults(kill_s=5.0)),
    "processes replaced without a standby": (
        {"count": 2, "smallest": 1, "in_place": False},
        Faults(6.0, 20.0, 15.0, 20.0),
    ),
    "slow nodes": ({"count": 3, "standby": 1}, Faults(kill_s=5.0, slow=0.3)),
    "long steps": (
        {"count": 3, "standby": 1, "until": 200},
        Faults(kill_s=200.0, until_s=400.0, long_steps=40),
    ),
    "draining nodes": ({"count": 3, "smallest": 1, "standby": 1}, Faults(drain_s=9.0)),
    "nodes that are lost": ({"count": 3, "smallest": 1, "standby": 1}, Faults(node_s=9.0)),
    "room that comes": ({"count": 2, "largest": 5, "smallest": 1}, Faults(kill_s=4.0, room_s=2.0)),
    "slow copies": (
        {"count": 3, "standby": 1, "until": 200},
        Faults(kill_s=60.0, copy_s=20.0, until_s=300.0),
    ),
    "slow writes and notices": (
        {"count": 2, "standby": 2, "until": 1000},
        Faults(notice_s=6.0, write_s=3.0),
    ),
    "driver deaths during slow writes": (
        {"standby": 1, "until": 300},
        Faults(driver_s=6.0, write_s=5.0),
    ),
    "standbys that can't load": ({"standby": 1, "until": 2000}, Faults(load_fails=True)),
    "store outages": (
        {"count": 1, "until": 1000, "save_steps": 200},
        Faults(kill_s=5.0, outage_s=15.0),
    ),
    "damaged checkpoints": ({"count": 1, "until": 1000}, Faults(kill_s=4.0, damaged=0.4)),
    "checkpoints that vanish": ({"count": 1, "until": 1000}, Faults(kill_s=4.0, missing=0.4)),
    "bits that flip": ({"standby": 1, "until": 1500}, Faults(flip_s=6.0)),
    "a place that makes NaN once": (
        {"standby": 1, "on_nonfinite": "rollback"},
        Faults(nan_at=170, kill_s=6.0, driver_s=9.0),
    ),
    "a counter that leaps": (
        {"count": 3, "smallest": 2, "standby": 1, "until": 2000, "save_steps": 77},
        Faults(kill_s=4.0, driver_s=15.0, counter=leaping),
    ),
    "a counter that skips": (
        {"count": 3, "standby": 1, "until": 60, "save_steps": 7},
        Faults(4.0, 15.0, 12.0, 20.0, 0.1, counter=skipping),
    ),
    "a counter that stands still": (
        {"standby": 1, "until": 300, "save_every_s": 5.0, "save_steps": None},
        Faults(kill_s=6.0, driver_s=20.0, save_fails=0.1, counter=standing),
    ),
    "everything": (
        {"count": 4, "smallest": 2, "largest": 6, "standby": 1},
        Faults(4.0, 15.0, 12.0, 20.0, 0.1, 0.03),
    ),
}
ENDS: dict[str, tuple[dict[str, Any], Faults, Outcome, str]] = {
    "a stop": (
        {"standby": 1, "until": 10**6},
        Faults(kill_s=3.0, stop_at_s=20.0),
        Outcome.STOPPED,
        "SIGTERM",
    ),
    "a stop while the counter stands still": (
        {"until": 10**6, "save_every_s": 4.0, "save_steps": None},
        Faults(kill_s=6.0, counter=standing, stop_at_s=30.0),
        Outcome.STOPPED,
        "SIGTERM",
    ),
    "an input that ends while the counter stands still": (
        {"until": 10**6, "save_steps": 10**6},
        Faults(kill_s=6.0, counter=standing, ends_after=1500),
        Outcome.END_OF_DATA,
        "the input of rank",
    ),
    "a stop from the terminal": (
        {"until": 10**6},
        Faults(stop_at_s=20.0, stop_cause=ev.StopCause.SIGINT),
        Outcome.STOPPED,
        "SIGINT",
    ),
    "a stop that somebody asked for": (
        {"until": 10**6},
        Faults(kill_s=3.0, stop_at_s=20.0, stop_cause=ev.StopCause.REQUEST),
        Outcome.STOPPED,
        "stop request",
    ),
    "a source that is gone when it's needed again": (
        {"count": 1, "until": 10**6, "save_steps": 10**6},
        Faults(kill_s=8.0, source_gone=True, until_s=1000.0),
        Outcome.FAILED,
        "nothing is left",
    ),
    "an input that raises": (
        {"standby": 1},
        Faults(kill_s=1.5, user_fails_at=170),
        Outcome.FAILED,
        "it raised",
    ),
    "an input that ends": (
        {"standby": 1},
        Faults(kill_s=1.5, ends_at=170),
        Outcome.END_OF_DATA,
        "the input of rank",
    ),
    "another driver": ({"until": 10**6}, Faults(fenced_at_s=20.0), Outcome.FAILED, "attempt 2"),
    "a graph that doesn't fit": ({}, Faults(misfit=True), Outcome.FAILED, "misfit"),
    "a place that always makes NaN": (
        {"on_nonfinite": "rollback"},
        Faults(nan_at=170, nan_passes=10**6),
        Outcome.FAILED,
        "not finite",
    ),
    "NaN where the run is to stop": ({}, Faults(nan_at=170), Outcome.FAILED, "not finite"),
}
"""Schedules that end otherwise than at the last step, how, and what the reason says."""


@functools.cache
def played(name: str, seed: int) -> tuple[World, Finish]:
    """A run of either table, played to its end."""
    shape, faults = SCHEDULES[name] if name in SCHEDULES else ENDS[name][:2]
    world = World(seed, policy(**shape), faults)
    return world, world.play()
