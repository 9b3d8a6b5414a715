"""Losses that are made of what each row gives: what does a group make of them?

Rule: a mean or a sum over rows, whatever stands before it, and what is added to it.
"""

from __future__ import annotations

from typing import Any

from tests.graph.patterns import WIDTH, Batch, Pattern, dense, ids, labelled
from tests.graph.silent.parts import (
    cross_entropy,
    descent,
    errors,
    gradients_of,
    id_inputs,
    inputs,
    layer,
    network,
    still,
    train,
    variable,
)


def _classes(tf: Any) -> tuple[Any, Any]:
    x = tf.placeholder(tf.float32, [None, WIDTH], name="x")
    return network(tf, x, width=3), tf.placeholder(tf.int32, [None], name="label")


def focal(tf: Any) -> Any:
    """Focal loss, its mean over rows."""
    logits, label = _classes(tf)
    loss = cross_entropy(tf, logits, label)
    return train(tf, tf.reduce_mean(tf.pow(1.0 - tf.exp(-loss), 2.0) * 0.25 * loss))


def smoothed_labels(tf: Any) -> Any:
    """Softmax with smoothed labels by `tf.losses`, got out of the collection with the penalties."""
    logits, label = _classes(tf)
    tf.losses.softmax_cross_entropy(tf.one_hot(label, 3), logits, label_smoothing=0.1)
    for own in tf.trainable_variables():
        tf.add_to_collection(tf.GraphKeys.REGULARIZATION_LOSSES, 0.01 * tf.nn.l2_loss(own))
    return train(tf, tf.losses.get_total_loss())


def added_up(tf: Any) -> Any:
    """A loss that is the sum over rows."""
    return tf.train.GradientDescentOptimizer(0.01).minimize(tf.reduce_sum(errors(tf)))


def unreduced(tf: Any) -> Any:
    """A loss for each row, handed to `minimize` as it is."""
    return tf.train.AdamOptimizer(0.05).minimize(errors(tf))


def by_written_size(tf: Any) -> Any:
    """A sum over rows divided by the batch size that is written in the code."""
    return tf.train.AdagradOptimizer(0.1).minimize(tf.reduce_sum(errors(tf)) / 64.0)


def sum_and_penalty(tf: Any) -> Any:
    """A sum over rows, and a weight decay that doesn't grow with them."""
    loss = tf.reduce_sum(errors(tf))
    penalty = tf.add_n([tf.nn.l2_loss(own) for own in tf.trainable_variables()])
    return tf.train.GradientDescentOptimizer(0.01).minimize(loss + 1.0 * penalty)


def uncertainty_weighted(tf: Any) -> Any:
    """Two tasks weighted by learned variances (Kendall)."""
    x, y = inputs(tf)
    out = network(tf, x, width=2)
    tasks = [tf.reduce_mean(tf.square(out[:, 0] - y)), tf.reduce_mean(tf.abs(out[:, 1] - y))]
    total = 0.0
    for number, task in enumerate(tasks):
        spread = tf.get_variable(f"log_var_{number}", [], initializer=tf.zeros_initializer())
        total += tf.exp(-spread) * task + spread
    return train(tf, total)


def pairs_of_rows(tf: Any) -> Any:
    """A contrastive loss on two fed sides with a margin."""
    x, y = inputs(tf)
    left, right = network(tf, x, width=3), network(tf, tf.reverse(x, [1]), width=3)
    distance = tf.sqrt(tf.reduce_sum(tf.square(left - right), 1) + 1e-3)
    same = tf.cast(y > 0.0, tf.float32)
    apart = tf.square(tf.maximum(0.7 - distance, 0.0))
    return train(tf, tf.reduce_mean(same * tf.square(distance) + (1.0 - same) * apart))


def given_triplets(tf: Any) -> Any:
    """A triplet loss on anchors, positives and negatives that are fed."""
    x, y = inputs(tf)
    anchor = network(tf, x, width=3)
    positive = network(tf, x + 0.1 * tf.expand_dims(y, 1), width=3)
    negative = network(tf, tf.reverse(x, [1]), width=3)
    near = tf.reduce_sum(tf.square(anchor - positive), 1)
    far = tf.reduce_sum(tf.square(anchor - negative), 1)
    return train(tf, tf.reduce_mean(tf.maximum(near - far + 0.5, 0.0)))


