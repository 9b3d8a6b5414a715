"""Words, sequences and attention: what does a group make of them?

Rule: loops and tables change nothing, a count of tokens does, and a state kept from batch to batch
belongs to rows.
"""

from __future__ import annotations

from typing import Any

from tests.graph.patterns import WIDTH, WORDS, Pattern, ids
from tests.graph.silent.batch_losses import COUNTED
from tests.graph.silent.parts import (
    cross_entropy,
    descent,
    gradients_of,
    id_inputs,
    layer,
    still,
    train,
    variable,
)


def _embedded(tf: Any, words: Any, width: int = 4) -> Any:
    return tf.nn.embedding_lookup(variable(tf, "embedding", [WORDS, width]), words)


def _attention(tf: Any, x: Any, name: str) -> Any:
    q, k, v = (
        tf.tensordot(x, variable(tf, f"{name}/{part}", [4, 4]), 1) for part in ("q", "k", "v")
    )
    shares = tf.nn.softmax(tf.matmul(q, k, transpose_b=True) / 2.0)
    out = x + tf.matmul(shares, v)
    mean, spread = tf.nn.moments(out, [-1], keepdims=True)
    return (out - mean) * tf.rsqrt(spread + 1e-3)


def pooled_classifier(tf: Any) -> Any:
    """BERT's classifier: attention, the first position pooled, polynomial decay with warmup."""
    words, label = id_inputs(tf)
    step = tf.train.get_or_create_global_step()
    out = _attention(tf, _embedded(tf, words) + variable(tf, "positions", [WIDTH, 4]), "layer_0")
    pooled = layer(tf, tf.squeeze(out[:, 0:1], 1), 4, "pooler", tf.tanh)
    logits = layer(tf, tf.nn.dropout(pooled, rate=0.1), 3, "classifier")
    loss = tf.reduce_mean(-tf.reduce_sum(tf.one_hot(label, 3) * tf.nn.log_softmax(logits), axis=-1))
    rate = tf.train.polynomial_decay(0.05, step, 10, end_learning_rate=0.0, power=1.0)
    gradients, variables = gradients_of(tf, loss)
    gradients, _ = tf.clip_by_global_norm(gradients, 1.0)
    return tf.train.AdamOptimizer(rate).apply_gradients(
        zip(gradients, variables, strict=True), global_step=step
    )


def decoder_with_lengths(tf: Any) -> Any:
    """seq2seq: a decoder in a `while_loop` with attention, its losses in a TensorArray, masked by
    lengths and divided by their sum."""
    words, label = id_inputs(tf)
    memory, cell = _embedded(tf, words), variable(tf, "cell", [8, 4])
    out = variable(tf, "projection", [4, WORDS])
    truth = tf.transpose(tf.floormod(words + 1, WORDS))
    rows = tf.shape(words)[0]

    def body(at: Any, state: Any, kept: Any) -> tuple[Any, Any, Any]:
        shares = tf.nn.softmax(tf.reduce_sum(memory * state[:, None], 2))
        context = tf.reduce_sum(memory * shares[..., None], 1)
        state = tf.tanh(tf.matmul(tf.concat([context, state], 1), cell))
        loss = cross_entropy(tf, tf.matmul(state, out), tf.gather(truth, at))
        return at + 1, state, kept.write(at, loss)

    begin = [0, tf.fill([rows, 4], 0.1), tf.TensorArray(tf.float32, WIDTH)]
    losses = tf.while_loop(lambda at, *_: at < WIDTH, body, begin)[2].stack()
    mask = tf.transpose(tf.sequence_mask(label + 1, WIDTH, tf.float32))
    tokens = tf.reduce_sum(mask, name="tokens")
    gradients, variables = gradients_of(tf, tf.reduce_sum(losses * mask) / tokens)
    gradients, _ = tf.clip_by_global_norm(gradients, 5.0)
    return tf.train.GradientDescentOptimizer(0.5).apply_gradients(
        zip(gradients, variables, strict=True)
    )


