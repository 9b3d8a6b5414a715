"""What does a group make of training steps inside of calls and loops, and of values that are built
behind the training step?
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.graph.patterns import WIDTH, Pattern, make
from tests.graph.test_patterns_tf import hold_to_the_table

pytestmark = pytest.mark.tf

INSIDE = "inside of a function"


def inputs(tf: Any) -> tuple[Any, Any, Any]:
    x = tf.placeholder(tf.float32, [None, WIDTH], name="x")
    y = tf.placeholder(tf.float32, [None], name="y")
    start = tf.random_normal_initializer(stddev=0.3, seed=3)
    return x, y, tf.get_variable("w", [WIDTH, 1], initializer=start)


def gradient(tf: Any, x: Any, y: Any, w: Any) -> Any:
    error = tf.matmul(x, w) - tf.expand_dims(y, 1)
    return 2.0 * tf.matmul(x, error, transpose_a=True) / tf.cast(tf.size(y), tf.float32)


def descended(tf: Any, x: Any, y: Any, w: Any) -> Any:
    loss = tf.reduce_mean(tf.square(tf.squeeze(tf.matmul(x, w), 1) - y))
    return tf.train.GradientDescentOptimizer(0.1).minimize(loss)


def still(tf: Any, name: str, shape: list[int], dtype: str = "float32") -> Any:
    return tf.get_variable(name, shape, dtype, tf.zeros_initializer(), trainable=False)


def in_a_loop(tf: Any) -> Any:
    """Steps inside of a `while_loop`."""
    x, y, w = inputs(tf)

    def body(number: Any) -> Any:
        with tf.control_dependencies([w.assign_sub(0.1 * gradient(tf, x, y, w.read_value()))]):
            return tf.identity(number) + 1

    return tf.while_loop(lambda number: number < 2, body, [0], parallel_iterations=1)


def in_an_old_loop(tf: Any) -> Any:
    """The same in a loop of frames."""
    x, y, w = inputs(tf)

    def body(number: Any) -> Any:
        with tf.control_dependencies([tf.assign_sub(w, 0.1 * gradient(tf, x, y, w))]):
            return tf.identity(number) + 1

    return tf.while_loop(lambda number: number < 2, body, [tf.constant(0)], parallel_iterations=1)


def in_two_functions(tf: Any) -> Any:
    """A step inside of a function that another one calls."""
    import tensorflow

    x, y, w = inputs(tf)

    @tensorflow.function
    def inner(x: Any, y: Any) -> Any:
        w.assign_sub(0.1 * gradient(tf, x, y, w))
        return tf.constant(0)

    @tensorflow.function
    def outer(x: Any, y: Any) -> Any:
        return inner(x, y) + 1

    return outer(x, y)


def by_an_optimizer_in_a_function(tf: Any) -> Any:
    """An optimizer's update inside of a function, of gradients that it takes itself."""
    import tensorflow

    x, y, w = inputs(tf)

    @tensorflow.function
    def step(x: Any, y: Any) -> Any:
        loss = tf.reduce_mean(tf.square(tf.squeeze(tf.matmul(x, w), 1) - y))
        (taken,) = tf.gradients(loss, [w])
        tensorflow.raw_ops.ResourceApplyGradientDescent(var=w.handle, alpha=0.1, delta=taken)
        return loss

    return step(x, y)


def in_a_case(tf: Any) -> Any:
    """Steps inside of the branches of a `switch_case`."""
    x, y, w = inputs(tf)

    def step(rate: float) -> Any:
        def taken() -> Any:
            with tf.control_dependencies([w.assign_sub(rate * gradient(tf, x, y, w))]):
                return tf.constant(1)

        return taken

    which = tf.placeholder(tf.int32, [], name="which")
    return tf.switch_case(which, {0: step(0.1), 1: step(0.2)})


def applied_by_a_function(tf: Any) -> Any:
    """A function that is given gradients and applies them: the group's stand before it."""
    import tensorflow

    x, y, w = inputs(tf)
    loss = tf.reduce_mean(tf.square(tf.squeeze(tf.matmul(x, w), 1) - y))
    (taken,) = tf.gradients(loss, [w])

    @tensorflow.function
    def step(taken: Any) -> Any:
        w.assign_sub(0.1 * taken)
        return tf.constant(0)

    return step(taken)


def counted_behind_the_step(tf: Any) -> Any:
    """Examples that are counted behind the train op."""
    x, y, w = inputs(tf)
    seen = still(tf, "seen", [], "int32")
    with tf.control_dependencies([descended(tf, x, y, w)]):
        return tf.group(tf.assign_add(seen, tf.shape(x)[0]))


def averaged_behind_the_step(tf: Any) -> Any:
    """A batch's mean and the new weights, put together behind the train op."""
    x, y, w = inputs(tf)
    kept = still(tf, "kept", [WIDTH, 1])
    with tf.control_dependencies([descended(tf, x, y, w)]):
        mean = tf.expand_dims(tf.reduce_mean(x, 0), 1)
        return tf.group(tf.assign(kept, w.read_value() + mean))


def ordered_behind_the_step(tf: Any) -> Any:
    """Two writers of one variable, ordered by nothing but the batch's mean in the second."""
    x, y, w = inputs(tf)
    kept = still(tf, "kept", [WIDTH])
    with tf.control_dependencies([descended(tf, x, y, w), tf.assign(kept, tf.ones([WIDTH]))]):
        mean = tf.reduce_mean(x, 0)
    return tf.group(tf.assign_add(kept, mean))


CALLS = (
    Pattern(in_a_loop, "refused", INSIDE, functions=True),
    Pattern(in_an_old_loop, "refused", "loop"),
    Pattern(in_two_functions, "refused", INSIDE, functions=True),
    Pattern(by_an_optimizer_in_a_function, "refused", INSIDE, functions=True),
    Pattern(in_a_case, "refused", INSIDE, feeds=(("which:0", 0),), functions=True),
    Pattern(applied_by_a_function, "equal", functions=True),
    *(
        Pattern(built, "equal", functions=functions)
        for built in (counted_behind_the_step, averaged_behind_the_step, ordered_behind_the_step)
        for functions in (False, True)
    ),
)


@pytest.mark.parametrize(
    "pattern", CALLS, ids=lambda each: f"{each.build.__name__}-{each.functions}"
)
def test_group_trains_what_one_process_does_or_says_why_not(
    pattern: Pattern, tmp_path: Path
) -> None:
    hold_to_the_table(make(pattern, tmp_path))
