"""Tables of users, items and columns: what does a group make of them?

Rule: rows of a table are added up wherever they come from; what a penalty or a rate counts is
another matter.
"""

from __future__ import annotations

from typing import Any

from tests.graph.patterns import WIDTH, WORDS, Pattern, ids
from tests.graph.silent.parts import (
    cross_entropy,
    gradients_of,
    id_inputs,
    layer,
    move,
    still,
    train,
    variable,
)


def _clicked(tf: Any, label: Any, logit: Any) -> Any:
    truth = tf.cast(label > 0, tf.float32)
    return tf.nn.sigmoid_cross_entropy_with_logits(labels=truth, logits=logit)


def _table(tf: Any, name: str, width: int, words: Any) -> Any:
    return tf.nn.embedding_lookup(variable(tf, name, [WORDS, width]), words)


def _crossed(tf: Any, words: Any) -> Any:
    """A factorization machine's logit."""
    v = _table(tf, "feature_embeddings", 4, words)
    pairs = tf.square(tf.reduce_sum(v, 1)) - tf.reduce_sum(tf.square(v), 1)
    wide = tf.reduce_sum(_table(tf, "feature_bias", 1, words), [1, 2])
    return wide + 0.5 * tf.reduce_sum(pairs, 1)


def factorised(tf: Any) -> Any:
    """A factorization machine, its weight decay on whole tables."""
    words, label = id_inputs(tf)
    loss = tf.reduce_mean(_clicked(tf, label, _crossed(tf, words)))
    decay = tf.add_n([tf.nn.l2_loss(own) for own in tf.trainable_variables()])
    return tf.train.AdagradOptimizer(0.1).minimize(loss + 1e-3 * decay)


def decayed_rows(tf: Any) -> Any:
    """DeepFM: a mean loss, and a weight decay on the rows that were looked up, which grows with the
    batch."""
    words, label = id_inputs(tf)
    v = _table(tf, "v", 4, words)
    deep = layer(tf, tf.reshape(v, [-1, 4 * WIDTH]), 1, "deep")
    loss = tf.reduce_mean(_clicked(tf, label, tf.squeeze(deep, 1)))
    return train(tf, loss + 0.1 * tf.nn.l2_loss(v))


def by_field(tf: Any) -> Any:
    """A field-aware machine: a table for each pair of fields, in Python loops."""
    words, label = id_inputs(tf)
    table = variable(tf, "ffm", [WORDS, WIDTH * 2])
    rows = tf.reshape(tf.gather(table, words), [-1, WIDTH, WIDTH, 2])
    logit = tf.zeros_like(label, tf.float32)
    for i in range(WIDTH):
        for j in range(i + 1, WIDTH):
            logit += tf.reduce_sum(rows[:, i, j] * rows[:, j, i], 1)
    return tf.train.FtrlOptimizer(0.1, l1_regularization_strength=1e-4).minimize(
        tf.reduce_mean(_clicked(tf, label, logit))
    )


def wide_and_deep(tf: Any) -> Any:
    """Wide and deep: partitioned tables, Ftrl for one part and Adagrad for the other, the step
    counted behind both."""
    words, label = id_inputs(tf)
    step = tf.train.get_or_create_global_step()
    options = {
        "initializer": tf.random_normal_initializer(stddev=0.3, seed=3),
        "partitioner": tf.fixed_size_partitioner(2),
    }
    wide = tf.nn.embedding_lookup(tf.get_variable("wide", [WORDS, 1], **options), words)
    deep = tf.nn.embedding_lookup(tf.get_variable("dnn/rows", [WORDS, 3], **options), words)
    with tf.variable_scope("dnn"):
        out = layer(tf, tf.reshape(deep, [-1, 3 * WIDTH]), 1, "logits")
    loss = tf.reduce_mean(_clicked(tf, label, tf.reduce_sum(wide, [1, 2]) + out[:, 0]))
    parts = [(tf.train.FtrlOptimizer(0.1), "wide"), (tf.train.AdagradOptimizer(0.1), "dnn")]
    ops = [
        optimizer.minimize(loss, var_list=tf.trainable_variables(scope))
        for optimizer, scope in parts
    ]
    with tf.control_dependencies([tf.group(*ops)]):
        return tf.assign_add(step, 1).op


def pairwise_ranking(tf: Any) -> Any:
    """BPR: a positive and a drawn negative item for each row, a sum."""
    words, _ = id_inputs(tf)
    user = _table(tf, "user", 4, words[:, 0])
    items = variable(tf, "item", [WORDS, 4])
    gap = tf.gather(items, words[:, 1]) - tf.gather(items, words[:, 2])
    loss = -tf.reduce_sum(tf.log_sigmoid(tf.reduce_sum(user * gap, 1)))
    return tf.train.GradientDescentOptimizer(0.05).minimize(loss)


def biased_factors(tf: Any) -> Any:
    """Matrix factorisation with biases and a mean rating that a moving average takes up."""
    words, label = id_inputs(tf)
    rating = tf.cast(label, tf.float32)
    mean = still(tf, "mean_rating", [])
    out = tf.reduce_sum(_table(tf, "u", 3, words[:, 0]) * _table(tf, "i", 3, words[:, 1]), 1)
    out += _table(tf, "bu", 1, words[:, 0])[:, 0] + _table(tf, "bi", 1, words[:, 1])[:, 0] + mean
    gradients, variables = gradients_of(tf, tf.reduce_mean(tf.square(out - rating)))
    optimizer = tf.train.MomentumOptimizer(0.1, 0.9, use_nesterov=True)
    with tf.control_dependencies(
        [optimizer.apply_gradients(zip(gradients, variables, strict=True))]
    ):
        return tf.group(move(mean, tf.reduce_mean(rating)))


