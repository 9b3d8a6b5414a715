"""TF1 runs whose steps aren't one per run, and the batches that they are trained on.

``python -m tests.end_to_end.step_graphs make KIND DIRECTORY [functions]`` writes a checkpoint of
step 0 and says its prefix, with conditionals and loops as functions or as frames;
``… plain PREFIX OUT.npz FEEDS.npz OP…`` runs the operations one after the other, over and over,
each on the next batch of FEEDS (keys ``RUN|TENSOR``), in plain TensorFlow.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

GATHERED = 4
STANDS = 1000
"""Runs during which the counter of ``stands`` stands still."""
INFINITE = range(6, 12)
"""Batches that hold an infinite number."""


def batch(number: int) -> Mapping[str, np.ndarray]:
    draw = np.random.default_rng(5000 + number)
    x = draw.normal(size=(4, 3)).astype(np.float32)
    y = (x.sum(axis=1, keepdims=True) + 0.1 * draw.normal(size=(4, 1))).astype(np.float32)
    return {"x:0": x, "y:0": y}


def batches(ctx: Any) -> Iterator[Mapping[str, np.ndarray]]:
    number = ctx.position + ctx.rank
    while True:
        yield batch(number)
        number += ctx.world_size


def unhurried(ctx: Any) -> Iterator[Mapping[str, np.ndarray]]:
    """The same batches, so slowly that several saves take place meanwhile, on a busy machine too."""
    for each in batches(ctx):
        time.sleep(0.001)
        yield each


def some_infinite(ctx: Any) -> Iterator[Mapping[str, np.ndarray]]:
    number = ctx.position + ctx.rank
    while True:
        yield with_infinity(number)
        number += ctx.world_size


def with_infinity(number: int) -> Mapping[str, np.ndarray]:
    """The batch, or one that no gradient is finite of."""
    feeds = dict(batch(number))
    if number in INFINITE:
        feeds["x:0"] = np.full_like(feeds["x:0"], np.inf)
    return feeds


def joined(
    first: int, count: int, make: Callable[[int], Mapping[str, np.ndarray]] = batch
) -> dict[str, np.ndarray]:
    """The rows of ``count`` batches."""
    parts = [make(number) for number in range(first, first + count)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _model(tf1: Any, tf: Any) -> tuple[Any, Any, Any]:
    x = tf1.placeholder(tf.float32, [None, 3], name="x")
    y = tf1.placeholder(tf.float32, [None, 1], name="y")
    weights = tf1.get_variable("weights", [3, 1], initializer=tf1.ones_initializer())
    return x, weights, tf.reduce_mean(tf.square(tf.matmul(x, weights) - y), name="loss")


def duel(tf1: Any, tf: Any) -> None:
    """Two train ops that count the same step, as many a GAN's do."""
    step = tf1.train.get_or_create_global_step()
    x, weights, loss = _model(tf1, tf)
    other = tf1.get_variable("other", [3, 1], initializer=tf1.zeros_initializer())
    against = tf.reduce_mean(tf.square(tf.matmul(x, other) - tf.matmul(x, weights)))
    for name, what, variable in (("one", loss, weights), ("two", against, other)):
        tf1.train.MomentumOptimizer(0.05, 0.9).minimize(what, step, [variable], name=name)


def skips(tf1: Any, tf: Any) -> None:
    """Loss scaling: the step isn't taken, nor counted, where a gradient isn't finite."""
    step = tf1.train.get_or_create_global_step()
    _, weights, loss = _model(tf1, tf)
    scale = tf1.get_variable(
        "scale", [], initializer=tf1.constant_initializer(8.0), trainable=False
    )
    (scaled,) = tf1.gradients(loss * scale, [weights])
    gradient = scaled / scale
    finite = tf.reduce_all(tf.math.is_finite(gradient))
    optimizer = tf1.train.MomentumOptimizer(0.05, 0.9)
    optimizer._create_slots([weights])

    def taken() -> Any:
        with tf.control_dependencies([optimizer.apply_gradients([(gradient, weights)], step)]):
            return tf1.assign(scale, scale * 2.0)

    changed = tf.cond(finite, taken, lambda: tf1.assign(scale, scale / 2.0))
    tf.group(changed, name="train")


