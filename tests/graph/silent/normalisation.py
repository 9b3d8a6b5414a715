"""Layers that normalise, drop or mix: what does a group make of them?

Rule: what a layer takes of each row by itself changes nothing; what it takes of the batch (moments)
is each slot's own, as everywhere in data-parallel training, so that slots with the same rows agree.
"""

from __future__ import annotations

from typing import Any

from tests.graph.patterns import WIDTH, Pattern, images
from tests.graph.silent.batch_losses import NO_SUM
from tests.graph.silent.parts import (
    TRAINING,
    cross_entropy,
    hidden_layer,
    inputs,
    loss_of,
    move,
    still,
    train,
    variable,
)


def _images(tf: Any) -> tuple[Any, Any]:
    image = tf.placeholder(tf.float32, [None, 6, 6, 2], name="image")
    return image, tf.placeholder(tf.int32, [None], name="label")


def _convolved(tf: Any, image: Any, name: str = "conv") -> Any:
    return tf.nn.conv2d(
        image, variable(tf, name, [3, 3, int(image.shape[-1]), 4]), [1, 1, 1, 1], "SAME"
    )


def _classified(tf: Any, features: Any, label: Any) -> Any:
    pooled = tf.reduce_mean(features, [1, 2])
    logits = tf.matmul(pooled, variable(tf, "logits", [int(pooled.shape[-1]), 3]))
    return tf.reduce_mean(cross_entropy(tf, logits, label))


def slim_batch_norm(tf: Any) -> Any:
    """slim's layer: fused batch norm, its updates in UPDATE_OPS, run by `create_train_op` before
    the gradients are computed."""
    image, label = _images(tf)
    out = _convolved(tf, image)
    beta, gamma = variable(tf, "BatchNorm/beta", [4]), variable(tf, "BatchNorm/gamma", [4])
    mean, spread = still(tf, "moving_mean", [4]), still(tf, "moving_variance", [4], 1.0)
    out, now, variance = tf.nn.fused_batch_norm(out, gamma, beta, epsilon=1e-3)
    for each in (move(mean, now), move(spread, variance)):
        tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, each)
    loss = _classified(tf, tf.nn.relu(out), label)
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        barrier = tf.no_op(name="update_barrier")
    with tf.control_dependencies([barrier]):
        loss = tf.identity(loss)
    train_op = tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss)
    with tf.control_dependencies([train_op]):
        return tf.check_numerics(loss, "LossTensor is inf or nan")


def debiased_average(tf: Any) -> Any:
    """Batch norm by hand, its moving averages with TensorFlow's zero debias."""
    from tensorflow.python.training import moving_averages

    x, y = inputs(tf)
    hidden = hidden_layer(tf, x)
    mean, variance = tf.nn.moments(hidden, [0])
    moving = still(tf, "moving", [WIDTH])
    kept = moving_averages.assign_moving_average(moving, mean, 0.9)
    out = tf.nn.batch_normalization(hidden, mean, variance, None, None, 1e-3)
    with tf.control_dependencies([train(tf, loss_of(tf, out, y))]):
        return tf.group(kept)


def renormalised(tf: Any) -> Any:
    """Batch renormalisation: r and d from the moving statistics, clipped."""
    x, y = inputs(tf)
    hidden = hidden_layer(tf, x)
    mean, variance = tf.nn.moments(hidden, [0])
    kept, spread = still(tf, "moving_mean", [WIDTH]), still(tf, "moving_stddev", [WIDTH], 1.0)
    stddev = tf.sqrt(variance + 1e-3)
    r = tf.stop_gradient(tf.clip_by_value(stddev / spread, 0.5, 2.0))
    d = tf.stop_gradient(tf.clip_by_value((mean - kept) / spread, -1.0, 1.0))
    out = (hidden - mean) / stddev * r + d
    with tf.control_dependencies([train(tf, loss_of(tf, out, y))]):
        return tf.group(move(kept, mean), move(spread, stddev))


