"""Learning that isn't descent on a loss, and gradients of gradients' results: what does a group make
of it?

Rule: sums and means over rows that are written as they are can be exchanged; a quotient of them, or
a second look at the same batch's result, can't always.
"""

from __future__ import annotations

from typing import Any

from tests.graph.patterns import WIDTH, Pattern
from tests.graph.silent.batch_losses import NO_SUM
from tests.graph.silent.parts import (
    descent,
    errors,
    gradients_of,
    hidden_layer,
    inputs,
    loss_of,
    move,
    network,
    still,
    train,
    variable,
)


def one_task_a_batch(tf: Any) -> Any:
    """MAML with the batch as one task: an inner step on it, the outer loss behind that."""
    x, y = inputs(tf)
    w = variable(tf, "w", [WIDTH, 1])
    inner = tf.reduce_mean(tf.square(tf.squeeze(tf.matmul(x, w), 1) - y))
    fast = w - 0.2 * tf.gradients(inner, w)[0]
    outer = tf.reduce_mean(tf.square(tf.squeeze(tf.matmul(x, fast), 1) - 0.5 * y))
    return train(tf, outer)


def a_task_a_row(tf: Any) -> Any:
    """MAML with a task for each row: the inner steps side by side, the mean of the outer losses."""
    x, y = inputs(tf)
    w = variable(tf, "w", [WIDTH])
    gap = tf.linalg.matvec(x, w) - y
    fast = w - 0.1 * 2.0 * gap[:, None] * x
    outer = tf.square(tf.reduce_sum(fast * tf.reverse(x, [1]), 1) - y)
    return train(tf, tf.reduce_mean(outer))


def curvature_factors(tf: Any) -> Any:
    """K-FAC: moving averages of the inputs' and of the gradients' covariances, their inverses about
    the gradient."""
    x, y = inputs(tf)
    w = variable(tf, "w", [WIDTH, 2])
    out = tf.matmul(x, w)
    loss = tf.reduce_mean(tf.square(tf.reduce_sum(out, 1) - y))
    back = tf.gradients(loss, out)[0]
    rows = tf.cast(tf.shape(x)[0], tf.float32)
    gradient = tf.gradients(loss, w, gate_gradients=True)[0]
    left = tf.get_variable("a", initializer=tf.eye(WIDTH), trainable=False)
    right = tf.get_variable("g", initializer=tf.eye(2), trainable=False)
    step = tf.matmul(tf.matrix_inverse(left), tf.matmul(gradient, tf.matrix_inverse(right)))
    with tf.control_dependencies([descent(tf, [step], [w])]):
        return tf.group(
            move(left, tf.matmul(x, x, transpose_a=True) / rows),
            move(right, tf.matmul(back, back, transpose_a=True) * rows),
        )


def evolved(tf: Any) -> Any:
    """Evolution strategies: written perturbations, each one's mean reward, the update from them."""
    x, y = inputs(tf)
    w = variable(tf, "w", [WIDTH])
    noise = tf.constant([[1.0, -0.5, 0.25, 0.75], [-0.25, 1.0, 0.5, -1.0]])
    rewards = []
    for number in range(2):
        for sign in (1.0, -1.0):
            out = tf.linalg.matvec(x, w + 0.1 * sign * noise[number])
            rewards.append(-sign * tf.reduce_mean(tf.square(out - y)))
    gains = tf.stack([rewards[0] + rewards[1], rewards[2] + rewards[3]])
    return w.assign_add(0.05 * tf.reduce_sum(gains[:, None] * noise, 0))


def ranked_evolution(tf: Any) -> Any:
    """Evolution strategies that look at the order of the mean rewards alone."""
    x, y = inputs(tf)
    w = variable(tf, "w", [WIDTH])
    noise = tf.constant([[1.0, -0.5, 0.25, 0.75], [-0.25, 1.0, 0.5, -1.0], [0.5, 0.5, -1.0, 0.2]])
    out = tf.matmul(x, w + 0.1 * noise, transpose_b=True)
    rewards = -tf.reduce_mean(tf.square(out - y[:, None]), 0)
    ranks = tf.cast(tf.argsort(tf.argsort(rewards)), tf.float32) - 1.0
    return w.assign_add(0.05 * tf.reduce_sum(ranks[:, None] * noise, 0))