def class_centres(tf: Any) -> Any:
    """Center loss: the centres are moved by `scatter_sub` beside the training."""
    x = tf.placeholder(tf.float32, [None, WIDTH], name="x")
    label = tf.placeholder(tf.int32, [None], name="label")
    features = layer(tf, x, 6, "features", tf.nn.tanh)
    logits = layer(tf, features, 3, "logits")
    centres = variable(tf, "centres", [3, 6], trainable=False)
    gap = tf.gather(centres, label) - features
    moved = tf.scatter_sub(centres, label, 0.05 * gap)
    loss = tf.reduce_mean(cross_entropy(tf, logits, label)) + 0.1 * tf.reduce_mean(
        tf.reduce_sum(tf.square(gap), 1)
    )
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    with tf.control_dependencies([moved]):
        return optimizer.minimize(loss)


def dice_of_rows(tf: Any) -> Any:
    """Dice of each row, its mean over rows."""
    x, y = inputs(tf)
    out = tf.sigmoid(network(tf, x, width=WIDTH))
    truth = tf.cast(x + tf.expand_dims(y, 1) > 0.0, tf.float32)
    shared = tf.reduce_sum(out * truth, 1)
    return train(tf, 1.0 - tf.reduce_mean((2 * shared + 1) / (tf.reduce_sum(out + truth, 1) + 1)))


def _with_words(rng: Any, rows: int) -> Batch:
    return {**ids(rng, rows), "x:0": dense(rng, rows)["x:0"]}


def connectionist(tf: Any) -> Any:
    """CTC on log probabilities, its mean over rows."""
    frames = tf.placeholder(tf.int32, [None, WIDTH], name="ids")
    label = tf.placeholder(tf.int32, [None], name="label")
    table = variable(tf, "frames", [11, 5])
    logits = tf.transpose(tf.nn.embedding_lookup(table, frames), [1, 0, 2])
    rows = tf.shape(label)[0]
    loss = tf.nn.ctc_loss_v2(
        tf.expand_dims(label + 1, 1), logits, tf.ones([rows], tf.int32), tf.fill([rows], WIDTH)
    )
    return train(tf, tf.reduce_mean(loss))


def random_field(tf: Any) -> Any:
    """A linear-chain CRF, its forward pass a `while_loop`, mean of negative log likelihoods."""
    words, label = id_inputs(tf)
    scores = tf.nn.embedding_lookup(variable(tf, "emission", [11, 3]), words)
    moves = variable(tf, "transitions", [3, 3])
    tags = tf.floormod(words + tf.expand_dims(label, 1), 3)
    own = tf.reduce_sum(scores * tf.one_hot(tags, 3), [1, 2])
    pairs = tf.reshape(tags[:, :-1] * 3 + tags[:, 1:], [-1])
    own += tf.reduce_sum(tf.reshape(tf.gather(tf.reshape(moves, [-1]), pairs), [-1, WIDTH - 1]), 1)

    def body(at: Any, alpha: Any) -> Any:
        longer = tf.reduce_logsumexp(tf.expand_dims(alpha, 2) + moves, 1)
        return at + 1, scores[:, at] + longer

    _, alpha = tf.while_loop(lambda at, _: at < WIDTH, body, [1, scores[:, 0]])
    return train(tf, tf.reduce_mean(tf.reduce_logsumexp(alpha, 1) - own))


def pseudo_labels(tf: Any) -> Any:
    """FixMatch: confident rows count, the mean is over all."""
    x, _ = inputs(tf)
    weak, strong = network(tf, x, width=3), network(tf, 1.5 * x, width=3)
    chance = tf.stop_gradient(tf.nn.softmax(weak))
    sure = tf.cast(tf.reduce_max(chance, 1) > 0.35, tf.float32)
    return train(tf, tf.reduce_mean(sure * cross_entropy(tf, strong, tf.argmax(chance, 1))))


def weighted_rows(tf: Any) -> Any:
    """A weight for each row that is fed, the mean over all rows (importance weights)."""
    weights = tf.placeholder(tf.float32, [None], name="weights")
    return train(tf, tf.reduce_mean(errors(tf) * weights))


def _weights(rng: Any, rows: int) -> Batch:
    return {**dense(rng, rows), "weights:0": rng.random(rows).astype("float32")}


def reversed_gradient(tf: Any) -> Any:
    """DANN: two heads, the domain's gradient reversed by a custom gradient on its way."""
    x, y = inputs(tf)
    features = layer(tf, x, 5, "features", tf.nn.relu)

    @tf.custom_gradient
    def turned(value: Any) -> Any:
        return tf.identity(value), lambda upstream: -0.3 * upstream

    domain = tf.squeeze(layer(tf, turned(features), 1, "domain"), 1)
    side = tf.nn.sigmoid_cross_entropy_with_logits(
        labels=tf.cast(y > 0.0, tf.float32), logits=domain
    )
    main = tf.square(tf.squeeze(layer(tf, features, 1, "main"), 1) - y)
    return train(tf, tf.reduce_mean(main) + tf.reduce_mean(side))


