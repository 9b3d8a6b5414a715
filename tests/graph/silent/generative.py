"""Generators, critics and autoencoders: what does a group make of them?

Rule: several operations that train are run in turn; what takes the mean of a batch within its loss
isn't made of rows.
"""

from __future__ import annotations

from typing import Any

from tests.graph.patterns import WIDTH, Pattern
from tests.graph.silent.batch_losses import NO_SUM
from tests.graph.silent.parts import inputs, network, still, train, variable


def _players(tf: Any) -> tuple[Any, Any, Any]:
    """Scores of real and of made rows, and what was made."""
    x, y = inputs(tf)
    made = network(tf, x, "generator", WIDTH)
    return network(tf, x + y[:, None], "critic"), network(tf, made, "critic"), made


def _cross(tf: Any, logits: Any, truth: float) -> Any:
    labels = tf.fill(tf.shape(logits), truth)
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits))


def _of(tf: Any, loss: Any, scope: str, optimizer: Any = None) -> Any:
    optimizer = optimizer or tf.train.AdamOptimizer(0.02, beta1=0.5)
    return optimizer.minimize(loss, var_list=tf.trainable_variables(scope))


def two_steps(tf: Any) -> Any:
    """A GAN: critic and generator are trained in turn."""
    real, fake, _ = _players(tf)
    critic = _of(tf, _cross(tf, real, 0.9) + _cross(tf, fake, 0.0), "critic")
    return critic, _of(tf, _cross(tf, fake, 1.0), "generator")


def one_step(tf: Any) -> Any:
    """A GAN in one step: the generator's update waits for the critic's, and averages of the
    generator's weights for both."""
    real, fake, _ = _players(tf)
    margin = tf.reduce_mean(tf.nn.relu(1.0 - real)) + tf.reduce_mean(tf.nn.relu(1.0 + fake))
    descent = tf.train.GradientDescentOptimizer(0.05)
    pairs = descent.compute_gradients(-tf.reduce_mean(fake), tf.trainable_variables("generator"))
    average = tf.train.ExponentialMovingAverage(0.9)
    with tf.control_dependencies([each for each, _ in pairs]):
        critic = _of(tf, margin, "critic", descent)
    with tf.control_dependencies([critic]):
        generator = descent.apply_gradients(pairs)
    with tf.control_dependencies([generator]):
        return average.apply(tf.trainable_variables("generator"))


def gradient_penalty(tf: Any) -> Any:
    """WGAN-GP: random points between real and made rows, the norm of the critic's gradient there."""
    real, fake, made = _players(tf)
    x = tf.get_default_graph().get_tensor_by_name("x:0")
    share = tf.random_uniform([tf.shape(x)[0], 1])
    between = share * x + (1.0 - share) * made
    slope = tf.gradients(network(tf, between, "critic"), between)[0]
    norm = tf.sqrt(tf.reduce_sum(tf.square(slope), 1) + 1e-6)
    gap = tf.reduce_mean(fake) - tf.reduce_mean(real)
    critic = _of(tf, gap + 10.0 * tf.reduce_mean(tf.square(norm - 1.0)), "critic")
    return critic, _of(tf, -tf.reduce_mean(fake), "generator")


def clipped_critic(tf: Any) -> Any:
    """WGAN: the critic's weights are clipped after its update, in the same operation."""
    real, fake, _ = _players(tf)
    gap = tf.reduce_mean(real) - tf.reduce_mean(fake)
    with tf.control_dependencies([_of(tf, -gap, "critic", tf.train.RMSPropOptimizer(0.02))]):
        own = tf.trainable_variables("critic")
        clip = tf.group(*[each.assign(tf.clip_by_value(each, -0.3, 0.3)) for each in own])
    return clip, _of(tf, gap, "generator", tf.train.RMSPropOptimizer(0.02))


def real_slope(tf: Any) -> Any:
    """R1: the squared gradient of the critic on real rows (a gradient of a gradient)."""
    x, _ = inputs(tf)
    score = network(tf, x, "critic")
    slope = tf.gradients(tf.reduce_sum(score), x)[0]
    penalty = tf.reduce_mean(tf.reduce_sum(tf.square(slope), 1))
    return _of(tf, tf.reduce_mean(tf.nn.softplus(-score)) + penalty, "critic")


def relativistic(tf: Any) -> Any:
    """A relativistic average GAN: each score is compared with the batch's mean of the others."""
    real, fake, _ = _players(tf)
    gap = real - tf.reduce_mean(fake)
    other = fake - tf.reduce_mean(real)
    return _of(tf, _cross(tf, gap, 1.0) + _cross(tf, other, 0.0), "critic")


def matched_features(tf: Any) -> Any:
    """Feature matching: the distance between mean features of real and of made rows."""
    x, _ = inputs(tf)
    made = network(tf, x, "generator", WIDTH)
    means = [tf.reduce_mean(network(tf, each, "critic", 3), 0) for each in (x, made)]
    return _of(tf, tf.reduce_sum(tf.square(means[0] - means[1])), "generator")


