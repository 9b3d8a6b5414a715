"""Normalisation by statistics of the batch that are taken inside of conditionals: what does a group make
of it?
"""

from __future__ import annotations

from typing import Any

from tests.graph.patterns import WIDTH, Pattern
from tests.graph.silent.parts import (
    TRAINING,
    hidden_layer,
    inputs,
    loss_of,
    move,
    still,
    train,
)


def conditional_moments(tf: Any) -> Any:
    """Batch norm of which the moments are taken, and their moving averages written, inside of
    `tf.cond(is_training, …)` (tflearn's layer)."""
    x, y = inputs(tf)
    hidden = hidden_layer(tf, x)
    mean, variance = still(tf, "mean", [WIDTH]), still(tf, "variance", [WIDTH], 1.0)

    def update() -> Any:
        found = tf.nn.moments(hidden, [0])
        writes = [move(mean, found[0]), move(variance, found[1])]
        with tf.control_dependencies(writes):
            return tf.identity(found[0]), tf.identity(found[1])

    taken = tf.cond(
        tf.placeholder(tf.bool, [], name="is_training"), update, lambda: (mean, variance)
    )
    return train(tf, loss_of(tf, tf.nn.batch_normalization(hidden, *taken, None, None, 1e-3), y))


def conditional_fused(tf: Any) -> Any:
    """Fused batch norm whole inside of `tf.cond(is_training, …)`, its moving averages too."""
    x, y = inputs(tf)
    hidden = tf.reshape(hidden_layer(tf, x), [-1, 1, 1, WIDTH])
    scale, offset = still(tf, "scale", [WIDTH], 1.0), still(tf, "offset", [WIDTH])
    mean, variance = still(tf, "mean", [WIDTH]), still(tf, "variance", [WIDTH], 1.0)

    def update() -> Any:
        out, now, spread = tf.nn.fused_batch_norm(hidden, scale, offset, is_training=True)
        with tf.control_dependencies([move(mean, now), move(variance, spread)]):
            return tf.identity(out)

    def use() -> Any:
        return tf.nn.fused_batch_norm(hidden, scale, offset, mean, variance, is_training=False)[0]

    out = tf.cond(tf.placeholder(tf.bool, [], name="is_training"), update, use)
    return train(tf, loss_of(tf, tf.reshape(out, [-1, WIDTH]), y))


def conditional_average(tf: Any) -> Any:
    """An `ExponentialMovingAverage` of batch moments applied inside of `tf.cond`, and read on the
    other branch."""
    x, y = inputs(tf)
    hidden = hidden_layer(tf, x)
    mean, variance = tf.nn.moments(hidden, [0])
    average = tf.train.ExponentialMovingAverage(0.5)

    def update() -> Any:
        with tf.control_dependencies([average.apply([mean, variance])]):
            return tf.identity(mean), tf.identity(variance)

    def use() -> Any:
        return average.average(mean), average.average(variance)

    taken = tf.cond(tf.placeholder(tf.bool, [], name="is_training"), update, use)
    return train(tf, loss_of(tf, tf.nn.batch_normalization(hidden, *taken, None, None, 1e-3), y))


def nested_conditional_moments(tf: Any) -> Any:
    """Batch norm inside of a conditional inside of another."""
    x, y = inputs(tf)
    hidden = hidden_layer(tf, x)
    mean = still(tf, "mean", [WIDTH])
    frozen = tf.placeholder(tf.bool, [], name="frozen")

    def update() -> Any:
        now = tf.reduce_mean(hidden, 0)
        with tf.control_dependencies([move(mean, now)]):
            return tf.identity(now)

    def outer() -> Any:
        return tf.cond(frozen, lambda: tf.identity(mean), update)

    taken = tf.cond(
        tf.placeholder(tf.bool, [], name="is_training"), outer, lambda: tf.identity(mean)
    )
    return train(tf, loss_of(tf, hidden - taken, y))


def idle_conditional_moments(tf: Any) -> Any:
    """The same batch norm trained with `is_training` false: its branch writes nothing."""
    return conditional_moments(tf)


PATTERNS = (
    Pattern(conditional_moments, "equal", feeds=TRAINING, alike=True),
    Pattern(conditional_fused, "equal", apart=("variance",), feeds=TRAINING, alike=True),
    Pattern(conditional_average, "equal", feeds=TRAINING, alike=True),
    Pattern(
        nested_conditional_moments, "equal", feeds=(*TRAINING, ("frozen:0", False)), alike=True
    ),
    Pattern(idle_conditional_moments, "equal", feeds=(("is_training:0", False),)),
)
