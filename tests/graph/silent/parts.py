"""What do the graphs of the table share? Inputs, variables, a loss, a step.

Rule: nothing here is a pattern of its own.
"""

from __future__ import annotations

from typing import Any

from tests.graph.patterns import WIDTH

TRAINING = (("is_training:0", True),)


def inputs(tf: Any) -> tuple[Any, Any]:
    return tf.placeholder(tf.float32, [None, WIDTH], name="x"), tf.placeholder(
        tf.float32, [None], name="y"
    )


def variable(tf: Any, name: str, shape: list[int], **options: Any) -> Any:
    initializer = tf.random_normal_initializer(stddev=0.3, seed=3)
    return tf.get_variable(name, shape, initializer=initializer, **options)


def still(tf: Any, name: str, shape: list[int], value: float = 0.0, **options: Any) -> Any:
    """A variable that isn't trained."""
    initializer = tf.constant_initializer(value)
    return tf.get_variable(name, shape, initializer=initializer, trainable=False, **options)


def loss_of(tf: Any, x: Any, y: Any, name: str = "w") -> Any:
    w = variable(tf, name, [int(x.shape[-1]), 1])
    return tf.reduce_mean(tf.square(tf.squeeze(tf.matmul(x, w), 1) - y))


def train(tf: Any, loss: Any) -> Any:
    return tf.train.GradientDescentOptimizer(0.1).minimize(loss)


def move(moving: Any, value: Any, decay: float = 0.9) -> Any:
    from tensorflow.python.training import moving_averages

    return moving_averages.assign_moving_average(moving, value, decay, zero_debias=False)


def beside(tf: Any, x: Any, y: Any, *writes: Any) -> Any:
    """A step that trains and does these writes too."""
    return tf.group(train(tf, loss_of(tf, x, y)), *writes)


def layer(tf: Any, x: Any, width: int, name: str, activation: Any = None) -> Any:
    """A dense layer of its own, or the one of that name again."""
    with tf.variable_scope(name, reuse=tf.AUTO_REUSE):
        kernel = variable(tf, "kernel", [int(x.shape[-1]), width])
        bias = tf.get_variable("bias", [width], initializer=tf.zeros_initializer())
        out = tf.nn.bias_add(tf.matmul(x, kernel), bias)
    return out if activation is None else activation(out)


def network(tf: Any, x: Any, scope: str = "net", width: int = 1) -> Any:
    """Two layers, ``[rows, width]``."""
    with tf.variable_scope(scope, reuse=tf.AUTO_REUSE):
        return layer(tf, layer(tf, x, 6, "hidden", tf.nn.tanh), width, "out")


def errors(tf: Any, scope: str = "net") -> Any:
    """A squared error for each row of the usual inputs."""
    x, y = inputs(tf)
    return tf.square(tf.squeeze(network(tf, x, scope), 1) - y)


def gradients_of(tf: Any, loss: Any, scope: str | None = None) -> tuple[list[Any], list[Any]]:
    """Gradients and their variables; gated as optimizers have it, since else reads of variables race
    with writes in the graph itself, and no two processes need agree.
    """
    variables = tf.trainable_variables(scope)
    return tf.gradients(loss, variables, gate_gradients=True), variables


def id_inputs(tf: Any) -> tuple[Any, Any]:
    """``ids:0`` and ``label:0``, see ``patterns.ids``."""
    return (
        tf.placeholder(tf.int32, [None, WIDTH], name="ids"),
        tf.placeholder(tf.int32, [None], name="label"),
    )


def cross_entropy(tf: Any, logits: Any, label: Any) -> Any:
    """One loss for each row."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=label, logits=logits)


def descent(tf: Any, gradients: list[Any], variables: list[Any], rate: float = 0.1) -> Any:
    """Plain descent along these gradients."""
    pairs = zip(gradients, variables, strict=True)
    return tf.train.GradientDescentOptimizer(rate).apply_gradients(pairs)


def hidden_layer(tf: Any, x: Any) -> Any:
    """A linear layer as wide as the input, ``[rows, 4]``."""
    return tf.matmul(x, variable(tf, "hidden", [WIDTH, WIDTH]))