def per_example_clipping(tf: Any) -> Any:
    """Differentially private descent: each row's gradient is clipped by itself, then their mean."""
    x, y = inputs(tf)
    w = variable(tf, "w", [WIDTH])
    each = 2.0 * tf.expand_dims(tf.linalg.matvec(x, w) - y, 1) * x
    clipped = tf.clip_by_norm(each, 0.5, axes=[1])
    return descent(tf, [tf.reduce_mean(clipped, 0)], [w])


def moving_teacher(tf: Any) -> Any:
    """Mean teacher: consistency with weights that follow the student's by an EMA after each step."""
    x, y = inputs(tf)
    out = tf.squeeze(network(tf, x, "student"), 1)
    taught = tf.stop_gradient(tf.squeeze(network(tf, x, "teacher"), 1))
    loss = tf.reduce_mean(tf.square(out - y)) + 0.5 * tf.reduce_mean(tf.square(out - taught))
    gradients, variables = gradients_of(tf, loss, "student")
    with tf.control_dependencies([descent(tf, gradients, variables)]):
        pairs = zip(tf.trainable_variables("teacher"), variables, strict=True)
        return tf.group(*[old.assign(0.9 * old + 0.1 * new.read_value()) for old, new in pairs])


def watched_step(tf: Any) -> Any:
    """Summaries, histograms and checks of numbers hung before and behind the step."""
    loss = tf.reduce_mean(errors(tf))
    tf.summary.scalar("loss", loss)
    gradients, variables = gradients_of(tf, loss)
    for gradient, own in zip(gradients, variables, strict=True):
        tf.summary.histogram(own.op.name, own)
        tf.summary.histogram(f"{own.op.name}/gradient", gradient)
    checks = [tf.check_numerics(each, "not finite") for each in gradients]
    with tf.control_dependencies([*checks, tf.assert_less(loss, 1e6)]):
        return descent(tf, gradients, variables)


def skipped_when_infinite(tf: Any) -> Any:
    """The step is left out where a gradient isn't finite, in `tf.cond`; a count says how often."""
    gradients, variables = gradients_of(tf, tf.reduce_mean(errors(tf)))
    skipped = still(tf, "skipped", [], 0, dtype=tf.int32)
    fine = tf.reduce_all([tf.reduce_all(tf.is_finite(each)) for each in gradients])
    return tf.cond(
        fine,
        lambda: descent(tf, gradients, variables),
        lambda: tf.group(tf.assign_add(skipped, 1)),
    )


def balanced_tasks(tf: Any) -> Any:
    """GradNorm: the tasks' weights are moved by the norms of their gradients."""
    x, y = inputs(tf)
    out = network(tf, x, width=2)
    tasks = [tf.reduce_mean(tf.square(out[:, n] - y)) for n in (0, 1)]
    weights = still(tf, "task_weights", [2], 1.0)
    shared = tf.trainable_variables("net/hidden")[0]
    norms = tf.stack([tf.norm(tf.gradients(task, shared)[0]) for task in tasks])
    gradients, variables = gradients_of(tf, weights[0] * tasks[0] + weights[1] * tasks[1])
    with tf.control_dependencies([norms]):
        step = descent(tf, gradients, variables)
    with tf.control_dependencies([step]):
        return weights.assign_sub(0.1 * tf.sign(norms - tf.reduce_mean(norms)))


PATTERNS = (
    Pattern(focal, "equal", serve=labelled),
    Pattern(smoothed_labels, "equal", serve=labelled),
    Pattern(added_up, "equal"),
    Pattern(unreduced, "equal"),
    Pattern(by_written_size, "equal"),
    Pattern(sum_and_penalty, "equal"),
    Pattern(uncertainty_weighted, "equal"),
    Pattern(pairs_of_rows, "equal"),
    Pattern(given_triplets, "equal"),
    Pattern(class_centres, "equal", serve=labelled),
    Pattern(dice_of_rows, "equal"),
    Pattern(connectionist, "equal", serve=ids),
    Pattern(random_field, "equal", serve=ids),
    Pattern(pseudo_labels, "equal"),
    Pattern(weighted_rows, "equal", serve=_weights),
    Pattern(reversed_gradient, "equal"),
    Pattern(per_example_clipping, "equal"),
    Pattern(moving_teacher, "equal"),
    Pattern(balanced_tasks, "equal"),
    Pattern(watched_step, "equal"),
    Pattern(skipped_when_infinite, "equal"),
)
