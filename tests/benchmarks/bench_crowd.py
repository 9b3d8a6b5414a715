"""Does a driver bear a thousand workers whose every message passes through Ray?

Eight processes of Ray's with the workers, the driver and Ray itself share this machine: see
``crowd_on_ray``. Seconds of the clock, since it's the queue before the driver that is in question.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ray

from tests.benchmarks.crowd_on_ray import watch
from tests.benchmarks.figures import Figure

WORKERS, SECONDS = 1000, 15.0


def figures(_: Path) -> Iterator[Figure]:
    """A thousand, which is what the bars are for."""
    ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=200 * 2**20)
    try:
        seen = watch(WORKERS, SECONDS)
    finally:
        ray.shutdown()
    mean_s, most_s, oldest_s = seen.age_s
    ages = f"99 of 100 below {most_s:.2f} s, the oldest {oldest_s:.2f} s"
    busy = f"{seen.messages:.0f} messages in a second, {seen.cores:.2f} of a core"
    yield Figure(f"{WORKERS} workers told to start, s", seen.started_s, 5.0, True, "")
    yield Figure(f"{WORKERS} workers train, s", seen.formed_s, 15.0, True, "")
    yield Figure(f"age of a judged message of {WORKERS}, s", mean_s, 0.2, True, ages)
    yield Figure(f"longest stall of the loop at {WORKERS}, s", seen.longest_s, 0.2, True, busy)
