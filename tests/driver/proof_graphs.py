"""On which graphs is it shown that a proof tells what holds from what doesn't?

Rule: the losses of ``tests/graph/losses``, and what people do that no rule on a loss sees. Each
takes its batches from one of the input functions here; nothing but a batch's number decides on it.
Run as a program (``python -m tests.driver.proof_graphs DIRECTORY``) it saves all of them.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.graph import losses

WIDTH, WORDS = losses.WIDTH, losses.WORDS


# -- batches


def batch(number: int, rows: int = 8) -> dict[str, np.ndarray]:
    """Everything that any graph here is fed, for a batch."""
    draw = np.random.default_rng(number)
    counted = 2 + number % 5
    return {
        "x:0": draw.normal(size=(rows, WIDTH)).astype(np.float32),
        "y:0": draw.normal(size=rows).astype(np.float32),
        "mask:0": (np.arange(rows) < counted).astype(np.float32),
        "ids:0": draw.integers(0, WORDS, rows),
        "times:0": draw.normal(size=(5, rows, WIDTH)).astype(np.float32),
        "bags/indices:0": np.stack([np.arange(rows), draw.integers(0, WORDS, rows)], 1),
        "bags/values:0": np.ones(rows, np.float32),
        "bags/shape:0": np.array([rows, WORDS]),
    }


def serve(*names: str, rows: Callable[[int], int] = lambda number: 8) -> Callable[..., Any]:
    """An input function that gives these tensors."""

    def batches(ctx: Any) -> Iterator[dict[str, np.ndarray]]:
        for number in itertools.count(ctx.position + ctx.rank, ctx.world_size):
            whole = batch(number, rows(number))
            yield {name: whole[name] for name in names}

    return batches


xy = serve("x:0", "y:0")
masked_xy = serve("x:0", "y:0", "mask:0")
uneven_xy = serve("x:0", "y:0", rows=lambda number: 6 + number % 3)
words = serve("ids:0", "y:0")
sentences = serve("times:0", "y:0")
bags = serve("bags/indices:0", "bags/values:0", "bags/shape:0", "y:0")


def empty_xy(ctx: Any) -> Iterator[dict[str, np.ndarray]]:
    """In every third batch nothing counts."""
    for number, given in zip(
        itertools.count(ctx.position + ctx.rank, ctx.world_size), masked_xy(ctx), strict=False
    ):
        yield given | {"mask:0": given["mask:0"] * np.float32(number % 3 != 1)}


def two_batches(ctx: Any) -> Iterator[dict[str, np.ndarray]]:
    """An input that ends within the first step of three."""
    return itertools.islice(xy(ctx), 2)


# -- graphs


def _train(tf: Any, loss: Any, optimizer: str = "sgd") -> Any:
    chosen = {
        "sgd": lambda: tf.train.GradientDescentOptimizer(0.1),
        "adam": lambda: tf.train.AdamOptimizer(0.01),
    }[optimizer]()
    return chosen.minimize(loss, global_step=tf.train.get_or_create_global_step())


def normalised(tf: Any) -> Any:
    """Batch norm with moving averages; the bias before it has a gradient of rounding alone, of
    which Adam makes whole steps.
    """
    from tensorflow.python.training import moving_averages

    x, y = losses._inputs(tf)
    value = tf.nn.bias_add(
        tf.matmul(x, tf.get_variable("w", [WIDTH, 3])), tf.get_variable("bias", [3])
    )
    mean, variance = tf.nn.moments(value, [0])
    updates = []
    for name, taken, first in (("mean", mean, 0.0), ("variance", variance, 1.0)):
        moving = tf.get_variable(
            f"moving_{name}", [3], initializer=tf.constant_initializer(first), trainable=False
        )
        updates.append(moving_averages.assign_moving_average(moving, taken, 0.9))
    value = tf.nn.relu(tf.nn.batch_normalization(value, mean, variance, None, None, 1e-3))
    output = tf.squeeze(tf.matmul(value, tf.get_variable("out", [3, 1])), 1)
    with tf.control_dependencies(updates):
        return _train(tf, tf.reduce_mean(tf.square(output - y)), "adam")


def normalised_sum(tf: Any) -> Any:
    """The same with a loss that a mean doesn't fit."""
    from tensorflow.python.training import moving_averages

    x, y = losses._inputs(tf)
    value = tf.matmul(x, tf.get_variable("w", [WIDTH, 1]))
    mean, variance = tf.nn.moments(value, [0])
    moving = tf.get_variable("moving_mean", [1], trainable=False)
    update = moving_averages.assign_moving_average(moving, mean, 0.9)
    value = tf.squeeze(tf.nn.batch_normalization(value, mean, variance, None, None, 1e-3), 1)
    with tf.control_dependencies([update]):
        return _train(tf, tf.reduce_sum(tf.square(value - y)))


