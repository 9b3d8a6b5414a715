"""Losses in which rows of a batch meet, or are counted by what they hold: what does a group make of
them?

Rule: one process with the joint batch computes something else than any mean of the slots'; a count
that the graph computes can weight them (``--weight-by``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.graph.patterns import WIDTH, Batch, Pattern, dense, ids, labelled
from tests.graph.silent.parts import (
    cross_entropy,
    errors,
    id_inputs,
    inputs,
    network,
    train,
    variable,
)

NO_SUM = "no weighted sum of the batches' gradients is one process's"
COUNTED = "is divided by a count that follows from the data"


def _embedded(tf: Any) -> tuple[Any, Any]:
    x = tf.placeholder(tf.float32, [None, WIDTH], name="x")
    label = tf.placeholder(tf.int32, [None], name="label")
    return tf.nn.l2_normalize(network(tf, x, width=3), 1), label


def masked_mean(tf: Any) -> Any:
    """A fed mask, the loss divided by how many rows it leaves."""
    mask = tf.placeholder(tf.float32, [None], name="mask")
    count = tf.reduce_sum(mask, name="count")
    return train(tf, tf.reduce_sum(errors(tf) * mask) / count)


def _masked(rng: np.random.Generator, rows: int) -> Batch:
    keep = (np.arange(rows) < rng.integers(1, rows + 1)).astype(np.float32)
    return {**dense(rng, rows), "mask:0": keep}


def token_weighted(tf: Any) -> Any:
    """A language model's loss by tokens: padding (word 0) is left out and tokens are counted."""
    words, _ = id_inputs(tf)
    hidden = tf.nn.tanh(tf.nn.embedding_lookup(variable(tf, "embedding", [11, 5]), words[:, :-1]))
    logits = tf.tensordot(hidden, variable(tf, "softmax", [5, 11]), 1)
    real = tf.cast(words[:, 1:] > 3, tf.float32)
    tokens = tf.reduce_sum(real, name="tokens")
    loss = tf.reduce_sum(cross_entropy(tf, logits, words[:, 1:]) * real) / tokens
    return tf.train.AdamOptimizer(0.05).minimize(loss)


def masked_language_model(tf: Any) -> Any:
    """BERT's: predictions gathered at fed places, their weights added up with 1e-5 below."""
    words, label = id_inputs(tf)
    hidden = tf.nn.embedding_lookup(variable(tf, "word_embeddings", [11, 5]), words)
    rows = tf.range(tf.shape(words)[0])
    picked = tf.gather_nd(hidden, tf.stack([rows, label], 1))
    weights = tf.cast(words[:, 0] > 4, tf.float32)
    logits = tf.matmul(picked, variable(tf, "predictions/kernel", [5, 11]))
    truth = tf.one_hot(tf.floormod(words[:, 1], 11), 11)
    loss = -tf.reduce_sum(tf.nn.log_softmax(logits) * truth, 1)
    denominator = tf.add(tf.reduce_sum(weights), 1e-5, name="denominator")
    return train(tf, tf.reduce_sum(weights * loss) / denominator)


def uneven_rows(tf: Any) -> Any:
    """A mean over rows, fed with batches of three and of five."""
    rows = errors(tf)
    tf.cast(tf.shape(rows)[0], tf.float32, name="rows")
    return train(tf, tf.reduce_mean(rows))


def by_fed_weights(tf: Any) -> Any:
    """Rows weighted by a column, the loss divided by the sum of weights."""
    weights = tf.placeholder(tf.float32, [None], name="mask")
    total = tf.reduce_sum(weights, name="total")
    loss = tf.losses.compute_weighted_loss(errors(tf), weights, reduction=tf.losses.Reduction.NONE)
    return train(tf, tf.reduce_sum(loss) / total)


def hardest_triplets(tf: Any) -> Any:
    """Batch-hard triplets: the farthest row of the same class and the nearest of another."""
    features, label = _embedded(tf)
    gaps = 2.0 - 2.0 * tf.matmul(features, features, transpose_b=True)
    same = tf.cast(tf.equal(label[:, None], label[None]), tf.float32)
    far, near = tf.reduce_max(gaps * same, 1), tf.reduce_min(gaps + 9.0 * same, 1)
    return train(tf, tf.reduce_mean(tf.maximum(far - near + 0.3, 0.0)))


