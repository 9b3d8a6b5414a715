"""Does one slow step among fast ones disturb a run of two workers?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.store.objects.location import open_location
from orchestrator.store.run.journal import read_journal
from tests.end_to_end.commands import resumed
from tests.graph.patterns import Pattern, make
from tests.graphs.feeds import FEATURES

pytestmark = [
    pytest.mark.tf,
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.turns(32, "whole runs"),
]

FLOOR_S = 2.0
SLOW_STEP, ROUNDS = 6, 2_000_000
"""Rounds of an empty loop, some microseconds each: longer than twice the floor, after which all
members were ended.
"""


def slow_once(tf: Any) -> Any:
    """Steps of milliseconds, one of which counts up for many seconds."""
    x = tf.placeholder(tf.float32, [None, FEATURES], name="x")
    y = tf.cast(tf.placeholder(tf.int64, [None], name="y"), tf.float32)
    step = tf.train.get_or_create_global_step()
    limit = tf.where(tf.equal(step, SLOW_STEP), ROUNDS, 1)
    counted = tf.while_loop(lambda at: at < limit, lambda at: at + 1, [0], parallel_iterations=1)
    w = tf.get_variable("w", [FEATURES, 1])
    late = tf.stop_gradient(0.0 * tf.cast(counted, tf.float32))
    loss = tf.reduce_mean(tf.square(tf.squeeze(tf.matmul(x, w), 1) - y + late))
    return tf.train.GradientDescentOptimizer(0.1).minimize(loss, global_step=step)


def test_slow_step_among_fast_ones_ends_nobody(tmp_path: Path, ray_address: str) -> None:
    made = make(Pattern(slow_once, "equal"), tmp_path)
    result = resumed(
        *(made.prefix, "--output", tmp_path / "out", "--workers", "2", "--until-step", "12"),
        *("--input", "tests.end_to_end.inputs:mlp", "--hang-floor-s", str(FLOOR_S)),
        *("--no-prove", "--address", ray_address),
    )
    assert (result["status"], result["final_step"], result["incidents"]) == ("done", 12, [])
    events = read_journal(open_location(str(tmp_path / "out")))
    at_s = {event["event"]: event["t_s"] for event in events}
    assert at_s["finish"] - at_s["training"] > 2 * FLOOR_S, "the step wasn't slow enough to show it"