def contrastive(tf: Any) -> Any:
    """Every row is told from all others of its batch."""
    x, y = losses._inputs(tf)
    there = tf.nn.l2_normalize(tf.matmul(x, tf.get_variable("w", [WIDTH, 3])), 1)
    back = tf.nn.l2_normalize(
        tf.matmul(tf.expand_dims(y, 1), tf.get_variable("b", [1, 3])) + 0.1, 1
    )
    likeness = tf.matmul(there, back, transpose_b=True) * 5.0
    own = tf.range(tf.shape(x)[0])
    return _train(
        tf,
        tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=own, logits=likeness)),
    )


def dropped(tf: Any) -> Any:
    """Dropout, which must not count as a difference."""
    x, y = losses._inputs(tf)
    output = losses._output(tf, tf.nn.dropout(x, rate=0.5))
    return _train(tf, tf.reduce_mean(tf.square(output - y)), "adam")


def time_first(tf: Any) -> Any:
    """Rows in the second dimension, as recurrent nets have them."""
    x = tf.placeholder(tf.float32, [None, None, WIDTH], name="times")
    y = tf.placeholder(tf.float32, [None], name="y")
    w, b = losses._weights(tf)
    last = tf.squeeze(tf.matmul(tf.reduce_sum(tf.tanh(x), 0), w) + b, 1)
    return _train(tf, tf.reduce_mean(tf.square(last - y)))


def bag_of_words(tf: Any) -> Any:
    """A sparse tensor that is fed in three parts."""
    bags = tf.sparse_placeholder(tf.float32, [None, WORDS], name="bags")
    y = tf.placeholder(tf.float32, [None], name="y")
    output = tf.sparse_tensor_dense_matmul(bags, tf.get_variable("w", [WORDS, 1]))
    return _train(tf, tf.reduce_mean(tf.square(tf.squeeze(output, 1) - y)))


def rows_counted(tf: Any) -> Any:
    """A mean, and a count of all rows that were ever seen: with a gradient scale of the mean a group
    keeps the mean of it.
    """
    x, y = losses._inputs(tf)
    seen = tf.get_variable("seen", [], initializer=tf.zeros_initializer(), trainable=False)
    step = _train(tf, tf.reduce_mean(tf.square(losses._output(tf, x) - y)))
    return tf.group(step, tf.assign_add(seen, tf.cast(tf.shape(x)[0], tf.float32)))


def penalised(tf: Any) -> Any:
    """A sum over rows, and a large penalty whose gradient has become one with the sum's."""
    x, y = losses._inputs(tf)
    w, b = losses._weights(tf)
    twice = 2.0 * w
    errors = tf.square(tf.squeeze(tf.nn.bias_add(tf.matmul(x, twice), b), 1) - y)
    return _train(tf, tf.reduce_sum(errors) + 10.0 * tf.nn.l2_loss(twice))


def weighted(tf: Any) -> Any:
    """A masked mean whose count has a name."""
    mask = tf.placeholder(tf.float32, [None], name="mask")
    count = tf.reduce_sum(mask, name="counted")
    return _train(tf, tf.reduce_sum(losses._errors(tf) * mask) / count, "adam")


def tokens(tf: Any) -> Any:
    """A loss for each token of a table that is looked up, by how many of them aren't padding."""
    ids = tf.placeholder(tf.int64, [None], name="ids")
    y = tf.placeholder(tf.float32, [None], name="y")
    real = tf.cast(tf.not_equal(ids, 0), tf.float32)
    count = tf.reduce_sum(tf.cast(tf.not_equal(ids, 0), tf.int64), name="counted")
    rows = tf.nn.embedding_lookup(tf.get_variable("w", [WORDS, WIDTH]), ids)
    error = tf.square(tf.squeeze(tf.matmul(rows, tf.get_variable("b", [WIDTH, 1])), 1) - y)
    return _train(tf, tf.reduce_sum(error * real) / tf.cast(count, tf.float32))


OWN: dict[str, Callable[[Any], Any]] = {
    maker.__name__: maker
    for maker in (
        *(normalised, normalised_sum, contrastive, dropped, time_first, bag_of_words),
        *(rows_counted, penalised, weighted, tokens),
    )
}
LOSSES = (
    *("mean", "total", "table_mean", "table_sum", "masked", "picked", "root", "fixed_mean"),
    *("by_constant", "clipped", "mean_and_penalty"),
)


def save_all(directory: Path) -> None:
    """Build each graph, initialise and save it, as ``NAME``."""
    import tensorflow

    tf = tensorflow.compat.v1
    tf.disable_resource_variables()
    tf.disable_control_flow_v2()
    makers = {name: losses.LOSSES[name][0] for name in LOSSES} | OWN
    for name, maker in makers.items():
        with tf.Graph().as_default() as graph:
            tf.set_random_seed(5)
            built = maker(tf)
            if not isinstance(built, tf.Operation):
                built = _train(tf, built)
            tf.add_to_collection("train_op", built)
            with tf.Session(graph=graph) as session:
                session.run(tf.global_variables_initializer())
                tf.train.Saver().save(session, str(directory / name / "model.ckpt"), global_step=0)


if __name__ == "__main__":
    save_all(Path(sys.argv[1]))