def fed_learning_phase(tf: Any) -> Any:
    """Keras' learning phase, a boolean with a default of False, chooses the statistics in `cond`."""
    x, y = inputs(tf)
    hidden = hidden_layer(tf, x)
    phase = tf.placeholder_with_default(False, [], name="is_training")
    mean, variance = still(tf, "moving_mean", [WIDTH]), still(tf, "moving_variance", [WIDTH], 1.0)
    now, spread = tf.nn.moments(hidden, [0])
    taken = (
        tf.cond(phase, lambda: now, lambda: mean),
        tf.cond(phase, lambda: spread, lambda: variance),
    )
    out = tf.nn.batch_normalization(hidden, *taken, None, None, 1e-3)
    out = tf.cond(phase, lambda: tf.nn.dropout(out, rate=0.25), lambda: out)
    return tf.group(train(tf, loss_of(tf, out, y)), move(mean, taken[0]), move(variance, taken[1]))


def reference_batch(tf: Any) -> Any:
    """Virtual batch norm: statistics of a batch that is written into the graph."""
    x, y = inputs(tf)
    reference = tf.constant([[0.5, -1.0, 0.25, 2.0], [1.0, 0.0, -0.5, 1.0], [-1.0, 0.5, 1.5, 0.0]])
    w = variable(tf, "hidden", [WIDTH, WIDTH])
    mean, spread = tf.nn.moments(tf.matmul(reference, w), [0])
    out = tf.nn.batch_normalization(tf.matmul(x, w), mean, spread, None, None, 1e-3)
    return train(tf, loss_of(tf, out, y))


def group_norm(tf: Any) -> Any:
    """Group norm between convolutions, by reshape and moments."""
    image, label = _images(tf)
    out = tf.reshape(_convolved(tf, image), [-1, 6, 6, 2, 2])
    mean, spread = tf.nn.moments(out, [1, 2, 4], keepdims=True)
    out = tf.reshape((out - mean) * tf.rsqrt(spread + 1e-3), [-1, 6, 6, 4])
    out = out * variable(tf, "gamma", [4]) + variable(tf, "beta", [4])
    return train(tf, _classified(tf, tf.nn.relu(out), label))


def standardised_weights(tf: Any) -> Any:
    """Weight standardisation, and instance norm behind it."""
    image, label = _images(tf)
    kernel = variable(tf, "kernel", [3, 3, 2, 4])
    mean, spread = tf.nn.moments(kernel, [0, 1, 2], keepdims=True)
    out = tf.nn.conv2d(image, (kernel - mean) / tf.sqrt(spread + 1e-3), [1, 1, 1, 1], "SAME")
    mean, spread = tf.nn.moments(out, [1, 2], keepdims=True)
    out = tf.nn.relu((out - mean) / tf.sqrt(spread + 1e-3))
    return train(tf, _classified(tf, out, label))


def weight_norm(tf: Any) -> Any:
    """Weight norm: g v / |v| in each layer."""
    x, y = inputs(tf)
    out = x
    for number, width in enumerate((5, 1)):
        v = variable(tf, f"v{number}", [int(out.shape[1]), width])
        g = tf.get_variable(f"g{number}", [width], initializer=tf.ones_initializer())
        out = tf.nn.softplus(tf.matmul(out, g * tf.nn.l2_normalize(v, 0)))
    return train(tf, tf.reduce_mean(tf.square(tf.squeeze(out, 1) - y)))


def spectral_norm(tf: Any) -> Any:
    """Spectral norm: the vector of the power iteration is assigned before the weights are used."""
    x, y = inputs(tf)
    w = variable(tf, "w", [WIDTH, 3])
    u = still(tf, "u", [1, 3], 0.5)
    v_hat = tf.stop_gradient(tf.nn.l2_normalize(tf.matmul(u, w, transpose_b=True)))
    u_hat = tf.stop_gradient(tf.nn.l2_normalize(tf.matmul(v_hat, w)))
    sigma = tf.squeeze(tf.matmul(tf.matmul(v_hat, w), u_hat, transpose_b=True))
    with tf.control_dependencies([u.assign(u_hat)]):
        normalised = w / sigma
    out = tf.reduce_sum(tf.nn.tanh(tf.matmul(x, normalised)), 1)
    return train(tf, tf.reduce_mean(tf.square(out - y)))


