"""Do two processes train what was refused without need, and what do they say of rows that differ?"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.errors import GroupDisagrees, UserCodeError
from tests.graph.bare import train_original
from tests.graph.patterns import WIDTH, Pattern, make
from tests.graph.stops import STOPS
from tests.training.comparing import assert_identical
from tests.training.conftest import NewRanks
from tests.training.ranks import Ranks, worker_graph

pytestmark = pytest.mark.tf

STEPS = 3
EXCHANGED = (
    "complex_variable",
    "looped_gradients",
    "gradient_of_either_loss_by_the_step",
    "rows_of_towers_with_two_lookups",
    "flat_gradient",
    "assigned_by_hand",
)


@pytest.mark.parametrize("name", EXCHANGED)
def test_two_processes_train_a_pattern_as_one_does(
    name: str, tmp_path: Path, new_ranks: NewRanks
) -> None:
    made = make(STOPS[name], tmp_path)
    graph = worker_graph(made.prefix, train_op=list(made.ops))
    ranks = new_ranks(2)
    ranks.start(made.prefix, train_op=list(made.ops))
    for step in range(STEPS):
        ranks.step(made.parts(step))
    first, second = ranks.states()
    assert_identical(first, second)
    joint = train_original(graph.original_meta, str(made.prefix), list(made.ops), STEPS, made.joint)
    for variable, value in joint.items():
        np.testing.assert_allclose(first.arrays[variable], value, rtol=3e-5, atol=1e-6)


def uneven(ranks: Ranks) -> list[dict[str, Any]]:
    """A batch of three rows and one of five."""
    rng = np.random.default_rng(1)
    return [
        {
            "x:0": rng.normal(size=(rows, WIDTH)).astype(np.float32),
            "y:0": rng.normal(size=rows).astype(np.float32),
        }
        for rows in (3, 5)[: len(ranks.processes)]
    ]


def test_batches_of_different_rows_give_the_mean_of_their_gradients(
    tmp_path: Path, new_ranks: NewRanks
) -> None:
    made = make(STOPS["assigned"], tmp_path)
    ranks = new_ranks(2)
    start = ranks.start(made.prefix, train_op=list(made.ops))
    batches = uneven(ranks)
    ranks.step(batches)
    first, second = ranks.states()
    assert_identical(first, second)
    w = start.arrays["w"]
    gradients = [
        2.0 * part["x:0"].T @ (part["x:0"] @ w - part["y:0"][:, None]) / len(part["y:0"])
        for part in batches
    ]
    np.testing.assert_allclose(first.arrays["w"], w - 0.1 * np.mean(gradients, 0), rtol=1e-5)


def gradient_of_rows(tf: Any) -> Any:
    """A gradient of the batch's own rows, turned into a variable's by hand."""
    x = tf.placeholder(tf.float32, [None, WIDTH], name="x")
    y = tf.placeholder(tf.float32, [None], name="y")
    w = tf.get_variable("w", [WIDTH, 1])
    hidden = tf.matmul(x, w)
    loss = tf.reduce_mean(tf.square(tf.squeeze(hidden, 1) - y))
    back = tf.gradients(loss, hidden)[0]
    return tf.train.GradientDescentOptimizer(0.1).apply_gradients(
        [(tf.reshape(tf.matmul(x, back, transpose_a=True), [WIDTH, 1]), w)]
    )


def without_shapes(path: Path) -> None:
    """As some programs export it: nothing tells that the gradient has a batch's rows."""
    meta = MetaGraphDef.FromString(path.read_bytes())
    for node in meta.graph_def.node:
        node.attr.pop("_output_shapes", None)
    path.write_bytes(meta.SerializeToString())


def test_gradients_of_rows_that_differ_are_told_as_what_they_are_and_not_as_a_lost_peer(
    tmp_path: Path, new_ranks: NewRanks
) -> None:
    made = make(Pattern(gradient_of_rows, "equal"), tmp_path)
    without_shapes(Path(f"{made.prefix}.meta"))
    ranks = new_ranks(2)
    ranks.start(made.prefix, train_op=list(made.ops))
    outcomes = ranks.outcomes(uneven(ranks))
    for outcome, rows in zip(outcomes, (3, 5), strict=True):
        assert isinstance(outcome, GroupDisagrees), outcome
        assert isinstance(outcome, UserCodeError), "it ends the run, no further try can help"
        assert f"[{rows}, 1]" in outcome.message
        assert "gradients/" in outcome.message
        assert "the same number of rows" in (outcome.remedy or "")


def held_up(tf: Any) -> Any:
    """A step that stays inside the session's run until a variable is set."""
    x = tf.placeholder(tf.float32, [None, WIDTH], name="x")
    y = tf.placeholder(tf.float32, [None], name="y")
    w = tf.get_variable("w", [WIDTH, 1])
    gate = tf.get_variable(
        "gate", [], initializer=tf.zeros_initializer(), trainable=False, use_resource=True
    )
    tf.assign(gate, 1.0, name="open_gate")
    # One chain of rounds: more would take every thread that could open the gate
    rounds = tf.while_loop(
        lambda _: gate.read_value() < 0.5, lambda at: at + 1.0, [0.0], parallel_iterations=1
    )
    held = tf.stop_gradient(0.0 * rounds)
    loss = tf.reduce_mean(tf.square(tf.squeeze(tf.matmul(x, w), 1) - y + held))
    return tf.train.GradientDescentOptimizer(0.1).minimize(loss)


def open_gate(trainer: Any) -> None:
    """Let a rank's step go on, in the thread that asks: what is held up may have all others."""
    from orchestrator.training.engine.tensorflow import v1

    session = trainer._group.session.session
    in_this_thread = v1.RunOptions(inter_op_thread_pool=-1)
    session.run(session.graph.get_operation_by_name("open_gate"), options=in_this_thread)


def waits_for_peers(trainer: Any) -> bool:
    """Whether a rank has computed its part of the step and stands in the exchange."""
    computed = trainer._group._kept._computed
    return computed is not None and bool(computed[1].slots) and not trainer.computing


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, a minute at most."""
    deadline_s = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < deadline_s, "it didn't come about"


def test_rank_inside_a_slow_run_says_so_and_the_one_that_waits_for_it_does_not(
    tmp_path: Path, new_ranks: NewRanks
) -> None:
    made = make(Pattern(held_up, "equal"), tmp_path)
    ranks = new_ranks(2)
    ranks.start(made.prefix, train_op=list(made.ops))
    slow, fast = ranks.processes
    assert not slow.control("computing")
    fast.call("apply", open_gate)
    for process, own in zip(ranks.processes, ranks.dealt(made.parts(0)), strict=True):
        process.send("step", own)
    until(lambda: slow.control("computing") and fast.control("apply", waits_for_peers))
    assert slow.control("computing"), "the other one's computing is over, and this one's isn't"
    slow.control("apply", open_gate)
    assert [process.receive().step for process in ranks.processes] == [1, 1]
    assert not slow.control("computing")
