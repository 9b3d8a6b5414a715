"""Which habits keep averages, of weights or of batches?"""

from __future__ import annotations

from typing import Any

from tests.graph.wild.parts import EVERYTHING, OF_A_BATCH, WIDTH, Habit, dense, error, inputs


def shadowed(tf: Any) -> Habit:
    """Moving averages of weights downstream of the optimizer; the collection knows the optimizer
    alone.
    """
    x, y = inputs(tf)
    step = tf.train.get_or_create_global_step()
    rate = tf.train.exponential_decay(0.1, step, 2, 0.9, staircase=True)
    apply = tf.train.GradientDescentOptimizer(rate).minimize(
        error(tf, y, dense(tf, x, 1, "l")), global_step=step
    )
    averages = tf.train.ExponentialMovingAverage(0.9, step)
    with tf.control_dependencies([apply]):
        return Habit((tf.group(averages.apply(tf.trainable_variables()), name="train"),))


def switched_normalisation(tf: Any) -> Habit:
    """contrib's batch norm with ``is_training`` as a placeholder: averages are assigned inside a
    conditional, before the loss.
    """
    from tensorflow.python.training import moving_averages

    x, y = inputs(tf)
    training = tf.placeholder(tf.bool, [], name="is_training")
    hidden = dense(tf, x, 3, "h")
    mean, variance = tf.nn.moments(hidden, [0])
    moving = [
        tf.get_variable(
            f"BatchNorm/moving_{kind}", [3], initializer=tf.zeros_initializer(), trainable=False
        )
        for kind in ("mean", "variance")
    ]

    def update() -> list[Any]:
        pairs = zip(moving, (mean, variance), strict=True)
        return [
            moving_averages.assign_moving_average(old, new, 0.9, zero_debias=False)
            for old, new in pairs
        ]

    def keep() -> list[Any]:
        return [tf.identity(old) for old in moving]

    with tf.control_dependencies(tf.cond(training, update, keep)):
        normal = tf.identity(tf.cond(training, lambda: mean * 0.0, lambda: moving[0]) + hidden)
    loss = error(tf, y, dense(tf, normal, 1, "out"))
    return Habit(
        (tf.train.GradientDescentOptimizer(0.1).minimize(loss),),
        (("is_training:0", True),),
        (OF_A_BATCH,),
    )


def contrib_normalisation(tf: Any) -> Habit:
    """contrib.layers.batch_norm with ``updates_collections=None`` and a placeholder: one
    conditional gives batch or moving moments.
    """
    from tensorflow.python.training import moving_averages

    x, y = inputs(tf)
    training = tf.placeholder(tf.bool, [], name="is_training")
    hidden = dense(tf, x, 3, "h")
    mean, variance = tf.nn.moments(hidden, [0])
    moving_mean = tf.get_variable(
        "BatchNorm/moving_mean", [3], initializer=tf.zeros_initializer(), trainable=False
    )
    moving_variance = tf.get_variable(
        "BatchNorm/moving_variance", [3], initializer=tf.ones_initializer(), trainable=False
    )

    def force_updates() -> Any:
        updates = [
            moving_averages.assign_moving_average(moving_mean, mean, 0.9, zero_debias=False),
            moving_averages.assign_moving_average(
                moving_variance, variance, 0.9, zero_debias=False
            ),
        ]
        with tf.control_dependencies(updates):
            return tf.identity(mean), tf.identity(variance)

    centre, spread = tf.cond(
        training, force_updates, lambda: (tf.identity(moving_mean), tf.identity(moving_variance))
    )
    normal = tf.nn.batch_normalization(hidden, 0.0 * centre, 0.0 * spread + 1.0, None, None, 0.001)
    loss = error(tf, y, dense(tf, normal, 1, "out"))
    step = tf.train.get_or_create_global_step()
    return Habit(
        (tf.train.AdamOptimizer(0.05).minimize(loss, global_step=step),),
        (("is_training:0", True),),
        (OF_A_BATCH,),
    )


def tutorial_normalisation(tf: Any) -> Habit:
    """The batch norm of a thousand tutorials: an ExponentialMovingAverage applied inside tf.cond."""
    x, y = inputs(tf)
    training = tf.placeholder(tf.bool, name="phase_train")
    hidden = dense(tf, x, 3, "h")
    mean, variance = tf.nn.moments(hidden, [0], name="moments")
    ema = tf.train.ExponentialMovingAverage(decay=0.5)

    def mean_var_with_update() -> Any:
        with tf.control_dependencies([ema.apply([mean, variance])]):
            return tf.identity(mean), tf.identity(variance)

    centre, spread = tf.cond(
        training, mean_var_with_update, lambda: (ema.average(mean), ema.average(variance))
    )
    normal = tf.nn.batch_normalization(hidden, 0.0 * centre, 0.0 * spread + 1.0, None, None, 1e-3)
    loss = error(tf, y, dense(tf, normal, 1, "out"))
    return Habit(
        (tf.train.GradientDescentOptimizer(0.1).minimize(loss),),
        (("phase_train:0", True),),
        ("moments/Squeeze_1/*",),
    )


def measured(tf: Any) -> Habit:
    """tf.metrics in the same group as the update: totals and counts are local variables, and become
    the workers' mean.
    """
    x, y = inputs(tf)
    out = dense(tf, x, 1, "l")
    _, seen = tf.metrics.mean_absolute_error(y, tf.squeeze(out, 1))
    train = tf.train.GradientDescentOptimizer(0.1).minimize(error(tf, y, out))
    return Habit((tf.group(train, seen, name="train_and_measure"),), (), ("mean_absolute_error/*",))


def running_statistics(tf: Any) -> Habit:
    """Observations normalised by running sums, as in policy gradients."""
    x, y = inputs(tf)
    total = tf.get_variable(
        "obfilter/sum", [WIDTH], tf.float64, initializer=tf.zeros_initializer(), trainable=False
    )
    count = tf.get_variable(
        "obfilter/count", [], tf.float64, initializer=tf.ones_initializer(), trainable=False
    )
    sums = [
        tf.assign_add(total, tf.reduce_sum(tf.cast(x, tf.float64), 0)),
        tf.assign_add(count, tf.cast(tf.shape(x)[0], tf.float64)),
    ]
    mean = tf.cast(total / count, tf.float32)
    train = tf.train.AdamOptimizer(0.01).minimize(
        error(tf, y, dense(tf, x - tf.stop_gradient(mean), 1, "pi"))
    )
    with tf.control_dependencies([train]):
        return Habit((tf.group(*sums, name="update_all"),), (), (EVERYTHING,))
