"""Recurrent nets and tables: which habits have sequences and words?"""

from __future__ import annotations

from typing import Any

from tests.graph.wild.parts import WIDTH, WORDS, Habit, dense, error, inputs, variable, words_of


def recurrent(tf: Any) -> Habit:
    """A recurrent net in a while loop, clipped by global norm, as char-rnn tutorials do."""
    x, y = inputs(tf)
    cell = variable(tf, "rnn/kernel", [9, 8])
    steps = tf.TensorArray(tf.float32, WIDTH).unstack(tf.transpose(x))

    def body(time: Any, state: Any) -> tuple[Any, Any]:
        return time + 1, tf.tanh(
            tf.matmul(tf.concat([tf.expand_dims(steps.read(time), 1), state], 1), cell)
        )

    _, state = tf.while_loop(lambda time, _: time < WIDTH, body, [0, tf.zeros([tf.shape(x)[0], 8])])
    cost = error(tf, y, dense(tf, state, 1, "softmaxLayer"))
    lr = tf.get_variable("lr", [], initializer=tf.constant_initializer(0.01), trainable=False)
    tvars = tf.trainable_variables()
    grads, _ = tf.clip_by_global_norm(tf.gradients(cost, tvars), 0.5)
    return Habit((tf.train.AdamOptimizer(lr).apply_gradients(zip(grads, tvars, strict=True)),))


def word_vectors(tf: Any) -> Habit:
    """Embeddings with duplicates, an average, Adam with clipping of IndexedSlices by norm."""
    x, y = inputs(tf)
    table = variable(tf, "embeddings", [WORDS, 3])
    vectors = tf.reduce_mean(tf.nn.embedding_lookup(table, words_of(tf, x)), 1)
    optimizer = tf.train.AdamOptimizer(0.05)
    pairs = optimizer.compute_gradients(error(tf, y, dense(tf, vectors, 1, "out")))
    clipped = [(tf.clip_by_norm(gradient, 0.3), variable) for gradient, variable in pairs]
    return Habit(
        (optimizer.apply_gradients(clipped, global_step=tf.train.get_or_create_global_step()),)
    )


def sparse_columns(tf: Any) -> Habit:
    """Partitioned tables read by embedding_lookup_sparse, wide part by Ftrl, deep part by Adagrad,
    the step counted by the sink.
    """
    x, y = inputs(tf)
    words = words_of(tf, x)
    rows = tf.shape(x, out_type=tf.int64)[0]
    where = tf.stack(
        [tf.repeat(tf.range(rows), WIDTH), tf.tile(tf.range(WIDTH, dtype=tf.int64), [rows])], 1
    )
    sparse = tf.SparseTensor(where, tf.reshape(tf.cast(words, tf.int64), [-1]), [rows, WIDTH])
    cut = tf.fixed_size_partitioner(2)
    wide = tf.get_variable(
        "linear/weights", [WORDS, 1], initializer=tf.zeros_initializer(), partitioner=cut
    )
    with tf.variable_scope("dnn", partitioner=cut):
        deep = variable(tf, "embedding_weights", [WORDS, 3])
    logits = tf.nn.embedding_lookup_sparse(wide, sparse, None, combiner="sum")
    hidden = tf.nn.relu(
        dense(
            tf, tf.nn.embedding_lookup_sparse(deep, sparse, None, combiner="mean"), 5, "dnn/hidden"
        )
    )
    loss = error(tf, y, logits + dense(tf, hidden, 1, "dnn/logits"))
    parts = [
        tf.train.FtrlOptimizer(0.1).minimize(loss, var_list=tf.trainable_variables("linear")),
        tf.train.AdagradOptimizer(0.1).minimize(loss, var_list=tf.trainable_variables("dnn")),
    ]
    with tf.control_dependencies([tf.group(*parts)]):
        return Habit((tf.assign_add(tf.train.get_or_create_global_step(), 1).op,))


def text_classes(tf: Any) -> Habit:
    """Strings through a lookup table into an embedding."""
    from tensorflow.python.ops import lookup_ops

    x, y = inputs(tf)
    table = lookup_ops.index_table_from_tensor(
        tf.constant([str(word) for word in range(WORDS - 2)]), num_oov_buckets=2
    )
    words = table.lookup(tf.as_string(words_of(tf, x)))
    vectors = tf.reduce_sum(tf.nn.embedding_lookup(variable(tf, "emb", [WORDS, 3]), words), 1)
    loss = error(tf, y, dense(tf, vectors, 1, "out"))
    return Habit(
        (tf.train.RMSPropOptimizer(0.01).minimize(loss, global_step=tf.train.create_global_step()),)
    )
