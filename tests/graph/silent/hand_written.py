"""Steps without `tf.gradients`: backward passes by hand, tapes, functions: what does a group make of them?"""

from __future__ import annotations

from typing import Any

from tests.graph.patterns import WIDTH, Pattern
from tests.graph.silent.parts import TRAINING, inputs, loss_of, still, variable


def by_hand(tf: Any, x: Any, y: Any, w: Any) -> Any:
    """The gradient of the mean of squared errors, written by hand."""
    errors = tf.matmul(x, w) - tf.expand_dims(y, 1)
    return tf.matmul(x, errors, transpose_a=True) * 2.0 / tf.cast(tf.shape(x)[0], tf.float32)


def taped(tf: Any, x: Any, y: Any, w: Any) -> Any:
    import tensorflow

    with tensorflow.GradientTape() as tape:
        loss = tf.reduce_mean(
            tf.square(tf.squeeze(tf.matmul(x, w), 1) - y, name="loss"), name="mean"
        )
    return tape.gradient(loss, w)


def applied(tf: Any, gradient: Any, w: Any) -> Any:
    return tf.train.MomentumOptimizer(0.1, 0.9).apply_gradients([(gradient, w)])


def hand_written_backward(tf: Any) -> Any:
    """A backward pass by hand, its gradients handed to an optimizer."""
    x, y = inputs(tf)
    w = variable(tf, "w", [WIDTH, 1])
    return applied(tf, by_hand(tf, x, y, w), w)


def clipped_by_hand(tf: Any) -> Any:
    """A backward pass by hand, its gradients clipped by their norm."""
    x, y = inputs(tf)
    w = variable(tf, "w", [WIDTH, 1])
    return applied(tf, tf.clip_by_norm(by_hand(tf, x, y, w), 0.3), w)


def taped_backward(tf: Any) -> Any:
    """`tf.GradientTape` in a graph, its gradients handed to an optimizer."""
    x, y = inputs(tf)
    w = variable(tf, "w", [WIDTH, 1])
    return applied(tf, taped(tf, x, y, w), w)


def clipped_tape(tf: Any) -> Any:
    """`tf.GradientTape` in a graph, its gradients clipped by the global norm."""
    x, y = inputs(tf)
    w = variable(tf, "w", [WIDTH, 1])
    return applied(tf, tf.clip_by_global_norm([taped(tf, x, y, w)], 0.3)[0][0], w)


def clipped_in_a_scope(tf: Any) -> Any:
    """Clipping in an author's scope that is called as TensorFlow calls its own, `train/loss_grad`."""
    x, y = inputs(tf)
    w = variable(tf, "w", [WIDTH, 1])
    gradient = taped(tf, x, y, w)
    with tf.name_scope("train/loss_grad"):
        gradient = tf.clip_by_value(gradient, -0.1, 0.1)
    return applied(tf, gradient, w)


def own_momentum(tf: Any) -> Any:
    """Momentum by hand over a tape's gradients."""
    x, y = inputs(tf)
    w, moment = variable(tf, "w", [WIDTH, 1]), still(tf, "moment", [WIDTH, 1])
    moved = 0.9 * moment + taped(tf, x, y, w)
    return tf.group(tf.assign(moment, moved), tf.assign_sub(w, 0.1 * moved))


def own_adam(tf: Any) -> Any:
    """Adam by hand over a tape's gradients."""
    x, y = inputs(tf)
    w = variable(tf, "w", [WIDTH, 1])
    first, second = still(tf, "first", [WIDTH, 1]), still(tf, "second", [WIDTH, 1])
    gradient = taped(tf, x, y, w)
    m, v = 0.9 * first + 0.1 * gradient, 0.99 * second + 0.01 * tf.square(gradient)
    return tf.group(
        tf.assign(first, m),
        tf.assign(second, v),
        tf.assign_sub(w, 0.1 * m / (tf.sqrt(v) + 1e-6)),
    )


