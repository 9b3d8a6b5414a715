"""How do people write their losses? One small TF1 graph for each way, with what its gradients are
of.

Rule: inputs are ``x:0`` float32 ``[rows, 4]`` and ``y:0`` float32 ``[rows]`` unless a maker says
otherwise; the weights are ``w`` and ``b``. Run as a program (``python -m tests.graph.losses
DIRECTORY``) it saves all of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

WIDTH, WORDS, STATES = 4, 11, 5
Built = Any
"""A loss, or the operation that trains."""


def _inputs(tf: Any, rows: int | None = None) -> tuple[Any, Any]:
    return tf.placeholder(tf.float32, [rows, WIDTH], name="x"), tf.placeholder(
        tf.float32, [rows], name="y"
    )


def _weights(tf: Any) -> tuple[Any, Any]:
    return tf.get_variable("w", [WIDTH, 1]), tf.get_variable(
        "b", [1], initializer=tf.zeros_initializer()
    )


def _output(tf: Any, x: Any) -> Any:
    w, b = _weights(tf)
    return tf.squeeze(tf.nn.bias_add(tf.matmul(x, w), b), 1)


def _errors(tf: Any, rows: int | None = None) -> Any:
    """A squared error for each row."""
    x, y = _inputs(tf, rows)
    return tf.square(_output(tf, x) - y)


def mean(tf: Any) -> Built:
    """The mean over rows."""
    return tf.reduce_mean(_errors(tf))


def total(tf: Any) -> Built:
    """The sum over rows."""
    return tf.reduce_sum(_errors(tf))


def rows_themselves(tf: Any) -> Built:
    """A loss for each row, which ``tf.gradients`` adds up."""
    return _errors(tf)


def _labels(tf: Any, **options: Any) -> Built:
    x, y = _inputs(tf)
    return tf.losses.mean_squared_error(y, _output(tf, x), **options)


def losses_sum(tf: Any) -> Built:
    """``tf.losses`` with Reduction.SUM."""
    return _labels(tf, reduction=tf.losses.Reduction.SUM)


def losses_mean(tf: Any) -> Built:
    """``tf.losses`` with Reduction.MEAN: the sum of weighted losses by the sum of constant weights."""
    return _labels(tf, reduction=tf.losses.Reduction.MEAN)


def losses_nonzero(tf: Any) -> Built:
    """``tf.losses`` by default: a weight of one for all rows."""
    return _labels(tf)


def losses_nonzero_masked(tf: Any) -> Built:
    """``tf.losses`` by default with a mask that is fed: the rows that count are counted."""
    return _labels(tf, weights=tf.placeholder(tf.float32, [None], name="mask"))


def losses_batch_size(tf: Any) -> Built:
    """``tf.losses`` with SUM_OVER_BATCH_SIZE and weights that are fed: a sum by the number of
    elements.
    """
    weights = tf.placeholder(tf.float32, [None], name="weights")
    return _labels(tf, weights=weights, reduction=tf.losses.Reduction.SUM_OVER_BATCH_SIZE)


def head(tf: Any) -> Built:
    """As the canned heads of ``tf.estimator`` have it: cross entropy for each row, weighted, added
    up.
    """
    x = tf.placeholder(tf.float32, [None, WIDTH], name="x")
    y = tf.placeholder(tf.int64, [None, 1], name="y")
    w = tf.get_variable("w", [WIDTH, 3])
    b = tf.get_variable("b", [3])
    with tf.name_scope("dnn/head"):
        losses = tf.losses.sparse_softmax_cross_entropy(
            tf.squeeze(y, 1), tf.nn.bias_add(tf.matmul(x, w), b), reduction=tf.losses.Reduction.NONE
        )
        return tf.losses.compute_weighted_loss(
            tf.expand_dims(losses, 1), 1.0, reduction=tf.losses.Reduction.SUM
        )


def by_shape(tf: Any) -> Built:
    """A sum by the number of rows, taken from a shape."""
    errors = _errors(tf)
    return tf.reduce_sum(errors) / tf.cast(tf.shape(errors)[0], tf.float32)


def by_fed_size(tf: Any) -> Built:
    """A sum by a batch size that is fed."""
    return tf.reduce_sum(_errors(tf)) / tf.cast(
        tf.placeholder(tf.int32, [], name="batch_size"), tf.float32
    )


def by_fed_number(tf: Any) -> Built:
    """A sum by a number that is fed and may be anything."""
    return tf.reduce_sum(_errors(tf)) / tf.placeholder(tf.float32, [], name="scale")


def by_constant(tf: Any) -> Built:
    """A sum by a number that stands in the graph."""
    return tf.reduce_sum(_errors(tf)) / 32.0


def weighted_mean(tf: Any) -> Built:
    """A mean times a number that is fed, with dropout of which the rate is fed too."""
    x, y = _inputs(tf)
    keep = tf.placeholder(tf.float32, [], name="keep_prob")
    return tf.placeholder(tf.float32, [], name="scale") * tf.reduce_mean(
        tf.square(_output(tf, x / keep) - y)
    )


def dropped_sum(tf: Any) -> Built:
    """A sum over rows with dropout of which the rate is fed, without a shape."""
    x, y = _inputs(tf)
    hidden = tf.nn.dropout(x, keep_prob=tf.placeholder(tf.float32, name="keep_prob"))
    return tf.reduce_sum(tf.square(_output(tf, tf.reshape(hidden, [-1, WIDTH])) - y))


def masked(tf: Any) -> Built:
    """A sum by the sum of a mask, kept from zero."""
    mask = tf.placeholder(tf.float32, [None], name="mask")
    return tf.reduce_sum(_errors(tf) * mask) / tf.maximum(tf.reduce_sum(mask), 1e-8)


def masked_rows(tf: Any) -> Built:
    """Each row by the sum of a mask, added up."""
    mask = tf.placeholder(tf.float32, [None], name="mask")
    return tf.reduce_sum(_errors(tf) * (mask / (tf.reduce_sum(mask) + 1e-6)))


def picked(tf: Any) -> Built:
    """A mean over the rows that a mask picks."""
    return tf.reduce_mean(
        tf.boolean_mask(_errors(tf), tf.placeholder(tf.bool, [None], name="mask"))
    )


def picked_sum(tf: Any) -> Built:
    """A sum over the rows that a mask picks."""
    return tf.reduce_sum(tf.boolean_mask(_errors(tf), tf.placeholder(tf.bool, [None], name="mask")))


def mean_and_penalty(tf: Any) -> Built:
    """A mean, and a penalty on weights."""
    loss = tf.reduce_mean(_errors(tf))
    return loss + 0.01 * tf.nn.l2_loss(tf.trainable_variables()[0])


def sum_and_penalty(tf: Any) -> Built:
    """A sum, and a penalty on one of its weights."""
    loss = tf.reduce_sum(_errors(tf))
    return tf.add_n([loss, 0.01 * tf.nn.l2_loss(tf.trainable_variables()[0])])


def sum_and_penalty_of_one(tf: Any) -> Built:
    """A sum, and a penalty on what is made of a weight: their gradients have become one before they
    reach it.
    """
    x, y = _inputs(tf)
    w, b = _weights(tf)
    twice = 2.0 * w
    errors = tf.square(tf.squeeze(tf.nn.bias_add(tf.matmul(x, twice), b), 1) - y)
    return tf.reduce_sum(errors) + 0.01 * tf.nn.l2_loss(twice)


def sum_and_penalty_by_size(tf: Any) -> Built:
    """A sum and a penalty on one of its weights, both by the number of rows."""
    errors = _errors(tf)
    return (
        tf.reduce_sum(errors) + 0.01 * tf.nn.l2_loss(tf.trainable_variables()[0])
    ) / tf.to_float(tf.size(errors))


def half_square(tf: Any) -> Built:
    """``l2_loss`` of the rows' errors: a sum."""
    x, y = _inputs(tf)
    return 2.0 * tf.nn.l2_loss(_output(tf, x) - y)