def hebbian(tf: Any) -> Any:
    """Oja's rule, its mean over rows added to the weights."""
    x, _ = inputs(tf)
    w = variable(tf, "w", [WIDTH])
    out = tf.linalg.matvec(x, w)
    return w.assign_add(0.05 * tf.reduce_mean(out[:, None] * (x - out[:, None] * w), 0))


def organised_map(tf: Any) -> Any:
    """A self-organising map: nodes near a row's winner are drawn to the weighted mean of rows."""
    x, _ = inputs(tf)
    nodes = variable(tf, "nodes", [5, WIDTH])
    winner = tf.argmin(tf.reduce_sum(tf.square(x[:, None] - nodes), 2), 1)
    near = tf.exp(-tf.square(tf.cast(winner, tf.float32)[:, None] - tf.range(5.0)))
    total = tf.reduce_sum(near, 0)[:, None]
    return nodes.assign(tf.matmul(near, x, transpose_a=True) / total)


def clustered(tf: Any) -> Any:
    """Mini-batch k-means: counts are added to, centres move by one over their count."""
    x, _ = inputs(tf)
    centres, counts = variable(tf, "centres", [3, WIDTH]), still(tf, "counts", [3], 1.0)
    near = tf.one_hot(tf.argmin(tf.reduce_sum(tf.square(x[:, None] - centres), 2), 1), 3)
    sums, often = tf.matmul(near, x, transpose_a=True), tf.reduce_sum(near, 0)
    moved = counts + often
    centre = (centres * counts[:, None] + sums) / moved[:, None]
    with tf.control_dependencies([centre, moved]):
        return tf.group(centres.assign(centre), counts.assign(moved))


def mixture(tf: Any) -> Any:
    """A Gaussian mixture by a step of EM: responsibilities, then assignments."""
    x, _ = inputs(tf)
    means = variable(tf, "means", [2, WIDTH])
    share = tf.nn.softmax(-tf.reduce_sum(tf.square(x[:, None] - means), 2))
    total = tf.reduce_sum(share, 0)
    return means.assign(tf.matmul(share, x, transpose_a=True) / total[:, None])


def streamed_covariance(tf: Any) -> Any:
    """Sums of rows, of their outer products and their number, beside the training."""
    x, y = inputs(tf)
    total, outer = still(tf, "total", [WIDTH]), still(tf, "outer", [WIDTH, WIDTH])
    count = still(tf, "count", [])
    with tf.control_dependencies([train(tf, loss_of(tf, x, y))]):
        return tf.group(
            total.assign_add(tf.reduce_sum(x, 0)),
            outer.assign_add(tf.matmul(x, x, transpose_a=True)),
            count.assign_add(tf.to_float(tf.shape(x)[0])),
        )


def moving_covariance(tf: Any) -> Any:
    """A moving average of the rows' covariance about the moving mean."""
    x, y = inputs(tf)
    mean, cov = still(tf, "mean", [WIDTH]), still(tf, "cov", [WIDTH, WIDTH])
    gap = x - mean
    now = tf.matmul(gap, gap, transpose_a=True) / tf.to_float(tf.shape(x)[0])
    with tf.control_dependencies([train(tf, loss_of(tf, x, y)), now]):
        return tf.group(move(cov, now), move(mean, tf.reduce_mean(x, 0)))


def moving_quantile(tf: Any) -> Any:
    """A quantile followed by its own subgradient, that clips the targets (`assign_add` of a mean of
    signs)."""
    x, y = inputs(tf)
    bound = still(tf, "bound", [], 1.0)
    clipped = tf.minimum(y, bound)
    with tf.control_dependencies([train(tf, loss_of(tf, x, clipped))]):
        return bound.assign_add(0.1 * (0.9 - tf.reduce_mean(tf.to_float(y <= bound))))