def gathers(tf1: Any, tf: Any) -> None:
    """Gradients are gathered over some runs; a conditional applies them and counts."""
    step = tf1.train.get_or_create_global_step()
    _, weights, loss = _model(tf1, tf)
    (gradient,) = tf1.gradients(loss, [weights])
    sums = tf1.get_variable("sums", [3, 1], initializer=tf1.zeros_initializer(), trainable=False)
    runs = tf1.get_variable("runs", [], tf.int32, tf1.zeros_initializer(), trainable=False)
    added = tf.group(tf1.assign_add(sums, gradient), tf1.assign_add(runs, 1))
    optimizer = tf1.train.GradientDescentOptimizer(0.05)
    with tf.control_dependencies([added]):
        full = tf.equal(runs.read_value(), GATHERED)

    def applied() -> Any:
        update = optimizer.apply_gradients([(sums.read_value() / GATHERED, weights)], step)
        with tf.control_dependencies([update]):
            return tf.group(tf1.assign(sums, tf.zeros_like(sums)), tf1.assign(runs, 0))

    tf.group(tf.cond(full, applied, tf.no_op), name="train")


def stands(tf1: Any, tf: Any) -> None:
    """The step is counted in a variable of the author's own, once in many runs."""
    step = tf1.train.get_or_create_global_step()
    *_, loss = _model(tf1, tf)
    runs = tf1.get_variable("runs", [], tf.int64, tf1.zeros_initializer(), trainable=False)
    update = tf1.train.GradientDescentOptimizer(0.01).minimize(loss)
    with tf.control_dependencies([tf1.assign_add(runs, 1)]):
        grows = tf.equal(runs.read_value() % STANDS, 0)
    tf.group(update, tf1.assign_add(step, tf.cast(grows, tf.int64)), name="train")


def loops(tf1: Any, tf: Any) -> None:
    """Three steps of gradient descent inside of a ``while_loop``, each counted."""
    step = tf1.train.get_or_create_global_step()
    x, weights, _ = _model(tf1, tf)
    y = tf1.get_default_graph().get_tensor_by_name("y:0")

    def body(number: Any) -> Any:
        error = tf.matmul(x, weights.read_value()) - y
        gradient = 2.0 * tf.matmul(x, error, transpose_a=True) / tf.cast(tf.size(y), tf.float32)
        with (
            tf.control_dependencies([tf1.assign_sub(weights, 0.05 * gradient)]),
            tf.control_dependencies([tf1.assign_add(step, 1)]),
        ):
            return tf.identity(number) + 1

    done = tf.while_loop(lambda number: number < 3, body, [0], parallel_iterations=1)
    tf.group(done, name="train")


KINDS = {each.__name__: each for each in (duel, skips, gathers, stands, loops)}


def make(kind: str, directory: str, functions: str = "") -> None:
    import tensorflow as tf

    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1.enable_resource_variables()
        (tf1.enable_control_flow_v2 if functions else tf1.disable_control_flow_v2)()
        KINDS[kind](tf1, tf)
        # What an optimizer inside of a function puts there, TensorFlow itself can't import
        tf1.get_default_graph().clear_collection("train_op")
        session.run(tf1.global_variables_initializer())
        path = tf1.train.Saver().save(session, str(Path(directory, "model.ckpt")), global_step=0)
    sys.stdout.write(f"{path}\n")


def plain(prefix: str, target: str, feeds: str, *names: str) -> None:
    import tensorflow as tf

    tf1 = tf.compat.v1
    with tf.Graph().as_default() as graph, tf1.Session() as session:
        tf1.train.import_meta_graph(prefix + ".meta").restore(session, prefix)
        runs: dict[int, dict[str, np.ndarray]] = {}
        with np.load(feeds) as arrays:
            for key in arrays.files:
                run, tensor = key.split("|")
                runs.setdefault(int(run), {})[tensor] = arrays[key]
        for run in sorted(runs):
            session.run(graph.get_operation_by_name(names[run % len(names)]), runs[run])
        values = session.run({each.op.name: each for each in tf1.global_variables()})
    np.savez(target, **values)


if __name__ == "__main__":
    # Not where it's imported: tests of made-up GPUs share the process
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    if sys.argv[1] == "make":
        make(*sys.argv[2:])
    else:
        plain(*sys.argv[2:])
