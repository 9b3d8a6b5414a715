"""Which habits name their operations so that they look like gradients?"""

from __future__ import annotations

from typing import Any

from tests.graph.wild.parts import Habit, dense, error, inputs


def own_gradient_scope(tf: Any) -> Habit:
    """The author's own name scope is called ``gradients``: clipping stands in it too."""
    x, y = inputs(tf)
    loss = error(tf, y, dense(tf, x, 1, "l"))
    variables = tf.trainable_variables()
    with tf.name_scope("gradients"):
        gradients, _ = tf.clip_by_global_norm(tf.gradients(loss, variables), 0.2)
    return Habit(
        (
            tf.train.GradientDescentOptimizer(0.1).apply_gradients(
                zip(gradients, variables, strict=True), name="apply"
            ),
        )
    )


def all_in_gradient_scope(tf: Any) -> Habit:
    """Even the optimizer stands in a scope called ``gradients``."""
    x, y = inputs(tf)
    loss = error(tf, y, dense(tf, x, 1, "l"))
    with tf.name_scope("gradients"):
        optimizer = tf.train.MomentumOptimizer(0.1, 0.9)
        pairs = [
            (tf.clip_by_norm(gradient, 0.2), variable)
            for gradient, variable in optimizer.compute_gradients(loss)
        ]
        return Habit((optimizer.apply_gradients(pairs, name="apply"),))


def gradient_layers(tf: Any) -> Habit:
    """A forward layer under a scope called ``gradients_1``."""
    x, y = inputs(tf)
    with tf.name_scope("gradients_1"):
        features = tf.concat([x[:, 1:] - x[:, :-1], x[:, :1]], 1)
    loss = error(tf, y, dense(tf, features, 1, "l"))
    return Habit((tf.train.AdamOptimizer(0.05).minimize(loss),))


def named_gradients(tf: Any) -> Habit:
    """``tf.gradients(name=…)``: no scope of the usual name; clipping by global norm comes after."""
    x, y = inputs(tf)
    loss = error(tf, y, dense(tf, x, 1, "l"))
    variables = tf.trainable_variables()
    gradients, _ = tf.clip_by_global_norm(tf.gradients(loss, variables, name="backprop"), 0.2)
    return Habit(
        (tf.train.AdamOptimizer(0.05).apply_gradients(zip(gradients, variables, strict=True)),)
    )