def truncated_recurrence(tf: Any) -> Any:
    """An LSTM whose last state is kept in a variable for the next batch."""
    words, _ = id_inputs(tf)
    kept = tf.get_variable("state", initializer=tf.zeros([4, 4]), trainable=False)
    cell, state = variable(tf, "cell", [8, 4]), kept + 0.0
    for at in range(WIDTH):
        step = tf.concat([_embedded_again(tf, words[:, at]), state], 1)
        state = tf.tanh(tf.matmul(step, cell))
    loss = tf.reduce_mean(cross_entropy(tf, layer(tf, state, WORDS, "out"), words[:, -1]))
    with tf.control_dependencies([train(tf, loss)]):
        return kept.assign(state)


def _embedded_again(tf: Any, words: Any) -> Any:
    with tf.variable_scope("words", reuse=tf.AUTO_REUSE):
        return tf.nn.embedding_lookup(variable(tf, "embedding", [WORDS, 4]), words)


def noise_contrastive(tf: Any) -> Any:
    """word2vec with `tf.nn.nce_loss`, its mean."""
    words, _ = id_inputs(tf)
    loss = tf.nn.nce_loss(
        variable(tf, "nce_weights", [WORDS, 4]),
        variable(tf, "nce_biases", [WORDS]),
        words[:, 1:2],
        _embedded(tf, words[:, 0]),
        3,
        WORDS,
    )
    return tf.train.AdagradOptimizer(0.5).minimize(tf.reduce_mean(loss))


def sampled_softmax(tf: Any) -> Any:
    """A language model's sampled softmax, its table shared with the input's."""
    words, _ = id_inputs(tf)
    table = variable(tf, "embedding", [WORDS, 4])
    hidden = tf.tanh(tf.reduce_mean(tf.nn.embedding_lookup(table, words[:, :3]), 1))
    loss = tf.nn.sampled_softmax_loss(
        table, variable(tf, "biases", [WORDS]), words[:, 3:], hidden, 4, WORDS
    )
    return tf.train.AdamOptimizer(0.02).minimize(tf.reduce_mean(loss))


def negative_sampling(tf: Any) -> Any:
    """Skip-gram by hand: drawn negatives, a sum over rows divided by a written batch size, the rate
    falling with the words seen."""
    words, _ = id_inputs(tf)
    seen = still(tf, "words_processed", [])
    rate = 0.3 * tf.maximum(1e-3, 1.0 - seen / 100.0)
    centre, other = _embedded(tf, words[:, 0]), variable(tf, "out", [WORDS, 4])
    false = tf.random_uniform([3], 0, WORDS, tf.int32)
    near = tf.reduce_sum(centre * tf.nn.embedding_lookup(other, words[:, 1]), 1)
    far = tf.matmul(centre, tf.nn.embedding_lookup(other, false), transpose_b=True)
    cross = tf.nn.sigmoid_cross_entropy_with_logits
    loss = tf.reduce_sum(cross(labels=tf.ones_like(near), logits=near))
    loss += tf.reduce_sum(cross(labels=tf.zeros_like(far), logits=far))
    step = tf.train.GradientDescentOptimizer(rate).minimize(loss / 16.0)
    with tf.control_dependencies([step]):
        return seen.assign_add(tf.cast(tf.size(words), tf.float32))


def tied_table(tf: Any) -> Any:
    """Input and output embeddings are one table, so that its gradient is dense and of rows, clipped
    by the global norm."""
    words, _ = id_inputs(tf)
    table = variable(tf, "embedding", [WORDS, 4])
    hidden = tf.tanh(tf.nn.embedding_lookup(table, words[:, :3]))
    logits = tf.tensordot(hidden, table, [[2], [1]])
    gradients, variables = gradients_of(tf, tf.reduce_mean(cross_entropy(tf, logits, words[:, 1:])))
    gradients, _ = tf.clip_by_global_norm(gradients, 0.3)
    return tf.train.AdamOptimizer(0.02).apply_gradients(zip(gradients, variables, strict=True))


def convolved_words(tf: Any) -> Any:
    """Kim's convolutions over words, the largest over time, norms of the last layer clipped after
    the step."""
    words, label = id_inputs(tf)
    vectors = _embedded(tf, words)[..., None]
    parts = []
    for width in (2, 3):
        filters = variable(tf, f"filter_{width}", [width, 4, 1, 3])
        out = tf.nn.relu(tf.nn.conv2d(vectors, filters, [1, 1, 1, 1], "VALID"))
        parts.append(tf.squeeze(tf.reduce_max(out, 1), 1))
    last = variable(tf, "last", [6, 3])
    logits = tf.matmul(tf.nn.dropout(tf.concat(parts, 1), rate=0.5), last)
    with tf.control_dependencies([train(tf, tf.reduce_mean(cross_entropy(tf, logits, label)))]):
        return last.assign(tf.clip_by_norm(last.read_value(), 0.5, axes=[0]))


