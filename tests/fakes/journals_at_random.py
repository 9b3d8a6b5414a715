"""Journals that no driver need have written: any kinds in any order, from a seed."""

from __future__ import annotations

import random
from typing import Any

from orchestrator.journal.event import Field, fields_of
from orchestrator.journal.parsing import KINDS

EPOCH = 1_790_000_000.0
WORKERS = [f"w{number:04d}" for number in range(1, 6)]
COMMON = [
    "progress",
    "save_agreed",
    "save_committed",
    "worker_lost",
    "incident",
    "worker_warm",
    "generation",
    "training",
    "warning",
    "staging",
    "rolling_back",
    "waiting",
]
"""Kinds that one fold or another counts."""


def records(seed: int, events: int = 120, attempts: int = 3) -> list[dict[str, Any]]:
    """A journal's records, in the order of attempts; clocks that jump now and then."""
    chance = random.Random(seed)
    kinds = sorted(KINDS)
    found: list[dict[str, Any]] = []
    at = EPOCH
    for attempt in range(1, attempts + 1):
        t_s = 0.0
        for _ in range(events // attempts):
            moved = chance.choice([0.0, 0.5, 3.0, 40.0]) * chance.random()
            t_s, at = t_s + moved, at + moved + chance.choice([0, 0, 0, 0, 900, -300])
            word = chance.choice(COMMON if chance.random() < 0.85 else kinds)
            fields = {item.name: _value(item, chance) for item in fields_of(KINDS[word])}
            found.append({"attempt": attempt, "at": at, "t_s": t_s, "event": word} | fields)
        at -= chance.choice([0.0, 20.0])  # what a driver that woke up late wrote
    return found


def _value(item: Field, chance: random.Random) -> Any:
    if item.nullable and chance.random() < 0.2:
        return None
    match item.name:
        case "worker" | "donor":
            return chance.choice(WORKERS)
        case "workers" | "members":
            return chance.sample(WORKERS, 3)
        case "spared" | "adopted":
            return chance.random() < 0.1
        case "step":
            return chance.choice([3, 4, 5])
        case "seconds" | "recovered_s" | "stall_s" | "detected_s":
            return round(chance.random() * 30, 3)
    if item.type is int:
        return chance.randint(0, 6)
    if item.type is float:
        return round(chance.random() * 9, 3)
    if item.type is bool:
        return chance.random() < 0.5
    if item.type is tuple:
        return [chance.choice("abc")]
    if item.type is str:
        return chance.choice(["", "a", "b", "c", "died", "hung", "preempted"])
    return {"0": {"compute": round(chance.random(), 3)}}