def normalised_temperature(tf: Any) -> Any:
    """NT-Xent: each row's other view among all rows of the batch (SimCLR)."""
    x, _ = inputs(tf)
    views = tf.nn.l2_normalize(tf.concat([network(tf, x, width=3), network(tf, -x, width=3)], 0), 1)
    count = tf.shape(x)[0]
    alike = tf.matmul(views, views, transpose_b=True) / 0.5 - 1e9 * tf.eye(2 * count)
    other = tf.floormod(tf.range(2 * count) + count, 2 * count)
    return train(tf, tf.reduce_mean(cross_entropy(tf, alike, other)))


def negatives_of_the_batch(tf: Any) -> Any:
    """Two towers: the other rows' items are each row's negatives."""
    words, _ = id_inputs(tf)
    user = tf.nn.embedding_lookup(variable(tf, "user", [11, 4]), words[:, 0])
    item = tf.nn.embedding_lookup(variable(tf, "item", [11, 4]), words[:, 1])
    scores = tf.matmul(user, item, transpose_b=True)
    return train(tf, tf.reduce_mean(cross_entropy(tf, scores, tf.range(tf.shape(words)[0]))))


def crossed_correlation(tf: Any) -> Any:
    """Barlow twins: the correlation of features over the batch is to be the identity."""
    x, _ = inputs(tf)
    left, right = network(tf, x, width=3), network(tf, x + 0.1 * tf.abs(x), width=3)
    rows = tf.cast(tf.shape(x)[0], tf.float32)
    cross = tf.matmul(left, right, transpose_a=True) / rows
    return train(tf, tf.reduce_sum(tf.square(cross - tf.eye(3))))


def hard_examples(tf: Any) -> Any:
    """OHEM: the mean of the batch's two largest losses."""
    return train(tf, tf.reduce_mean(tf.nn.top_k(errors(tf), 2)[0]))


def balanced_by_frequency(tf: Any) -> Any:
    """Classes weighted by how rare they are in the batch."""
    x = tf.placeholder(tf.float32, [None, WIDTH], name="x")
    label = tf.placeholder(tf.int32, [None], name="label")
    counts = tf.reduce_sum(tf.one_hot(label, 3), 0)
    loss = cross_entropy(tf, network(tf, x, width=3), label)
    return train(tf, tf.reduce_mean(loss * tf.gather(1.0 / (counts + 1.0), label)))


def correlated(tf: Any) -> Any:
    """Pearson's correlation with the target as the loss."""
    x, y = inputs(tf)
    out = tf.squeeze(network(tf, x), 1)
    out, y = out - tf.reduce_mean(out), y - tf.reduce_mean(y)
    return train(tf, -tf.reduce_sum(out * y) / (tf.norm(out) * tf.norm(y) + 1e-3))


def discrepancy(tf: Any) -> Any:
    """Maximum mean discrepancy between two fed domains, with a Gaussian kernel."""
    x, y = inputs(tf)
    left, right = network(tf, x, width=3), network(tf, x * y[:, None], width=3)

    def kernel(a: Any, b: Any) -> Any:
        return tf.reduce_mean(tf.exp(-tf.reduce_sum(tf.square(a[:, None] - b[None]), 2)))

    return train(tf, kernel(left, left) + kernel(right, right) - 2.0 * kernel(left, right))


def by_the_largest_error(tf: Any) -> Any:
    """The reverse Huber loss of depth networks: its threshold is a fifth of the batch's largest
    error."""
    x, y = inputs(tf)
    error = tf.abs(tf.squeeze(network(tf, x), 1) - y)
    bound = 0.2 * tf.reduce_max(error)
    outside = (tf.square(error) + tf.square(bound)) / (2.0 * bound)
    return train(tf, tf.reduce_mean(tf.where(error <= bound, error, outside)))