def inner_product(tf: Any) -> Built:
    """A sum over rows by multiplying matrices."""
    x, y = _inputs(tf)
    return tf.reduce_sum(tf.matmul(tf.expand_dims(y, 0), tf.expand_dims(_output(tf, x), 1)))


def scaled(tf: Any) -> Built:
    """Loss scaling: gradients of the loss times a constant, divided again."""
    optimizer = tf.train.AdamOptimizer(0.1)
    pairs = optimizer.compute_gradients(tf.reduce_sum(_errors(tf)) * 128.0)
    return optimizer.apply_gradients([(gradient / 128.0, variable) for gradient, variable in pairs])


def seeded(tf: Any) -> Built:
    """Policy gradients: ``tf.gradients`` is given what to begin with, a number for each row."""
    x, y = _inputs(tf)
    pairs = zip(
        tf.gradients(_output(tf, x), tf.trainable_variables(), grad_ys=-y),
        tf.trainable_variables(),
        strict=True,
    )
    return tf.train.GradientDescentOptimizer(0.1).apply_gradients(list(pairs))


def logarithm(tf: Any) -> Built:
    """The logarithm of a mean: nothing that adds up over workers."""
    return tf.log(tf.reduce_mean(_errors(tf)))


def root(tf: Any) -> Built:
    """The root of a mean of squares."""
    return tf.sqrt(tf.reduce_mean(_errors(tf)))