def interested(tf: Any) -> Any:
    """Deep interest: attention of a candidate on a history, Dice by moments of the batch, written to
    moving averages."""
    words, label = id_inputs(tf)
    table = variable(tf, "items", [WORDS, 4])
    history, item = tf.gather(table, words[:, 1:]), tf.gather(table, words[:, 0])
    shares = tf.nn.softmax(tf.reduce_sum(history * item[:, None], 2))
    out = layer(
        tf, tf.concat([item, tf.reduce_sum(history * shares[..., None], 1)], 1), 3, "hidden"
    )
    mean, spread = tf.nn.moments(out, [0])
    chance = tf.sigmoid((out - mean) * tf.rsqrt(spread + 1e-3))
    slope = tf.get_variable("alpha", [3], initializer=tf.zeros_initializer())
    out = slope * (1.0 - chance) * out + chance * out
    loss = tf.reduce_mean(_clicked(tf, label, layer(tf, out, 1, "logit")[:, 0]))
    with tf.control_dependencies([train(tf, loss)]):
        return tf.group(move(still(tf, "moving_mean", [3]), mean))


def gated_experts(tf: Any) -> Any:
    """MMoE: two tasks' gates over shared experts, the losses weighted."""
    words, label = id_inputs(tf)
    x = tf.reshape(_table(tf, "rows", 2, words), [-1, 2 * WIDTH])
    experts = tf.stack([layer(tf, x, 3, f"expert_{n}", tf.nn.relu) for n in range(2)], 1)
    losses = []
    for task in range(2):
        gate = tf.nn.softmax(layer(tf, x, 2, f"gate_{task}"))
        mixed = tf.reduce_sum(experts * gate[..., None], 1)
        logit = layer(tf, mixed, 1, f"tower_{task}")[:, 0]
        losses.append(tf.reduce_mean(_clicked(tf, label - task, logit)))
    return tf.train.AdamOptimizer(0.02, epsilon=1e-3).minimize(losses[0] + 0.5 * losses[1])


def hashed_text(tf: Any) -> Any:
    """Texts are hashed into the rows of a table."""
    words, label = id_inputs(tf)
    buckets = tf.string_to_hash_bucket_fast(tf.as_string(words), WORDS)
    out = tf.reduce_mean(_table(tf, "hashed", 3, buckets), 1)
    return tf.train.RMSPropOptimizer(0.05).minimize(tf.reduce_mean(cross_entropy(tf, out, label)))


def lazy_moments(tf: Any) -> Any:
    """A lazy Adam by hand: rows of one word are added up, their moments gathered and scattered."""
    words, label = id_inputs(tf)
    table = variable(tf, "rows", [WORDS, 3])
    m, v = still(tf, "m", [WORDS, 3]), still(tf, "v", [WORDS, 3])
    out = tf.reduce_mean(tf.nn.embedding_lookup(table, words), 1)
    slices = tf.gradients(tf.reduce_mean(cross_entropy(tf, out, label)), table)[0]
    rows, places = tf.unique(slices.indices)
    total = tf.unsorted_segment_sum(slices.values, places, tf.shape(rows)[0])
    next_m = 0.9 * tf.gather(m, rows) + 0.1 * total
    next_v = 0.99 * tf.gather(v, rows) + 0.01 * tf.square(total)
    writes = [tf.scatter_update(m, rows, next_m), tf.scatter_update(v, rows, next_v)]
    step = 0.05 * next_m / (tf.sqrt(next_v) + 1e-3)
    return tf.group(*writes, tf.scatter_sub(table, rows, step))


def rate_by_frequency(tf: Any) -> Any:
    """A table of how often a word came, added to by `scatter_add`, divides the words' rates."""
    words, label = id_inputs(tf)
    table, often = variable(tf, "rows", [WORDS, 3]), still(tf, "often", [WORDS], 1.0)
    flat = tf.reshape(words, [-1])
    out = tf.reduce_mean(tf.nn.embedding_lookup(table, words), 1)
    slices = tf.gradients(tf.reduce_mean(cross_entropy(tf, out, label)), table)[0]
    rate = 0.2 * tf.rsqrt(tf.gather(often, slices.indices))
    step = tf.scatter_sub(table, slices.indices, slices.values * rate[:, None])
    with tf.control_dependencies([step]):
        return tf.scatter_add(often, flat, tf.ones_like(flat, tf.float32))


PATTERNS = (
    Pattern(factorised, "equal", serve=ids),
    Pattern(decayed_rows, "told", "a sum over rows and something that doesn't grow", serve=ids),
    Pattern(by_field, "equal", serve=ids),
    Pattern(wide_and_deep, "equal", serve=ids),
    Pattern(pairwise_ranking, "equal", serve=ids),
    Pattern(biased_factors, "equal", serve=ids),
    Pattern(interested, "equal", serve=ids, alike=True),
    Pattern(gated_experts, "equal", serve=ids),
    Pattern(hashed_text, "equal", serve=ids),
    Pattern(lazy_moments, "equal", serve=ids),
    Pattern(rate_by_frequency, "equal", serve=ids),
)