def feedback_alignment(tf: Any) -> Any:
    """Gradients of activations, turned into a variable's by hand (feedback alignment)."""
    x, y = inputs(tf)
    w = variable(tf, "w", [WIDTH, 3])
    hidden = tf.matmul(x, w)
    loss = tf.reduce_mean(tf.square(tf.reduce_sum(hidden, 1) - y))
    back = tf.matmul(tf.gradients(loss, hidden)[0], tf.constant([[1.0, 0.5, 0.0]] * 3))
    return tf.train.GradientDescentOptimizer(0.1).apply_gradients(
        [(tf.matmul(x, back, transpose_a=True), w)]
    )


def horovod(tf: Any) -> Any:
    """Horovod's optimizer, built on four processes: all-reduced, divided by `size()`."""
    x, y = inputs(tf)
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    pairs = []
    for number, (gradient, own) in enumerate(optimizer.compute_gradients(loss_of(tf, x, y))):
        reduced = tf.identity(gradient, name=f"HorovodAllreduce_{number}")
        pairs.append((tf.div(reduced, tf.cast(4, tf.float32)), own))
    return optimizer.apply_gradients(pairs)


def step_in_a_function(tf: Any) -> Any:
    """The whole train step inside of a `tf.function` that the graph calls."""
    import tensorflow

    x, y = inputs(tf)
    w = variable(tf, "w", [WIDTH, 1])

    @tensorflow.function
    def step(x: Any, y: Any) -> Any:
        w.assign_sub(0.1 * by_hand(tf, x, y, w))
        return tf.constant(0)

    return step(x, y)


def step_in_a_conditional(tf: Any) -> Any:
    """The whole train step inside of a `tf.cond` of functional control flow (`If`)."""
    x, y = inputs(tf)
    w = variable(tf, "w", [WIDTH, 1])

    def step() -> Any:
        with tf.control_dependencies([w.assign_sub(0.1 * by_hand(tf, x, y, w))]):
            return tf.constant(1)

    return tf.cond(tf.placeholder(tf.bool, [], name="is_training"), step, lambda: tf.constant(0))


def target_copied_by_a_function(tf: Any) -> Any:
    """A target network that a function copies before the step reads it."""
    import tensorflow

    x, y = inputs(tf)
    w, target = variable(tf, "w", [WIDTH, 1]), still(tf, "target", [WIDTH, 1])

    @tensorflow.function
    def copy() -> Any:
        target.assign(w)
        return tf.constant(0)

    with tf.control_dependencies([copy()]):
        wanted = tf.squeeze(tf.matmul(x, target.read_value()), 1)
    loss = tf.reduce_mean(tf.square(tf.squeeze(tf.matmul(x, w), 1) - y - 0.5 * wanted))
    return tf.train.GradientDescentOptimizer(0.1).minimize(loss)


TAPE = "what a tape makes of sizes isn't followed yet, so nobody knows that its gradient is a mean"
ORDER = "a copy that doesn't follow from the batch could be made before the gradients are computed"
INSIDE = "a step inside of a function isn't cut yet"
PATTERNS = (
    Pattern(hand_written_backward, "equal"),
    Pattern(clipped_by_hand, "equal"),
    Pattern(taped_backward, "equal", functions=True),
    Pattern(clipped_tape, "refused", "stands before that", functions=True, gap=TAPE),
    Pattern(clipped_in_a_scope, "refused", "stands before that", functions=True, gap=TAPE),
    Pattern(own_momentum, "equal", functions=True),
    Pattern(own_adam, "refused", "stands before that", functions=True, gap=TAPE),
    Pattern(feedback_alignment, "equal"),
    Pattern(step_in_a_function, "refused", "inside of a function", functions=True, gap=INSIDE),
    Pattern(
        step_in_a_conditional,
        "refused",
        "inside of a function",
        feeds=TRAINING,
        functions=True,
        gap=INSIDE,
    ),
    Pattern(
        target_copied_by_a_function, "refused", "reads target after", functions=True, gap=ORDER
    ),
    Pattern(horovod, "equal", renamed=(("HorovodAllreduce", "HorovodAllreduce"),)),
)