def whitened(tf: Any) -> Any:
    """Decorrelated batch norm: whitening by the Cholesky factor of the batch's covariance, which a
    moving average takes up."""
    x, y = inputs(tf)
    hidden = hidden_layer(tf, x)
    gap = hidden - tf.reduce_mean(hidden, 0)
    cov = tf.matmul(gap, gap, transpose_a=True) / tf.cast(tf.shape(x)[0], tf.float32)
    kept = tf.get_variable("covariance", initializer=tf.eye(WIDTH), trainable=False)
    root = tf.linalg.cholesky(cov + 0.1 * tf.eye(WIDTH))
    out = tf.transpose(tf.linalg.triangular_solve(root, tf.transpose(gap)))
    with tf.control_dependencies([train(tf, loss_of(tf, out, y))]):
        return tf.group(move(kept, cov))


def spread_of_the_batch(tf: Any) -> Any:
    """Progressive GAN's layer: the batch's standard deviation as one more feature."""
    x, y = inputs(tf)
    hidden = hidden_layer(tf, x)
    spread = tf.reduce_mean(tf.sqrt(tf.nn.moments(hidden, [0])[1] + 1e-3))
    more = tf.concat([hidden, tf.fill([tf.shape(x)[0], 1], spread)], 1)
    return train(tf, loss_of(tf, more, y))


def random_everywhere(tf: Any) -> Any:
    """Noise on the inputs, dropout in each layer, and layers left out by chance."""
    x, y = inputs(tf)
    out = x + 0.1 * tf.random_normal(tf.shape(x))
    for number in range(2):
        w = variable(tf, f"w{number}", [WIDTH, WIDTH])
        keep = tf.floor(0.8 + tf.random_uniform([tf.shape(x)[0], 1]))
        branch = tf.nn.dropout(tf.nn.relu(tf.matmul(out, w)), rate=0.3)
        out = out + keep / 0.8 * branch
    return train(tf, loss_of(tf, out, y))


def excited(tf: Any) -> Any:
    """Squeeze and excitation, depthwise convolution, and weight decay on the kernels."""
    image, label = _images(tf)
    out = tf.nn.depthwise_conv2d(image, variable(tf, "depth", [3, 3, 2, 2]), [1, 1, 1, 1], "SAME")
    squeezed = tf.reduce_mean(out, [1, 2])
    gate = tf.sigmoid(tf.matmul(squeezed, variable(tf, "excite", [4, 4])))
    out = tf.nn.max_pool2d(out * gate[:, None, None], 2, 2, "VALID")
    loss = _classified(tf, out, label)
    decay = tf.add_n([tf.nn.l2_loss(own) for own in tf.trainable_variables()])
    return tf.train.RMSPropOptimizer(0.01, momentum=0.9).minimize(loss + 1e-3 * decay)


PATTERNS = (
    Pattern(slim_batch_norm, "equal", apart=("moving_variance",), serve=images, alike=True),
    Pattern(debiased_average, "equal", alike=True),
    Pattern(renormalised, "equal", alike=True),
    Pattern(fed_learning_phase, "equal", feeds=TRAINING, alike=True),
    Pattern(reference_batch, "equal"),
    Pattern(group_norm, "equal", serve=images),
    Pattern(standardised_weights, "equal", serve=images),
    Pattern(weight_norm, "equal"),
    Pattern(spectral_norm, "equal"),
    Pattern(whitened, "equal", alike=True),
    Pattern(spread_of_the_batch, "told", NO_SUM),
    Pattern(random_everywhere, "equal"),
    Pattern(excited, "equal", serve=images),
)