def clipped(tf: Any) -> Built:
    """A mean, Adam, clipped by the global norm: clipping comes after the seam."""
    optimizer = tf.train.AdamOptimizer(0.1)
    gradients, variables = zip(
        *optimizer.compute_gradients(tf.reduce_mean(_errors(tf))), strict=True
    )
    return optimizer.apply_gradients(
        zip(tf.clip_by_global_norm(gradients, 0.5)[0], variables, strict=True)
    )


def clipped_sum(tf: Any) -> Built:
    """A sum, momentum, clipped by the global norm."""
    optimizer = tf.train.MomentumOptimizer(0.1, 0.9)
    gradients, variables = zip(
        *optimizer.compute_gradients(tf.reduce_sum(_errors(tf))), strict=True
    )
    return optimizer.apply_gradients(
        zip(tf.clip_by_global_norm(gradients, 0.5)[0], variables, strict=True)
    )


def _recurrent(tf: Any) -> Any:
    """A recurrent net's outputs, time first, as ``dynamic_rnn`` writes its loop; ``x:0`` is
    ``[rows, times, 4]``.
    """
    x = tf.placeholder(tf.float32, [None, None, WIDTH], name="x")
    w = tf.get_variable("w", [WIDTH + STATES, STATES])
    value = tf.transpose(x, [1, 0, 2])
    times, rows = tf.shape(value)[0], tf.shape(value)[1]
    taken = tf.TensorArray(tf.float32, times).unstack(value)

    def body(time: Any, state: Any, given: Any) -> tuple[Any, Any, Any]:
        new = tf.tanh(tf.matmul(tf.concat([taken.read(time), state], 1), w))
        new.set_shape([None, STATES])
        return time + 1, new, given.write(time, new)

    start = (0, tf.zeros([rows, STATES]), tf.TensorArray(tf.float32, times))
    _, _, given = tf.while_loop(lambda time, state, given: time < times, body, start)
    outputs = given.stack()
    outputs.set_shape([None, None, STATES])
    return outputs


def recurrent_mean(tf: Any) -> Built:
    """A time-major recurrent net, the mean over all times and rows."""
    return tf.reduce_mean(tf.square(_recurrent(tf)))


def recurrent_sum(tf: Any) -> Built:
    """A time-major recurrent net, the sum over all times and rows."""
    return tf.reduce_sum(tf.square(_recurrent(tf)))


def recurrent_rows(tf: Any) -> Built:
    """A recurrent net turned batch-major, flattened: the sum over units, the mean over the rest."""
    outputs = tf.transpose(_recurrent(tf), [1, 0, 2])
    flat = tf.matmul(tf.reshape(outputs, [-1, STATES]), tf.get_variable("b", [STATES, 2]))
    return tf.reduce_mean(tf.reduce_sum(tf.square(flat), 1))


def recurrent_times(tf: Any) -> Built:
    """The mean over times, the sum over rows."""
    return tf.reduce_sum(tf.reduce_mean(tf.square(tf.transpose(_recurrent(tf), [1, 0, 2])), 1))


def _looked_up(tf: Any) -> Any:
    words = tf.placeholder(tf.int64, [None], name="ids")
    y = tf.placeholder(tf.float32, [None], name="y")
    table = tf.get_variable("w", [WORDS, WIDTH])
    b = tf.get_variable("b", [WIDTH, 1])
    return tf.square(tf.squeeze(tf.matmul(tf.nn.embedding_lookup(table, words), b), 1) - y)


def table_sum(tf: Any) -> Built:
    """A table that is looked up: rows of gradients of a sum."""
    return tf.reduce_sum(_looked_up(tf))


def table_mean(tf: Any) -> Built:
    """A table that is looked up: rows of gradients of a mean."""
    return tf.reduce_mean(_looked_up(tf))


def towers(tf: Any) -> Built:
    """Two towers of half the batch each, sums, and the average of their gradients."""
    x, y = _inputs(tf)
    w, b = _weights(tf)
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    found = []
    for number, (part, labels) in enumerate(zip(tf.split(x, 2), tf.split(y, 2), strict=True)):
        with tf.name_scope(f"tower_{number}"):
            error = tf.reduce_sum(tf.square(tf.squeeze(tf.matmul(part, w) + b, 1) - labels))
            found.append(optimizer.compute_gradients(error))
    return optimizer.apply_gradients(
        [
            (tf.reduce_mean(tf.stack([gradient for gradient, _ in both]), 0), both[0][1])
            for both in zip(*found, strict=True)
        ]
    )