def recursive_least_squares(tf: Any) -> Any:
    """Recursive least squares on the batch, by a matrix inverse."""
    x, y = inputs(tf)
    w = variable(tf, "w", [WIDTH, 1])
    p = tf.get_variable("p", initializer=tf.eye(WIDTH), trainable=False)
    next_p = tf.matrix_inverse(tf.matrix_inverse(p) + tf.matmul(x, x, transpose_a=True))
    gap = y[:, None] - tf.matmul(x, w)
    next_w = w + tf.matmul(next_p, tf.matmul(x, gap, transpose_a=True))
    with tf.control_dependencies([next_p, next_w]):
        return tf.group(p.assign(next_p), w.assign(next_w))


def tabular(tf: Any) -> Any:
    """Q-learning in a table, `scatter_update` with each row's target."""
    x, y = inputs(tf)
    table = variable(tf, "q", [5])
    state = tf.cast(tf.floormod(tf.abs(x[:, 0]) * 10.0, 5.0), tf.int32)
    return tf.scatter_update(table, state, 0.9 * tf.gather(table, state) + 0.1 * y)


def synthetic_gradients(tf: Any) -> Any:
    """A layer trained by predicted gradients of its activations, the predictor by the true ones."""
    x, y = inputs(tf)
    hidden = hidden_layer(tf, x)
    w = tf.trainable_variables("hidden")[0]
    guess = network(tf, tf.stop_gradient(hidden), "predictor", WIDTH)
    loss = loss_of(tf, hidden, y, "head")
    true = tf.stop_gradient(tf.gradients(loss, hidden)[0]) * tf.to_float(tf.shape(x)[0])
    rows = tf.to_float(tf.shape(x)[0])
    own = tf.gradients(hidden, w, tf.stop_gradient(guess) / rows, gate_gradients=True)
    miss = tf.reduce_mean(tf.square(guess - true))
    more, others = gradients_of(tf, miss, "predictor")
    return descent(tf, [*own, *more], [w, *others])


def averaged_power(tf: Any) -> Any:
    """A sharpness-aware step: the weights are moved up along the batch's gradient, and the gradient
    there is applied."""
    x, y = inputs(tf)
    w = variable(tf, "w", [WIDTH, 1])

    def loss(at: Any) -> Any:
        return tf.reduce_mean(tf.square(tf.tanh(tf.squeeze(tf.matmul(x, at), 1)) - y))

    slope = tf.gradients(loss(w), w)[0]
    up = tf.stop_gradient(w + 0.3 * slope / tf.norm(slope))
    return descent(tf, [tf.gradients(loss(up), up)[0]], [w])


def squared_penalty(tf: Any) -> Any:
    """A penalty on the norm of the gradient of the batch's mean (a Hessian product)."""
    loss = tf.reduce_mean(errors(tf))
    slopes = tf.gradients(loss, tf.trainable_variables())
    norm = tf.add_n([tf.reduce_sum(tf.square(each)) for each in slopes])
    gradients, variables = gradients_of(tf, loss + 0.1 * norm)
    return descent(tf, gradients, variables)


ROUNDS = "the first gradient would have to be exchanged before the second is computed"
PATTERNS = (
    Pattern(one_task_a_batch, "told", NO_SUM, gap=ROUNDS),
    Pattern(a_task_a_row, "equal"),
    Pattern(curvature_factors, "equal"),
    Pattern(evolved, "equal"),
    Pattern(ranked_evolution, "equal"),
    Pattern(hebbian, "equal"),
    Pattern(organised_map, "equal"),
    Pattern(clustered, "equal"),
    Pattern(mixture, "equal"),
    Pattern(streamed_covariance, "equal"),
    Pattern(moving_covariance, "equal"),
    Pattern(moving_quantile, "equal"),
    Pattern(recursive_least_squares, "equal"),
    Pattern(tabular, "refused", "has a value for each row"),
    Pattern(synthetic_gradients, "equal"),
    Pattern(averaged_power, "told", NO_SUM, gap=ROUNDS),
    Pattern(squared_penalty, "told", NO_SUM, gap=ROUNDS),
)
