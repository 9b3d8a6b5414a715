"""Which schedules are simulated, and what must have gone wrong in them?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.driver_simulation.actors import CallFaults
from tests.driver_simulation.faults import Faults
from tests.driver_simulation.store import StoreFaults
from tests.driver_simulation.world import World

SHARED = {"workers": {"count": 4, "min": 1, "max": 5}}
CHAINS = {"shard_tables": ["table"], "save_changed_rows": True, "save_steps": 4}
WHATEVER = Faults(
    store=StoreFaults(slow=0.02, refuses=0.02, loses_reply=0.02),
    calls=CallFaults(late=0.02, lost=0.01, twice=0.02),
    kill_s=15.0,
    hangs_s=40.0,
    node_s=60.0,
    dies_s=25.0,
    damage_s=30.0,
)
KINDS: dict[str, tuple[Faults, dict[str, Any]]] = {
    "calm": (Faults(), {}),
    "workers that die": (Faults(kill_s=6.0), {}),
    "a group that shrinks and grows": (Faults(kill_s=6.0), SHARED),
    "workers that hang": (Faults(hangs_s=15.0), {}),
    "notices": (Faults(notice_s=10.0), {}),
    "nodes that are lost": (Faults(node_s=10.0), {}),
    "drivers that die": (Faults(dies_s=8.0), {}),
    "drivers that die with their machine": (
        Faults(dies_s=12.0, same_machine=False, kill_s=10.0),
        {},
    ),
    "drivers that wake up": (Faults(pauses_s=10.0, rival_s=8.0, kill_s=20.0), {}),
    "requests that fail": (
        Faults(
            store=StoreFaults(slow=0.05, refuses=0.05, loses_reply=0.05), kill_s=10.0, dies_s=20.0
        ),
        {},
    ),
    "a store that is away": (Faults(outage_s=20.0, kill_s=10.0, dies_s=25.0), {}),
    "calls that are lost, late and doubled": (
        Faults(calls=CallFaults(late=0.03, lost=0.02, twice=0.05), kill_s=10.0, dies_s=20.0),
        {},
    ),
    "checkpoints that rot": (Faults(damage_s=5.0, kill_s=6.0), {"workers": 1}),
    "listings that come late": (
        Faults(store=StoreFaults(lists_late_s=3.0), kill_s=10.0, dies_s=15.0),
        {},
    ),
    "creates that aren't exclusive": (
        Faults(store=StoreFaults(exclusive=False), kill_s=15.0, dies_s=15.0, rival_s=15.0),
        {},
    ),
    "a stop": (Faults(stop_at_s=18.0, kill_s=10.0, dies_s=12.0), {"until": 10_000}),
    "drivers that die while steps are short": (
        Faults(calls=CallFaults(late=0.3), dies_s=3.0, until_s=20.0),
        {"until": 200, "save_steps": 40, "step_s": 0.05},
    ),
    "messages that overtake each other": (
        Faults(
            calls=CallFaults(overtaken=0.1, answers_overtaken=0.05, unanswered=0.01),
            kill_s=8.0,
            dies_s=20.0,
        ),
        SHARED,
    ),
    "nodes that are drained": (Faults(drain_s=6.0, dies_s=30.0), SHARED),
    "a cluster that grows and shrinks": (
        Faults(room_s=4.0, slots=1, kill_s=20.0, dies_s=20.0),
        {"workers": {"count": 3, "min": 1, "max": 6}},
    ),
    "an input that ends": (
        Faults(kill_s=8.0, dies_s=15.0, rival_s=20.0, data_ends_at=4 * 37 + 3),
        {"until": 10_000},
    ),
    "an input that raises": (
        Faults(kill_s=8.0, dies_s=15.0, input_raises_at=4 * 37 + 1),
        {"until": 10_000},
    ),
    "tables that are divided": (
        Faults(kill_s=8.0, dies_s=25.0, notice_s=30.0),
        {**SHARED, "shard_tables": ["table"]},
    ),
    "tables of which two hold each row": (
        Faults(kill_s=4.0, dies_s=25.0, notice_s=30.0),
        {**SHARED, "shard_tables": ["table"], "table_copies": 2},
    ),
    "rows that two hold and whatever goes wrong": (
        Faults(
            store=StoreFaults(slow=0.02, refuses=0.02, loses_reply=0.02),
            calls=CallFaults(late=0.02, lost=0.01, twice=0.02),
            kill_s=12.0,
            hangs_s=40.0,
            notice_s=40.0,
            dies_s=25.0,
            room_s=30.0,
        ),
        {**SHARED, "shard_tables": ["table"], "table_copies": 2},
    ),
    "a stop while two hold each row": (
        Faults(stop_at_s=18.0, kill_s=3.0, dies_s=30.0),
        {**SHARED, "until": 10_000, "shard_tables": ["table"], "table_copies": 2},
    ),
    "states that several ranks write": (
        Faults(kill_s=8.0, dies_s=25.0, notice_s=30.0, part_refused=0.05),
        {**SHARED, "large": True, "save_steps": 4},
    ),
    "states that several ranks write and whatever goes wrong": (
        replace(WHATEVER, outage_s=40.0, part_refused=0.05),
        {**SHARED, "large": True, "save_steps": 4},
    ),
    "divided tables and whatever goes wrong": (
        WHATEVER,
        {**SHARED, "shard_tables": ["table"]},
    ),
    "changed rows": (
        Faults(kill_s=20.0, dies_s=40.0, notice_s=40.0, part_refused=0.1),
        {**SHARED, **CHAINS},
    ),
    "saves that follow each other closely": (
        Faults(store=StoreFaults(latency_s=0.002)),
        {**SHARED, **CHAINS, "until": 70, "save_steps": 2, "step_s": 0.1, "write_s": 0.02},
    ),
    "changed rows of tables of which two hold each": (
        Faults(kill_s=12.0, dies_s=40.0, notice_s=40.0, room_s=30.0, part_refused=0.05),
        {**SHARED, **CHAINS, "table_copies": 2},
    ),
    "changed rows and whatever goes wrong": (
        Faults(
            store=StoreFaults(slow=0.02, refuses=0.04, loses_reply=0.04),
            calls=CallFaults(late=0.02, lost=0.01, twice=0.02),
            kill_s=25.0,
            hangs_s=40.0,
            node_s=60.0,
            dies_s=25.0,
            outage_s=40.0,
            damage_s=20.0,
            part_refused=0.05,
        ),
        {**SHARED, **CHAINS},
    ),
    "changed rows and a stop": (
        Faults(
            store=StoreFaults(refuses=0.04, loses_reply=0.04),
            stop_at_s=25.0,
            kill_s=20.0,
            part_refused=0.05,
        ),
        {**SHARED, **CHAINS, "until": 10_000},
    ),
    "everything": (
        Faults(
            store=StoreFaults(slow=0.02, refuses=0.02, loses_reply=0.02),
            calls=CallFaults(
                late=0.02,
                lost=0.01,
                twice=0.02,
                unanswered=0.005,
                overtaken=0.02,
                answers_overtaken=0.01,
            ),
            kill_s=15.0,
            hangs_s=40.0,
            notice_s=40.0,
            node_s=60.0,
            dies_s=25.0,
            pauses_s=30.0,
            rival_s=20.0,
            outage_s=60.0,
            damage_s=30.0,
            drain_s=40.0,
            room_s=30.0,
            skew_s=5000.0,
            same_machine=False,
        ),
        {},
    ),
}
FIRES: dict[str, set[str]] = {
    "workers that die": {"kill_s"},
    "a group that shrinks and grows": {"kill_s"},
    "workers that hang": {"hangs_s"},
    "notices": {"notice_s"},
    "nodes that are lost": {"node_s"},
    "drivers that die": {"dies_s"},
    "drivers that die with their machine": {"dies_s", "kill_s"},
    "drivers that wake up": {"pauses_s", "rival_s", "fenced"},
    "requests that fail": {"slow", "refuses", "loses_reply", "dies_s"},
    "a store that is away": {"outage_s", "refuses", "dies_s"},
    "calls that are lost, late and doubled": {"late", "lost", "twice"},
    "checkpoints that rot": {"damage_s", "kill_s"},
    "listings that come late": {"lists_late_s", "dies_s"},
    "creates that aren't exclusive": {"rival_s", "dies_s", "exclusive"},
    "a stop": {"stop_at_s", "dies_s"},
    "tables that are divided": {"kill_s", "dies_s", "notice_s", "rows_moved"},
    "tables of which two hold each row": {"kill_s", "dies_s", "rows_moved", "caught_up"},
    "a stop while two hold each row": {"stop_at_s", "kill_s", "rows_moved"},
    "rows that two hold and whatever goes wrong": {"kill_s", "dies_s", "lost", "rows_moved"},
    "states that several ranks write": {"kill_s", "dies_s", "part_refused", "written by several"},
    "states that several ranks write and whatever goes wrong": {
        *("kill_s", "dies_s", "lost", "refuses", "written by several"),
    },
    "divided tables and whatever goes wrong": {"kill_s", "dies_s", "lost", "refuses"},
    "changed rows": {"kill_s", "dies_s", "part_refused", "chained"},
    "saves that follow each other closely": {"chained"},
    "changed rows of tables of which two hold each": {"kill_s", "dies_s", "rows_moved", "chained"},
    "changed rows and whatever goes wrong": {"kill_s", "dies_s", "refuses", "chained", "resumed"},
    "changed rows and a stop": {"kill_s", "stop_at_s", "chained"},
    "drivers that die while steps are short": {"dies_s", "late"},
    "messages that overtake each other": {"overtaken", "answers_overtaken", "unanswered"},
    "nodes that are drained": {"drain_s", "Draining"},
    "a cluster that grows and shrinks": {"grows", "shrinks", "waits for room", "Room"},
    "an input that ends": {"DataEnded", "kill_s", "dies_s"},
    "an input that raises": {"UserFailed", "kill_s", "dies_s"},
    "everything": {
        *("kill_s", "dies_s", "pauses_s", "rival_s", "drain_s", "room_s"),
        *("lost", "overtaken", "answers_overtaken", "refuses"),
    },
}
"""What must have happened in the schedules of a kind, taken together: else they show nothing."""


def world_of(kind: str, seed: int) -> World:
    """The world of one schedule."""
    faults, settings = KINDS[kind]
    return World(seed, faults, **settings)
