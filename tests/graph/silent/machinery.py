"""Pipelines, towers, schedules and what else stands around a model: what does a group make of them?

Rule: as scripts have it between the model and the session.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.graph.patterns import WIDTH, Batch, Pattern, dense
from tests.graph.silent.parts import (
    descent,
    errors,
    gradients_of,
    inputs,
    loss_of,
    network,
    still,
    train,
    variable,
)


def towers(tf: Any) -> Any:
    """The CIFAR tutorial: two towers in the graph, their gradients averaged, averages of all
    weights."""
    x, y = inputs(tf)
    step = tf.train.get_or_create_global_step()
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    grads = []
    for number, (part, truth) in enumerate(zip(tf.split(x, 2), tf.split(y, 2), strict=True)):
        with tf.name_scope(f"tower_{number}"):
            loss = tf.reduce_mean(tf.square(tf.squeeze(network(tf, part), 1) - truth))
            grads.append(optimizer.compute_gradients(loss))
    pairs = []
    for both in zip(*grads, strict=True):
        stacked = tf.concat([tf.expand_dims(each, 0) for each, _ in both], 0)
        pairs.append((tf.reduce_mean(stacked, 0), both[0][1]))
    apply = optimizer.apply_gradients(pairs, global_step=step)
    average = tf.train.ExponentialMovingAverage(0.9, step)
    with tf.control_dependencies([apply]):
        return average.apply(tf.trainable_variables())


def towers_by_sum(tf: Any) -> Any:
    """Two towers whose losses are added up in one `tf.gradients`."""
    x, y = inputs(tf)
    losses = []
    for part, truth in zip(tf.split(x, 2), tf.split(y, 2), strict=True):
        losses.append(tf.reduce_mean(tf.square(tf.squeeze(network(tf, part), 1) - truth)))
    gradients, variables = gradients_of(tf, tf.add_n(losses) / 2.0)
    return descent(tf, gradients, variables)


def rate_in_a_variable(tf: Any) -> Any:
    """A learning rate in a variable that the script halves on a plateau, and one by steps."""
    step = tf.train.get_or_create_global_step()
    rate = still(tf, "learning_rate", [], 0.1)
    tf.assign(rate, rate * 0.5, name="halve")
    by_step = tf.train.piecewise_constant(step, [0, 1], [1.0, 0.5, 0.25])
    return tf.train.MomentumOptimizer(rate * by_step, 0.9).minimize(
        tf.reduce_mean(errors(tf)), global_step=step
    )


def rate_by_the_loss(tf: Any) -> Any:
    """The rate falls with a moving average of the loss that the same step takes up."""
    average = still(tf, "loss_average", [], 1.0)
    loss = tf.reduce_mean(errors(tf))
    gradients, variables = gradients_of(tf, loss)
    kept = average.assign(0.9 * average + 0.1 * loss)
    rate = 0.1 * tf.minimum(1.0, kept)
    moves = [own.assign_sub(rate * each) for each, own in zip(gradients, variables, strict=True)]
    return tf.group(*moves)


def best_so_far(tf: Any) -> Any:
    """The smallest loss so far is kept, and the rate halved where a batch's isn't below it."""
    best, rate = still(tf, "best", [], 100.0), still(tf, "rate", [], 0.1)
    loss = tf.reduce_mean(errors(tf))
    gradients, variables = gradients_of(tf, loss)
    with tf.control_dependencies([descent(tf, gradients, variables)]):
        better = loss < best
        writes = [
            best.assign(tf.where(better, loss, best)),
            rate.assign(tf.where(better, rate, 0.5 * rate)),
        ]
    return tf.group(*writes)


def best_by_condition(tf: Any) -> Any:
    """The same by `tf.cond`: the rate is halved where the batch's loss isn't small."""
    rate = still(tf, "rate", [], 0.1)
    loss = tf.reduce_mean(errors(tf))
    gradients, variables = gradients_of(tf, loss)
    with tf.control_dependencies([descent(tf, gradients, variables)]):
        return rate.assign(tf.cond(loss < 3.5, lambda: rate * 1.0, lambda: rate * 0.5))


def curriculum(tf: Any) -> Any:
    """A stage that grows by a `tf.cond` on the step, and chooses the loss by `tf.case`."""
    step = tf.train.get_or_create_global_step()
    stage = still(tf, "stage", [], 0, dtype=tf.int32)
    rows = errors(tf)
    loss = tf.case(
        [(tf.equal(stage, 0), lambda: tf.reduce_mean(tf.sqrt(rows + 1e-3)))],
        default=lambda: tf.reduce_mean(rows),
    )
    apply = tf.train.AdamOptimizer(0.02).minimize(loss, global_step=step)
    with tf.control_dependencies([apply]):
        return tf.cond(
            tf.equal(tf.floormod(step.read_value(), 2), 0),
            lambda: tf.group(tf.assign_add(stage, 1)),
            tf.no_op,
        )


def recomputed(tf: Any) -> Any:
    """Gradient checkpointing: a layer is computed a second time for its gradient."""
    x, y = inputs(tf)
    w = variable(tf, "w", [WIDTH, WIDTH])

    @tf.custom_gradient
    def block(value: Any, kernel: Any) -> Any:
        def back(upstream: Any) -> Any:
            with tf.control_dependencies([upstream]):
                again = tf.tanh(tf.matmul(tf.identity(value), kernel))
            slope = upstream * (1.0 - tf.square(again))
            return tf.matmul(slope, kernel, transpose_b=True), tf.matmul(
                value, slope, transpose_a=True
            )

        return tf.tanh(tf.matmul(value, kernel)), back

    return train(tf, loss_of(tf, block(x, w + 0.0), y, "out"))


def called_layers(tf: Any) -> Any:
    """Layers in a `tf.function` that the graph calls, the gradients outside."""
    import tensorflow

    x, y = inputs(tf)
    w1, w2 = variable(tf, "w1", [WIDTH, 5]), variable(tf, "w2", [5, 1])

    @tensorflow.function
    def forward(rows: Any) -> Any:
        return tf.matmul(tf.tanh(tf.matmul(rows, w1)), w2)

    gradients, variables = gradients_of(
        tf, tf.reduce_mean(tf.square(tf.squeeze(forward(x), 1) - y))
    )
    gradients, _ = tf.clip_by_global_norm(gradients, 0.5)
    return tf.train.AdamOptimizer(0.02).apply_gradients(zip(gradients, variables, strict=True))


def looped_by_function(tf: Any) -> Any:
    """A recurrence in a functional `While`, its gradient another one."""
    x, y = inputs(tf)
    w = variable(tf, "w", [WIDTH, WIDTH])
    _, out = tf.while_loop(
        lambda at, _: at < 3, lambda at, state: (at + 1, tf.tanh(tf.matmul(state, w))), [0, x]
    )
    return train(tf, tf.reduce_mean(tf.square(tf.reduce_sum(out, 1) - y)))


def python_function(tf: Any) -> Any:
    """A Python function prepares the rows."""
    x, y = inputs(tf)
    moved = tf.py_func(np.tanh, [x], tf.float32)
    moved.set_shape([None, WIDTH])
    return train(tf, tf.reduce_mean(tf.square(tf.squeeze(network(tf, moved), 1) - y)))


def written_batch_size(tf: Any) -> Any:
    """The batch size is written into the placeholders."""
    x = tf.placeholder(tf.float32, [4, WIDTH], name="x")
    y = tf.placeholder(tf.float32, [4], name="y")
    return train(tf, tf.reduce_mean(tf.square(tf.squeeze(network(tf, x), 1) - y)))


def _data(tf: Any) -> Any:
    rng = np.random.default_rng(5)
    rows = dense(rng, 24)
    return tf.data.Dataset.from_tensor_slices((rows["x:0"], rows["y:0"])).repeat()


def _on(tf: Any, x: Any, y: Any) -> Any:
    x.set_shape([None, WIDTH])
    return train(tf, tf.reduce_mean(tf.square(tf.squeeze(network(tf, x), 1) - y)))


def one_shot_pipeline(tf: Any) -> Any:
    """`tf.data` in the graph, a one-shot iterator."""
    data = _data(tf).batch(4)
    return _on(tf, *tf.data.make_one_shot_iterator(data).get_next())


def initialised_pipeline(tf: Any) -> Any:
    """`tf.data` in the graph with an initialisable iterator and a map."""
    data = _data(tf).map(lambda x, y: (x * 2.0, y)).batch(4).prefetch(1)
    iterator = tf.data.make_initializable_iterator(data)
    tf.add_to_collection(tf.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
    return _on(tf, *iterator.get_next())


def handled_pipeline(tf: Any) -> Any:
    """An iterator that a fed handle chooses."""
    data = _data(tf).batch(4)
    chosen = tf.placeholder(tf.string, [], name="handle")
    iterator = tf.data.Iterator.from_string_handle(
        chosen, tf.data.get_output_types(data), tf.data.get_output_shapes(data)
    )
    tf.data.make_one_shot_iterator(data).string_handle(name="training_handle")
    return _on(tf, *iterator.get_next())


def _joined_input(rng: np.random.Generator, rows: int) -> Batch:
    return {f"IteratorGetNext:{n}": value for n, value in enumerate(dense(rng, rows).values())}


PATTERNS = (
    Pattern(towers, "equal"),
    Pattern(towers_by_sum, "equal"),
    Pattern(rate_in_a_variable, "equal"),
    Pattern(rate_by_the_loss, "equal"),
    Pattern(best_so_far, "equal"),
    Pattern(best_by_condition, "equal"),
    Pattern(curriculum, "equal"),
    Pattern(recomputed, "equal"),
    Pattern(called_layers, "equal", functions=True),
    Pattern(looped_by_function, "equal", functions=True),
    Pattern(
        python_function,
        "refused",
        "calls the Python function",
        remedy="`--py-func TOKEN=MODULE:FUNCTION` names it",
        gap="the function isn't in the graph, so it has to be named",
    ),
    Pattern(written_batch_size, "equal", fixed=True),
    Pattern(one_shot_pipeline, "equal", serve=_joined_input),
    Pattern(initialised_pipeline, "equal", serve=_joined_input),
    Pattern(handled_pipeline, "equal", serve=_joined_input),
)