def fixed_mean(tf: Any) -> Built:
    """The mean over a batch whose size stands in the graph."""
    return tf.reduce_mean(_errors(tf, 8))


def fixed_sum(tf: Any) -> Built:
    """The sum over a batch whose size stands in the graph: there's no joint batch of it."""
    return tf.reduce_sum(_errors(tf, 8))


def crossed(tf: Any) -> Built:
    """Every row against every other, by a mistake in shapes: the mean is one all the same, but
    nobody tells.
    """
    x, y = _inputs(tf)
    return tf.reduce_mean(tf.square(tf.expand_dims(_output(tf, x), 1) - y))


def multiplied_rows(tf: Any) -> Built:
    """The product over rows: no rule tells what becomes of it."""
    return tf.reduce_prod(_errors(tf))


def flattened(tf: Any) -> Built:
    """Images: convolution, batch norm by the batch, pooling, flattening, the mean."""
    x = tf.placeholder(tf.float32, [None, 8, 8, 1], name="x")
    y = tf.placeholder(tf.int64, [None], name="y")
    value = tf.nn.conv2d(x, tf.get_variable("w", [3, 3, 1, 2]), [1, 1, 1, 1], "SAME")
    average, variance = tf.nn.moments(value, [0, 1, 2])
    value = tf.nn.relu(tf.nn.batch_normalization(value, average, variance, None, None, 1e-3))
    value = tf.reshape(tf.nn.max_pool(value, [1, 2, 2, 1], [1, 2, 2, 1], "SAME"), [-1, 32])
    logits = tf.matmul(value, tf.get_variable("b", [32, 3]))
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits))


Wanted = dict[str, str]
BOTH = ("w", "b")


def _all(kind: str) -> Wanted:
    return dict.fromkeys(BOTH, kind)


LOSSES: dict[str, tuple[Callable[[Any], Built], Wanted]] = {
    maker.__name__: (maker, wanted if isinstance(wanted, dict) else _all(wanted))
    for maker, wanted in (
        (mean, "mean"),
        (total, "sum"),
        (rows_themselves, "sum"),
        (losses_sum, "sum"),
        (losses_mean, "mean"),
        (losses_nonzero, "mean"),
        (losses_nonzero_masked, "masked"),
        (losses_batch_size, "mean"),
        (head, "sum"),
        (by_shape, "mean"),
        (by_fed_size, "mean"),
        (by_fed_number, "unknown"),
        (by_constant, "sum"),
        (weighted_mean, "mean"),
        (dropped_sum, "sum"),
        (masked, "masked"),
        (masked_rows, "masked"),
        (picked, "masked"),
        (picked_sum, "sum"),
        (mean_and_penalty, "mean"),
        (sum_and_penalty, {"w": "mean+sum", "b": "sum"}),
        (sum_and_penalty_of_one, {"w": "mixed", "b": "sum"}),
        (sum_and_penalty_by_size, {"w": "unknown", "b": "mean"}),
        (half_square, "sum"),
        (inner_product, "sum"),
        (scaled, "sum"),
        (seeded, "sum"),
        (logarithm, "nonlinear"),
        (root, "nonlinear"),
        (clipped, "mean"),
        (clipped_sum, "sum"),
        (recurrent_mean, {"w": "mean"}),
        (recurrent_sum, {"w": "sum"}),
        (recurrent_rows, "mean"),
        (recurrent_times, {"w": "sum"}),
        (table_sum, "sum"),
        (table_mean, "mean"),
        (towers, "sum"),
        (fixed_mean, "mean"),
        (fixed_sum, "unknown"),
        (crossed, "unknown"),
        (multiplied_rows, "unknown"),
        (flattened, "mean"),
    )
}
"""Each way, and what the gradients of its variables are of; ``mean+sum`` comes in two parts."""


def save_all(directory: Path) -> None:
    """Build each graph, initialise and save it, as ``NAME``."""
    import tensorflow

    tf = tensorflow.compat.v1
    tf.disable_resource_variables()
    tf.disable_control_flow_v2()
    for name, (maker, _) in LOSSES.items():
        with tf.Graph().as_default() as graph:
            tf.set_random_seed(5)
            built = maker(tf)
            if not isinstance(built, tf.Operation):
                tf.train.GradientDescentOptimizer(0.1).minimize(built)
            with tf.Session(graph=graph) as session:
                session.run(tf.global_variables_initializer())
                tf.train.Saver().save(session, str(directory / name))


if __name__ == "__main__":
    save_all(Path(sys.argv[1]))