def dice_of_the_batch(tf: Any) -> Any:
    """Dice over all pixels of the batch."""
    x, y = inputs(tf)
    out = tf.sigmoid(network(tf, x, width=WIDTH))
    truth = tf.cast(x + tf.expand_dims(y, 1) > 0.0, tf.float32)
    shared, sizes = tf.reduce_sum(out * truth), tf.reduce_sum(out) + tf.reduce_sum(truth)
    return train(tf, 1.0 - (2.0 * shared + 1.0) / (sizes + 1.0))


def ranked_pairs(tf: Any) -> Any:
    """RankNet on all pairs of the batch."""
    x, y = inputs(tf)
    score = tf.squeeze(network(tf, x), 1)
    higher = tf.cast(y[:, None] > y[None], tf.float32)
    gap = score[:, None] - score[None]
    return train(tf, tf.reduce_sum(higher * tf.nn.softplus(-gap)) / tf.reduce_sum(higher))


def perplexity(tf: Any) -> Any:
    """The exponential of the mean as the loss."""
    return tf.train.GradientDescentOptimizer(0.01).minimize(
        tf.exp(0.3 * tf.reduce_mean(errors(tf)))
    )


def root_of_the_mean(tf: Any) -> Any:
    """The root of the mean squared error as the loss."""
    return train(tf, tf.sqrt(tf.reduce_mean(errors(tf))))


def centres_by_count(tf: Any) -> Any:
    """Center loss whose centres move by the mean of the batch's rows of their class."""
    x = tf.placeholder(tf.float32, [None, WIDTH], name="x")
    label = tf.placeholder(tf.int32, [None], name="label")
    features = network(tf, x, width=3)
    centres = variable(tf, "centres", [3, 3], trainable=False)
    gap = tf.gather(centres, label) - features
    _, place, count = tf.unique_with_counts(label)
    often = 1.0 + tf.cast(tf.gather(count, place), tf.float32)
    moved = tf.scatter_sub(centres, label, 0.5 * gap / often[:, None])
    return tf.group(train(tf, tf.reduce_mean(tf.square(gap))), moved)


def shifted_rows(tf: Any) -> Any:
    """Mixup with the next row of the batch."""
    x, y = inputs(tf)
    mixed = 0.7 * x + 0.3 * tf.concat([x[1:], x[:1]], 0)
    wanted = 0.7 * y + 0.3 * tf.concat([y[1:], y[:1]], 0)
    return train(tf, tf.reduce_mean(tf.square(tf.squeeze(network(tf, mixed), 1) - wanted)))


PATTERNS = (
    Pattern(masked_mean, "told", COUNTED, serve=_masked, way=(("weight_by", "count:0"),)),
    Pattern(token_weighted, "told", COUNTED, serve=ids, way=(("weight_by", "tokens:0"),)),
    Pattern(
        masked_language_model, "told", COUNTED, serve=ids, way=(("weight_by", "denominator:0"),)
    ),
    Pattern(
        uneven_rows, "told", "weighted by 0.375, 0.625", rows=(3, 5), way=(("weight_by", "rows:0"),)
    ),
    Pattern(by_fed_weights, "told", COUNTED, serve=_masked, way=(("weight_by", "total:0"),)),
    Pattern(hardest_triplets, "told", NO_SUM, serve=labelled),
    Pattern(normalised_temperature, "told", NO_SUM),
    Pattern(negatives_of_the_batch, "told", NO_SUM, serve=ids),
    Pattern(crossed_correlation, "told", NO_SUM),
    Pattern(hard_examples, "told", NO_SUM),
    Pattern(balanced_by_frequency, "told", NO_SUM, serve=labelled),
    Pattern(correlated, "told", NO_SUM),
    Pattern(discrepancy, "told", NO_SUM),
    Pattern(by_the_largest_error, "told", NO_SUM),
    Pattern(dice_of_the_batch, "told", NO_SUM),
    Pattern(ranked_pairs, "told", NO_SUM),
    Pattern(perplexity, "told", "isn't linear"),
    Pattern(root_of_the_mean, "told", "isn't linear"),
    Pattern(centres_by_count, "told", NO_SUM, serve=labelled),
    Pattern(shifted_rows, "told", NO_SUM),
)
