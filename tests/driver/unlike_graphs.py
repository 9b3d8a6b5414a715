"""Graphs of which a proof has to find what no rule on names and operations does.

Run as a program (``python -m tests.driver.unlike_graphs DIRECTORY``) it saves all of them; the
functions here are their inputs, in which nothing but a batch's number decides on it.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

WIDTH = 3
MICROBATCHES = 4


def batch(number: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(number)
    return {
        "x:0": draw.normal(size=(8, WIDTH)).astype(np.float32),
        "y:0": draw.normal(size=8).astype(np.float32),
    }


def serving(more: Callable[[int], dict[str, Any]]) -> Callable[[Any], Iterator[dict[str, Any]]]:
    def batches(ctx: Any) -> Iterator[dict[str, Any]]:
        for number in itertools.count(ctx.position + ctx.rank, ctx.world_size):
            yield batch(number) | more(number)

    return batches


xy = serving(lambda number: {})
inner_rate = serving(lambda number: {"rate:0": np.float32(0.1 / (1 + number))})
same_rate = serving(lambda number: {"rate:0": np.float32(0.1)})
epochs = serving(lambda number: {"epoch:0": np.int32(1 + number)})
same_epoch = serving(lambda number: {"epoch:0": np.int32(2)})


def _output(tf: Any) -> tuple[Any, Any, Any]:
    x = tf.placeholder(tf.float32, [None, WIDTH], name="x")
    y = tf.placeholder(tf.float32, [None], name="y")
    w = tf.get_variable("w", [WIDTH, 1])
    return tf.squeeze(tf.matmul(x, w), 1), y, w


def _applied(tf: Any, gradient: Any, w: Any, rate: Any = 0.1) -> Any:
    step = tf.train.get_or_create_global_step()
    return tf.train.GradientDescentOptimizer(rate).apply_gradients([(gradient, w)], step)


def given_sums(tf: Any) -> Any:
    """``grad_ys`` by hand: an error for each row, and nothing divides by their number."""
    output, y, w = _output(tf)
    (gradient,) = tf.gradients(output, [w], grad_ys=[2.0 * (output - y)])
    return _applied(tf, gradient, w)


def given_means(tf: Any) -> Any:
    """The same, divided."""
    output, y, w = _output(tf)
    rows = tf.cast(tf.shape(y)[0], tf.float32)
    (gradient,) = tf.gradients(output, [w], grad_ys=[2.0 * (output - y) / rows])
    return _applied(tf, gradient, w)


def microbatches(tf: Any) -> Any:
    """A fixed number of parts of the batch, each clipped, as differentially private training has
    them.
    """
    output, y, w = _output(tf)
    parts = tf.split(tf.reshape(tf.square(output - y), [MICROBATCHES, -1]), MICROBATCHES)
    found = []
    for part in parts:
        (gradient,) = tf.gradients(tf.reduce_mean(part), [w])
        found.append(tf.clip_by_norm(gradient, 0.5))
    return _applied(tf, tf.add_n(found) / MICROBATCHES, w)


def ranked(tf: Any) -> Any:
    """In-batch negatives: each row is to be nearer to its own answer than to all others'."""
    output, y, w = _output(tf)
    own = tf.range(tf.shape(y)[0])
    likeness = tf.expand_dims(output, 1) * tf.expand_dims(y, 0)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=own, logits=likeness)
    (gradient,) = tf.gradients(tf.reduce_mean(loss), [w])
    return _applied(tf, gradient, w)


def rated(tf: Any) -> Any:
    """A learning rate that is no placeholder and may be fed all the same."""
    output, y, w = _output(tf)
    (gradient,) = tf.gradients(tf.reduce_mean(tf.square(output - y)), [w])
    return _applied(tf, gradient, w, tf.multiply(0.1, 1.0, name="rate"))


def aged(tf: Any) -> Any:
    """A learning rate by the number of an epoch that is fed."""
    output, y, w = _output(tf)
    epoch = tf.placeholder(tf.int32, [], name="epoch")
    (gradient,) = tf.gradients(tf.reduce_mean(tf.square(output - y)), [w])
    return _applied(tf, gradient, w, 0.1 / tf.cast(epoch, tf.float32))


MAKERS: dict[str, Callable[[Any], Any]] = {
    maker.__name__: maker for maker in (given_sums, given_means, microbatches, ranked, rated, aged)
}


def save_all(directory: Path) -> None:
    import tensorflow

    tf = tensorflow.compat.v1
    tf.disable_resource_variables()
    for name, maker in MAKERS.items():
        with tf.Graph().as_default() as graph:
            tf.set_random_seed(5)
            tf.add_to_collection("train_op", maker(tf))
            with tf.Session(graph=graph) as session:
                session.run(tf.global_variables_initializer())
                tf.train.Saver().save(session, str(directory / name / "model.ckpt"), global_step=0)


if __name__ == "__main__":
    save_all(Path(sys.argv[1]))