def summed_glove(tf: Any) -> Any:
    """GloVe: a weighted least squares sum over pairs, by Adagrad."""
    words, label = id_inputs(tf)
    left, right = variable(tf, "w", [WORDS, 4]), variable(tf, "w_tilde", [WORDS, 4])
    product = tf.reduce_sum(
        tf.nn.embedding_lookup(left, words[:, 0]) * tf.nn.embedding_lookup(right, words[:, 1]), 1
    )
    count = tf.cast(label, tf.float32) + 1.0
    weight = tf.minimum(1.0, tf.pow(count / 3.0, 0.75))
    loss = tf.reduce_sum(weight * tf.square(product - tf.log(count)))
    return tf.train.AdagradOptimizer(0.05).minimize(loss)


def averaged_ids(tf: Any) -> Any:
    """`embedding_lookup_sparse` with weights, each combiner once, on three partitions."""
    words, label = id_inputs(tf)
    rows = tf.cast(tf.shape(words)[0], tf.int64)
    places = tf.where(tf.greater_equal(words, 0))
    sparse = tf.SparseTensor(places, tf.reshape(tf.cast(words, tf.int64), [-1]), [rows, WIDTH])
    weights = tf.SparseTensor(
        places, 0.5 + tf.reshape(tf.cast(words, tf.float32), [-1]), [rows, WIDTH]
    )
    out = []
    for combiner in ("mean", "sqrtn", "sum"):
        table = tf.get_variable(
            combiner,
            [WORDS, 2],
            initializer=tf.random_normal_initializer(stddev=0.3, seed=3),
            partitioner=tf.fixed_size_partitioner(3),
        )
        out.append(tf.nn.embedding_lookup_sparse(table, sparse, weights, combiner=combiner))
    logits = layer(tf, 0.1 * tf.concat(out, 1), 3, "logits")
    return tf.train.FtrlOptimizer(0.1).minimize(tf.reduce_mean(cross_entropy(tf, logits, label)))


def scheduled_sampling(tf: Any) -> Any:
    """The chance of reading the own output grows in a variable that each step moves."""
    words, _ = id_inputs(tf)
    chance = still(tf, "sampling_probability", [], 0.1)
    table, cell = variable(tf, "embedding", [WORDS, 4]), variable(tf, "cell", [8, 4])
    out, state = variable(tf, "out", [4, WORDS]), tf.fill([tf.shape(words)[0], 4], 0.1)
    read, losses = words[:, 0], []
    for at in range(1, WIDTH):
        step = tf.concat([tf.nn.embedding_lookup(table, read), state], 1)
        state = tf.tanh(tf.matmul(step, cell))
        logits = tf.matmul(state, out)
        losses.append(cross_entropy(tf, logits, words[:, at]))
        own = tf.argmax(logits, 1, output_type=tf.int32)
        read = tf.where(tf.random_uniform([tf.shape(words)[0]]) < chance, own, words[:, at])
    gradients, variables = gradients_of(tf, tf.reduce_mean(tf.stack(losses)))
    with tf.control_dependencies([descent(tf, gradients, variables)]):
        return chance.assign(tf.minimum(chance + 0.1, 0.9))


PATTERNS = (
    Pattern(pooled_classifier, "equal", serve=ids),
    Pattern(decoder_with_lengths, "told", COUNTED, serve=ids, way=(("weight_by", "tokens:0"),)),
    Pattern(truncated_recurrence, "refused", "has a value for each row", serve=ids),
    Pattern(noise_contrastive, "equal", serve=ids),
    Pattern(sampled_softmax, "equal", serve=ids),
    Pattern(negative_sampling, "equal", serve=ids),
    Pattern(tied_table, "equal", serve=ids),
    Pattern(convolved_words, "equal", serve=ids),
    Pattern(summed_glove, "equal", serve=ids),
    Pattern(averaged_ids, "equal", serve=ids),
    Pattern(scheduled_sampling, "equal", serve=ids),
)
