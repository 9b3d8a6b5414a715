"""Which habits do something of their own between gradients and variables?"""

from __future__ import annotations

from typing import Any

from tests.graph.wild.parts import EVERYTHING, Habit, dense, error, inputs


def noisy_gradients(tf: Any) -> Habit:
    """Gradient noise and a norm summary, as contrib.layers.optimize_loss adds them; the train op is
    the loss.
    """
    x, y = inputs(tf)
    step = tf.train.get_or_create_global_step()
    with tf.variable_scope("OptimizeLoss"):
        loss = error(tf, y, dense(tf, x, 1, "l"))
        optimizer = tf.train.GradientDescentOptimizer(0.1)
        pairs = optimizer.compute_gradients(loss)
        noisy = [
            (gradient + 0.0 * tf.truncated_normal(tf.shape(gradient)), variable)
            for gradient, variable in pairs
        ]
        tf.summary.scalar(
            "global_norm/gradient_norm", tf.global_norm([gradient for gradient, _ in noisy])
        )
        update = optimizer.apply_gradients(noisy, global_step=step, name="train")
        with tf.control_dependencies([update]):
            return Habit((tf.identity(loss, name="control_dependency").op,))


def loss_scaled(tf: Any) -> Habit:
    """Mixed precision's dynamic loss scale: the scale and the good steps are variables, updates
    stand in a conditional.
    """
    x, y = inputs(tf)
    scale = tf.get_variable(
        "current_loss_scale", [], initializer=tf.constant_initializer(8.0), trainable=False
    )
    good = tf.get_variable(
        "good_steps", [], tf.int64, initializer=tf.zeros_initializer(), trainable=False
    )
    loss = error(tf, y, dense(tf, x, 1, "l"))
    optimizer = tf.train.MomentumOptimizer(0.05, 0.9)
    pairs = [
        (gradient / scale, variable)
        for gradient, variable in optimizer.compute_gradients(loss * scale)
    ]
    finite = tf.reduce_all(
        tf.stack([tf.reduce_all(tf.is_finite(gradient)) for gradient, _ in pairs])
    )

    def apply() -> Any:
        with tf.control_dependencies([optimizer.apply_gradients(pairs)]):
            return tf.group(tf.assign_add(good, 1))

    return Habit(
        (
            tf.cond(
                finite, apply, lambda: tf.group(tf.assign(scale, scale / 2.0)), name="LossScale"
            ).op,
        )
    )


def hand_written_adam(tf: Any) -> Habit:
    """Keras in graph mode: updates are plain assignments under ``training/Adam``, and nothing is in
    the train_op collection.
    """
    x, y = inputs(tf)
    loss = error(tf, y, dense(tf, x, 1, "dense_1"))
    params = tf.trainable_variables()
    updates = []
    with tf.name_scope("training/Adam"):
        gradients = tf.gradients(loss, params)
        iterations = tf.get_variable(
            "Adam/iterations", [], tf.int64, initializer=tf.zeros_initializer(), trainable=False
        )
        updates.append(tf.assign_add(iterations, 1))
        for parameter, gradient in zip(params, gradients, strict=True):
            shape = parameter.shape.as_list()
            moment = tf.get_variable(
                f"m_{parameter.op.name}", shape, initializer=tf.zeros_initializer(), trainable=False
            )
            new = 0.9 * moment + 0.1 * gradient
            updates.append(tf.assign(moment, new))
            updates.append(tf.assign(parameter, parameter - 0.05 * new))
    return Habit((tf.group(*updates, name="training/group_deps"),))


def decayed_weights(tf: Any) -> Habit:
    """AdamW: weights decay by an assignment before the update."""
    x, y = inputs(tf)
    loss = error(tf, y, dense(tf, x, 1, "l"))
    optimizer = tf.train.AdamOptimizer(0.05)
    pairs = optimizer.compute_gradients(loss)
    decay = [variable.assign_sub(0.01 * variable) for _, variable in pairs]
    with tf.control_dependencies([gradient for gradient, _ in pairs] + decay):
        return Habit((optimizer.apply_gradients(pairs),), (), (EVERYTHING,))


def scheduled(tf: Any) -> Habit:
    """A learning rate by tf.case and a warm-up by tf.cond on the step."""
    x, y = inputs(tf)
    step = tf.train.get_or_create_global_step()
    rate = tf.train.piecewise_constant(step, [1, 3], [0.1, 0.05, 0.01])
    rate = tf.cond(step < 2, lambda: rate * tf.cast(step + 1, tf.float32) / 2.0, lambda: rate)
    return Habit(
        (
            tf.train.MomentumOptimizer(rate, 0.9, use_nesterov=True).minimize(
                error(tf, y, dense(tf, x, 1, "l")), step
            ),
        )
    )


def tower_averages(tf: Any) -> Habit:
    """The cifar10 tutorial on two GPUs: towers, averaged gradients, histograms, moving averages,
    all in one group.
    """
    x, y = inputs(tf)
    step = tf.get_variable(
        "global_step", [], tf.int64, initializer=tf.zeros_initializer(), trainable=False
    )
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    towers = []
    for number, (rows, labels) in enumerate(zip(tf.split(x, 2), tf.split(y, 2), strict=True)):
        with tf.device(f"/gpu:{number}"), tf.name_scope(f"tower_{number}"):
            loss = error(tf, labels, dense(tf, rows, 1, "softmax_linear"))
            towers.append(optimizer.compute_gradients(loss, colocate_gradients_with_ops=True))
    averaged = []
    for pairs in zip(*towers, strict=True):
        stacked = tf.concat([tf.expand_dims(gradient, 0) for gradient, _ in pairs], axis=0)
        averaged.append((tf.reduce_mean(stacked, 0), pairs[0][1]))
    for gradient, variable in averaged:
        tf.summary.histogram(variable.op.name + "/gradients", gradient)
    apply = optimizer.apply_gradients(averaged, global_step=step)
    follow = tf.train.ExponentialMovingAverage(0.99, step).apply(tf.trainable_variables())
    return Habit((tf.group(apply, follow),), (), ("*/ExponentialMovingAverage",))


def checked_numbers(tf: Any) -> Habit:
    """Assertions and prints on the way, as debugging leaves them."""
    x, y = inputs(tf)
    loss = error(tf, y, dense(tf, x, 1, "l"))
    with tf.control_dependencies(
        [tf.assert_greater(tf.shape(x)[0], 0), tf.debugging.assert_all_finite(loss, "loss")]
    ):
        loss = tf.identity(loss)
    train = tf.train.AdagradOptimizer(0.1).minimize(loss)
    return Habit((train,))
