"""Which ways of writing a training graph would a group get wrong without a word, if nobody looked?

Rule: as published code does it. Each maker builds into the default graph and returns the operation
that trains; its first line is the pattern's name in the documentation.
"""

from __future__ import annotations

from typing import Any

from tests.graph.patterns import WIDTH, Pattern

TRAINING = (("is_training:0", True),)


def _inputs(tf: Any) -> tuple[Any, Any]:
    return tf.placeholder(tf.float32, [None, WIDTH], name="x"), tf.placeholder(
        tf.float32, [None], name="y"
    )


def _variable(tf: Any, name: str, shape: list[int], **options: Any) -> Any:
    initializer = tf.random_normal_initializer(stddev=0.3, seed=3)
    return tf.get_variable(name, shape, initializer=initializer, **options)


def _still(tf: Any, name: str, shape: list[int], value: float = 0.0, **options: Any) -> Any:
    """A variable that isn't trained."""
    initializer = tf.constant_initializer(value)
    return tf.get_variable(name, shape, initializer=initializer, trainable=False, **options)


def _loss(tf: Any, x: Any, y: Any, name: str = "w") -> Any:
    w = _variable(tf, name, [int(x.shape[-1]), 1])
    return tf.reduce_mean(tf.square(tf.squeeze(tf.matmul(x, w), 1) - y))


def _train(tf: Any, loss: Any) -> Any:
    return tf.train.GradientDescentOptimizer(0.1).minimize(loss)


def _move(moving: Any, value: Any, decay: float = 0.9) -> Any:
    from tensorflow.python.training import moving_averages

    return moving_averages.assign_moving_average(moving, value, decay, zero_debias=False)


def _hidden(tf: Any, x: Any) -> Any:
    return tf.matmul(x, _variable(tf, "hidden", [WIDTH, WIDTH]))


def conditional_moments(tf: Any) -> Any:
    """Batch norm of which the moments are taken, and their moving averages written, inside of
    `tf.cond(is_training, …)` (tflearn's layer)."""
    x, y = _inputs(tf)
    hidden = _hidden(tf, x)
    mean, variance = _still(tf, "mean", [WIDTH]), _still(tf, "variance", [WIDTH], 1.0)

    def update() -> Any:
        found = tf.nn.moments(hidden, [0])
        writes = [_move(mean, found[0]), _move(variance, found[1])]
        with tf.control_dependencies(writes):
            return tf.identity(found[0]), tf.identity(found[1])

    taken = tf.cond(
        tf.placeholder(tf.bool, [], name="is_training"), update, lambda: (mean, variance)
    )
    return _train(tf, _loss(tf, tf.nn.batch_normalization(hidden, *taken, None, None, 1e-3), y))


def conditional_fused(tf: Any) -> Any:
    """Fused batch norm whole inside of `tf.cond(is_training, …)`, its moving averages too."""
    x, y = _inputs(tf)
    hidden = tf.reshape(_hidden(tf, x), [-1, 1, 1, WIDTH])
    scale, offset = _still(tf, "scale", [WIDTH], 1.0), _still(tf, "offset", [WIDTH])
    mean, variance = _still(tf, "mean", [WIDTH]), _still(tf, "variance", [WIDTH], 1.0)

    def update() -> Any:
        out, now, spread = tf.nn.fused_batch_norm(hidden, scale, offset, is_training=True)
        with tf.control_dependencies([_move(mean, now), _move(variance, spread)]):
            return tf.identity(out)

    def use() -> Any:
        return tf.nn.fused_batch_norm(hidden, scale, offset, mean, variance, is_training=False)[0]

    out = tf.cond(tf.placeholder(tf.bool, [], name="is_training"), update, use)
    return _train(tf, _loss(tf, tf.reshape(out, [-1, WIDTH]), y))


def conditional_average(tf: Any) -> Any:
    """An `ExponentialMovingAverage` of batch moments applied inside of `tf.cond`, and read on the
    other branch."""
    x, y = _inputs(tf)
    hidden = _hidden(tf, x)
    mean, variance = tf.nn.moments(hidden, [0])
    average = tf.train.ExponentialMovingAverage(0.5)

    def update() -> Any:
        with tf.control_dependencies([average.apply([mean, variance])]):
            return tf.identity(mean), tf.identity(variance)

    def use() -> Any:
        return average.average(mean), average.average(variance)

    taken = tf.cond(tf.placeholder(tf.bool, [], name="is_training"), update, use)
    return _train(tf, _loss(tf, tf.nn.batch_normalization(hidden, *taken, None, None, 1e-3), y))


def nested_conditional_moments(tf: Any) -> Any:
    """Batch norm inside of a conditional inside of another."""
    x, y = _inputs(tf)
    hidden = _hidden(tf, x)
    mean = _still(tf, "mean", [WIDTH])
    frozen = tf.placeholder(tf.bool, [], name="frozen")

    def update() -> Any:
        now = tf.reduce_mean(hidden, 0)
        with tf.control_dependencies([_move(mean, now)]):
            return tf.identity(now)

    def outer() -> Any:
        return tf.cond(frozen, lambda: tf.identity(mean), update)

    taken = tf.cond(
        tf.placeholder(tf.bool, [], name="is_training"), outer, lambda: tf.identity(mean)
    )
    return _train(tf, _loss(tf, hidden - taken, y))


def idle_conditional_moments(tf: Any) -> Any:
    """The same batch norm trained with `is_training` false: its branch writes nothing."""
    return conditional_moments(tf)


PATTERNS: dict[str, Pattern] = {
    pattern.build.__name__: pattern
    for pattern in (
        Pattern(conditional_moments, "same", feeds=TRAINING, alike=True),
        Pattern(conditional_fused, "same", apart=("variance",), feeds=TRAINING, alike=True),
        Pattern(conditional_average, "same", feeds=TRAINING, alike=True),
        Pattern(
            nested_conditional_moments,
            "same",
            feeds=(*TRAINING, ("frozen:0", False)),
            alike=True,
        ),
        Pattern(idle_conditional_moments, "same", feeds=(("is_training:0", False),)),
    )
}