def variational(tf: Any) -> Any:
    """A VAE: reparametrised, its two sums over columns, their mean over rows; the divergence's
    weight grows with the step."""
    x, _ = inputs(tf)
    step = tf.train.get_or_create_global_step()
    code = network(tf, x, "encoder", 4)
    mean, spread = code[:, :2], 0.1 * code[:, 2:]
    drawn = mean + tf.exp(spread) * tf.random_normal(tf.shape(mean))
    out = network(tf, drawn, "decoder", WIDTH)
    weight = tf.minimum(1.0, 0.1 + 0.2 * tf.cast(step, tf.float32))
    divergence = -0.5 * tf.reduce_sum(
        1.0 + 2.0 * spread - tf.square(mean) - tf.exp(2.0 * spread), 1
    )
    loss = tf.reduce_mean(tf.reduce_sum(tf.square(out - x), 1) + weight * divergence)
    return tf.train.AdamOptimizer(0.02).minimize(loss, global_step=step)


def code_book(tf: Any) -> Any:
    """VQ-VAE with its EMA: counts and sums smoothed, the book assigned from them, straight through."""
    x, _ = inputs(tf)
    code = network(tf, x, "encoder", 2)
    book = variable(tf, "book", [3, 2], trainable=False)
    counts, sums = still(tf, "counts", [3], 1.0), variable(tf, "sums", [3, 2], trainable=False)
    gaps = tf.reduce_sum(tf.square(code[:, None] - book), 2)
    chosen = tf.one_hot(tf.argmin(gaps, 1), 3)
    quantised = tf.matmul(chosen, book)
    through = code + tf.stop_gradient(quantised - code)
    out = network(tf, through, "decoder", WIDTH)
    loss = tf.reduce_mean(tf.square(out - x))
    loss += 0.25 * tf.reduce_mean(tf.square(tf.stop_gradient(quantised) - code))
    with tf.control_dependencies([train(tf, loss)]):
        n = counts.assign(0.9 * counts + 0.1 * tf.reduce_sum(chosen, 0))
        total = sums.assign(0.9 * sums + 0.1 * tf.matmul(chosen, code, transpose_a=True))
    size = tf.reduce_sum(n)
    smooth = (n + 1e-2) / (size + 3e-2) * size
    return tf.group(book.assign(total / smooth[:, None]))


def coupled_flow(tf: Any) -> Any:
    """RealNVP: affine coupling, log determinants, the mean likelihood."""
    x, _ = inputs(tf)
    left, right = x[:, :2], x[:, 2:]
    change = network(tf, left, "coupling", 4)
    scale = tf.tanh(change[:, :2])
    right = right * tf.exp(scale) + change[:, 2:]
    z = tf.concat([left, right], 1)
    likelihood = -0.5 * tf.reduce_sum(tf.square(z), 1) + tf.reduce_sum(scale, 1)
    return tf.train.AdamOptimizer(0.02).minimize(-tf.reduce_mean(likelihood))


def adversarial_directions(tf: Any) -> Any:
    """Virtual adversarial training: a direction by one power iteration, normalised for each row."""
    x, y = inputs(tf)
    out = network(tf, x)
    start = 0.1 * tf.nn.l2_normalize(tf.random_normal(tf.shape(x)) + x, 1)
    moved = tf.reduce_sum(tf.square(network(tf, x + start) - tf.stop_gradient(out)))
    worst = tf.stop_gradient(tf.nn.l2_normalize(tf.gradients(moved, start)[0], 1))
    smooth = tf.reduce_mean(tf.square(network(tf, x + 0.5 * worst) - tf.stop_gradient(out)))
    return train(tf, tf.reduce_mean(tf.square(tf.squeeze(out, 1) - y)) + smooth)


def boltzmann(tf: Any) -> Any:
    """A restricted Boltzmann machine by contrastive divergence, its updates `assign_add`."""
    x, _ = inputs(tf)
    w, visible, hidden = variable(tf, "w", [4, 3]), still(tf, "v", [4]), still(tf, "h", [3])
    seen = tf.sigmoid(x)
    first = tf.sigmoid(tf.matmul(seen, w) + hidden)
    drawn = tf.nn.relu(tf.sign(first - tf.random_uniform(tf.shape(first))))
    again = tf.sigmoid(tf.matmul(drawn, w, transpose_b=True) + visible)
    second = tf.sigmoid(tf.matmul(again, w) + hidden)
    rows = tf.cast(tf.shape(x)[0], tf.float32)
    gap = tf.matmul(seen, first, transpose_a=True) - tf.matmul(again, second, transpose_a=True)
    moves = [
        (w, 0.1 * gap / rows),
        (visible, 0.1 * tf.reduce_mean(seen - again, 0)),
        (hidden, 0.1 * tf.reduce_mean(first - second, 0)),
    ]
    with tf.control_dependencies([move for _, move in moves]):
        return tf.group(*[own.assign_add(move) for own, move in moves])


PATTERNS = (
    Pattern(two_steps, "equal"),
    Pattern(one_step, "equal"),
    Pattern(gradient_penalty, "equal"),
    Pattern(clipped_critic, "equal"),
    Pattern(real_slope, "equal"),
    Pattern(relativistic, "told", NO_SUM),
    Pattern(matched_features, "told", NO_SUM),
    Pattern(variational, "equal"),
    Pattern(code_book, "equal"),
    Pattern(coupled_flow, "equal"),
    Pattern(adversarial_directions, "equal"),
    Pattern(boltzmann, "equal"),
)
