"""Which ways of writing a training graph would a group get wrong without a word, if nobody looked?

Rule: as published code does it. Each maker builds into the default graph and returns the operation
that trains; its first line is the pattern's name in the documentation.
"""

from __future__ import annotations

from typing import Any

from tests.graph.patterns import WIDTH, Pattern

TRAINING = (("is_training:0", True),)


def _inputs(tf: Any) -> tuple[Any, Any]:
    return tf.placeholder(tf.float32, [None, WIDTH], name="x"), tf.placeholder(
        tf.float32, [None], name="y"
    )


def _variable(tf: Any, name: str, shape: list[int], **options: Any) -> Any:
    initializer = tf.random_normal_initializer(stddev=0.3, seed=3)
    return tf.get_variable(name, shape, initializer=initializer, **options)


def _still(tf: Any, name: str, shape: list[int], value: float = 0.0, **options: Any) -> Any:
    """A variable that isn't trained."""
    initializer = tf.constant_initializer(value)
    return tf.get_variable(name, shape, initializer=initializer, trainable=False, **options)


def _loss(tf: Any, x: Any, y: Any, name: str = "w") -> Any:
    w = _variable(tf, name, [int(x.shape[-1]), 1])
    return tf.reduce_mean(tf.square(tf.squeeze(tf.matmul(x, w), 1) - y))


def _train(tf: Any, loss: Any) -> Any:
    return tf.train.GradientDescentOptimizer(0.1).minimize(loss)


def _move(moving: Any, value: Any, decay: float = 0.9) -> Any:
    from tensorflow.python.training import moving_averages

    return moving_averages.assign_moving_average(moving, value, decay, zero_debias=False)


def _hidden(tf: Any, x: Any) -> Any:
    return tf.matmul(x, _variable(tf, "hidden", [WIDTH, WIDTH]))


def conditional_moments(tf: Any) -> Any:
    """Batch norm of which the moments are taken, and their moving averages written, inside of
    `tf.cond(is_training, …)` (tflearn's layer)."""
    x, y = _inputs(tf)
    hidden = _hidden(tf, x)
    mean, variance = _still(tf, "mean", [WIDTH]), _still(tf, "variance", [WIDTH], 1.0)

    def update() -> Any:
        found = tf.nn.moments(hidden, [0])
        writes = [_move(mean, found[0]), _move(variance, found[1])]
        with tf.control_dependencies(writes):
            return tf.identity(found[0]), tf.identity(found[1])

    taken = tf.cond(
        tf.placeholder(tf.bool, [], name="is_training"), update, lambda: (mean, variance)
    )
    return _train(tf, _loss(tf, tf.nn.batch_normalization(hidden, *taken, None, None, 1e-3), y))


def conditional_fused(tf: Any) -> Any:
    """Fused batch norm whole inside of `tf.cond(is_training, …)`, its moving averages too."""
    x, y = _inputs(tf)
    hidden = tf.reshape(_hidden(tf, x), [-1, 1, 1, WIDTH])
    scale, offset = _still(tf, "scale", [WIDTH], 1.0), _still(tf, "offset", [WIDTH])
    mean, variance = _still(tf, "mean", [WIDTH]), _still(tf, "variance", [WIDTH], 1.0)

    def update() -> Any:
        out, now, spread = tf.nn.fused_batch_norm(hidden, scale, offset, is_training=True)
        with tf.control_dependencies([_move(mean, now), _move(variance, spread)]):
            return tf.identity(out)

    def use() -> Any:
        return tf.nn.fused_batch_norm(hidden, scale, offset, mean, variance, is_training=False)[0]

    out = tf.cond(tf.placeholder(tf.bool, [], name="is_training"), update, use)
    return _train(tf, _loss(tf, tf.reshape(out, [-1, WIDTH]), y))


def conditional_average(tf: Any) -> Any:
    """An `ExponentialMovingAverage` of batch moments applied inside of `tf.cond`, and read on the
    other branch."""
    x, y = _inputs(tf)
    hidden = _hidden(tf, x)
    mean, variance = tf.nn.moments(hidden, [0])
    average = tf.train.ExponentialMovingAverage(0.5)

    def update() -> Any:
        with tf.control_dependencies([average.apply([mean, variance])]):
            return tf.identity(mean), tf.identity(variance)

    def use() -> Any:
        return average.average(mean), average.average(variance)

    taken = tf.cond(tf.placeholder(tf.bool, [], name="is_training"), update, use)
    return _train(tf, _loss(tf, tf.nn.batch_normalization(hidden, *taken, None, None, 1e-3), y))


def nested_conditional_moments(tf: Any) -> Any:
    """Batch norm inside of a conditional inside of another."""
    x, y = _inputs(tf)
    hidden = _hidden(tf, x)
    mean = _still(tf, "mean", [WIDTH])
    frozen = tf.placeholder(tf.bool, [], name="frozen")

    def update() -> Any:
        now = tf.reduce_mean(hidden, 0)
        with tf.control_dependencies([_move(mean, now)]):
            return tf.identity(now)

    def outer() -> Any:
        return tf.cond(frozen, lambda: tf.identity(mean), update)

    taken = tf.cond(
        tf.placeholder(tf.bool, [], name="is_training"), outer, lambda: tf.identity(mean)
    )
    return _train(tf, _loss(tf, hidden - taken, y))


def idle_conditional_moments(tf: Any) -> Any:
    """The same batch norm trained with `is_training` false: its branch writes nothing."""
    return conditional_moments(tf)


def _beside(tf: Any, x: Any, y: Any, *writes: Any) -> Any:
    """A step that trains and does these writes too."""
    return tf.group(_train(tf, _loss(tf, x, y)), *writes)


def counted_examples(tf: Any) -> Any:
    """A count of examples, `assign_add(count, tf.shape(x)[0])`."""
    x, y = _inputs(tf)
    count = _still(tf, "count", [], 0, dtype=tf.int64)
    return _beside(tf, x, y, tf.assign_add(count, tf.cast(tf.shape(x)[0], tf.int64)))


def fed_count(tf: Any) -> Any:
    """A count that is fed with each batch as a number (`num_examples`), added up in a variable."""
    x, y = _inputs(tf)
    seen = _still(tf, "seen", [], 0, dtype=tf.int32)
    return _beside(tf, x, y, tf.assign_add(seen, tf.placeholder(tf.int32, [], name="num_examples")))


def counted_words(tf: Any) -> Any:
    """Counts of words, `scatter_add(counts, words, ones)`."""
    x, y = _inputs(tf)
    words = tf.cast(tf.floormod(tf.abs(x[:, 0]) * 10.0, 5.0), tf.int32)
    return _beside(
        tf, x, y, tf.scatter_add(_still(tf, "counts", [5]), words, tf.ones_like(x[:, 0]))
    )


def summed_rows(tf: Any) -> Any:
    """A running sum that is assigned, `assign(total, total + tf.reduce_sum(x, 0))`."""
    x, y = _inputs(tf)
    total = _still(tf, "total", [WIDTH])
    return _beside(tf, x, y, tf.assign(total, total + tf.reduce_sum(x, 0)))


def vector_quantised(tf: Any) -> Any:
    """Moving counts and sums of a code book's rows (VQ-VAE's EMA)."""
    x, y = _inputs(tf)
    book = _variable(tf, "book", [3, WIDTH], trainable=False)
    counts, sums = _still(tf, "counts", [3], 1.0), _still(tf, "sums", [3, WIDTH])
    distances = tf.reduce_sum(tf.square(tf.expand_dims(x, 1) - book), 2)
    code = tf.one_hot(tf.argmin(distances, 1), 3)
    writes = [
        _move(counts, tf.reduce_sum(code, 0)),
        _move(sums, tf.matmul(code, x, transpose_a=True)),
    ]
    return _beside(tf, x, y, *writes)


def streaming_metric(tf: Any) -> Any:
    """A metric of `tf.metrics` that is updated in the training step."""
    x, y = _inputs(tf)
    return _beside(tf, x, y, tf.metrics.mean(x)[1])


def running_largest(tf: Any) -> Any:
    """A running maximum, `assign(largest, tf.maximum(largest, tf.reduce_max(x)))`."""
    x, y = _inputs(tf)
    largest = _still(tf, "largest", [])
    return _beside(tf, x, y, tf.assign(largest, tf.maximum(largest, tf.reduce_max(x))))


def moving_largest(tf: Any) -> Any:
    """A moving average of the batch's maximum, as quantised training keeps it."""
    x, y = _inputs(tf)
    return _beside(tf, x, y, _move(_still(tf, "largest", []), tf.reduce_max(x)))


def welford(tf: Any) -> Any:
    """A running mean by Welford's rule, weighted by the counts so far."""
    x, y = _inputs(tf)
    count, mean = _still(tf, "count", [], 1.0), _still(tf, "mean", [WIDTH])
    rows = tf.cast(tf.shape(x)[0], tf.float32)
    now = tf.reduce_mean(x, 0)
    total = count + rows
    return _beside(
        tf, x, y, tf.assign(mean, mean + (now - mean) * rows / total), tf.assign(count, total)
    )


def last_batch(tf: Any) -> Any:
    """The last batch's rows kept in a variable."""
    x, y = _inputs(tf)
    last = tf.get_variable("last", initializer=tf.zeros([4, WIDTH]), trainable=False)
    return _beside(tf, x, y, tf.assign(last, x, validate_shape=False))


def queue_of_keys(tf: Any) -> Any:
    """A queue of keys with a pointer (MoCo)."""
    x, y = _inputs(tf)
    queue, pointer = _still(tf, "queue", [16, WIDTH]), _still(tf, "pointer", [], 0, dtype=tf.int32)
    rows = tf.shape(x)[0]
    places = tf.floormod(pointer + tf.range(rows), 16)
    with tf.control_dependencies([tf.scatter_update(queue, places, x)]):
        moved = tf.assign(pointer, tf.floormod(pointer + rows, 16))
    return _beside(tf, x, y, moved)


def moved_pointer(tf: Any) -> Any:
    """A pointer into a ring that moves on by the batch's rows."""
    x, y = _inputs(tf)
    pointer = _still(tf, "pointer", [], 0, dtype=tf.int32)
    return _beside(tf, x, y, tf.assign(pointer, tf.floormod(pointer + tf.shape(x)[0], 7)))


def class_number(tf: Any) -> Any:
    """The number of a class that the batch decides, kept in a variable."""
    x, y = _inputs(tf)
    best = _still(tf, "best", [], 0, dtype=tf.int64)
    return _beside(tf, x, y, tf.assign(best, tf.argmax(tf.reduce_mean(x, 0))))


def horovod(tf: Any) -> Any:
    """Horovod's optimizer, built on four processes: all-reduced, divided by `size()`."""
    x, y = _inputs(tf)
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    pairs = []
    for number, (gradient, variable) in enumerate(optimizer.compute_gradients(_loss(tf, x, y))):
        reduced = tf.identity(gradient, name=f"HorovodAllreduce_{number}")
        pairs.append((tf.div(reduced, tf.cast(4, tf.float32)), variable))
    return optimizer.apply_gradients(pairs)


def _by_hand(tf: Any, x: Any, y: Any, w: Any) -> Any:
    """The gradient of the mean of squared errors, written by hand."""
    errors = tf.matmul(x, w) - tf.expand_dims(y, 1)
    return tf.matmul(x, errors, transpose_a=True) * 2.0 / tf.cast(tf.shape(x)[0], tf.float32)


def _taped(tf: Any, x: Any, y: Any, w: Any) -> Any:
    import tensorflow

    with tensorflow.GradientTape() as tape:
        loss = tf.reduce_mean(
            tf.square(tf.squeeze(tf.matmul(x, w), 1) - y, name="loss"), name="mean"
        )
    return tape.gradient(loss, w)


def _applied(tf: Any, gradient: Any, w: Any) -> Any:
    return tf.train.MomentumOptimizer(0.1, 0.9).apply_gradients([(gradient, w)])


def hand_written_backward(tf: Any) -> Any:
    """A backward pass by hand, its gradients handed to an optimizer."""
    x, y = _inputs(tf)
    w = _variable(tf, "w", [WIDTH, 1])
    return _applied(tf, _by_hand(tf, x, y, w), w)


def clipped_by_hand(tf: Any) -> Any:
    """A backward pass by hand, its gradients clipped by their norm."""
    x, y = _inputs(tf)
    w = _variable(tf, "w", [WIDTH, 1])
    return _applied(tf, tf.clip_by_norm(_by_hand(tf, x, y, w), 0.3), w)


def taped_backward(tf: Any) -> Any:
    """`tf.GradientTape` in a graph, its gradients handed to an optimizer."""
    x, y = _inputs(tf)
    w = _variable(tf, "w", [WIDTH, 1])
    return _applied(tf, _taped(tf, x, y, w), w)


def clipped_tape(tf: Any) -> Any:
    """`tf.GradientTape` in a graph, its gradients clipped by the global norm."""
    x, y = _inputs(tf)
    w = _variable(tf, "w", [WIDTH, 1])
    return _applied(tf, tf.clip_by_global_norm([_taped(tf, x, y, w)], 0.3)[0][0], w)


def clipped_in_a_scope(tf: Any) -> Any:
    """Clipping in an author's scope that is called as TensorFlow calls its own, `train/loss_grad`."""
    x, y = _inputs(tf)
    w = _variable(tf, "w", [WIDTH, 1])
    gradient = _taped(tf, x, y, w)
    with tf.name_scope("train/loss_grad"):
        gradient = tf.clip_by_value(gradient, -0.1, 0.1)
    return _applied(tf, gradient, w)


def own_momentum(tf: Any) -> Any:
    """Momentum by hand over a tape's gradients."""
    x, y = _inputs(tf)
    w, moment = _variable(tf, "w", [WIDTH, 1]), _still(tf, "moment", [WIDTH, 1])
    moved = 0.9 * moment + _taped(tf, x, y, w)
    return tf.group(tf.assign(moment, moved), tf.assign_sub(w, 0.1 * moved))


def own_adam(tf: Any) -> Any:
    """Adam by hand over a tape's gradients."""
    x, y = _inputs(tf)
    w = _variable(tf, "w", [WIDTH, 1])
    first, second = _still(tf, "first", [WIDTH, 1]), _still(tf, "second", [WIDTH, 1])
    gradient = _taped(tf, x, y, w)
    m, v = 0.9 * first + 0.1 * gradient, 0.99 * second + 0.01 * tf.square(gradient)
    return tf.group(
        tf.assign(first, m),
        tf.assign(second, v),
        tf.assign_sub(w, 0.1 * m / (tf.sqrt(v) + 1e-6)),
    )


def feedback_alignment(tf: Any) -> Any:
    """Gradients of activations, turned into a variable's by hand (feedback alignment)."""
    x, y = _inputs(tf)
    w = _variable(tf, "w", [WIDTH, 3])
    hidden = tf.matmul(x, w)
    loss = tf.reduce_mean(tf.square(tf.reduce_sum(hidden, 1) - y))
    back = tf.matmul(tf.gradients(loss, hidden)[0], tf.constant([[1.0, 0.5, 0.0]] * 3))
    return tf.train.GradientDescentOptimizer(0.1).apply_gradients(
        [(tf.matmul(x, back, transpose_a=True), w)]
    )


def step_in_a_function(tf: Any) -> Any:
    """The whole train step inside of a `tf.function` that the graph calls."""
    import tensorflow

    x, y = _inputs(tf)
    w = _variable(tf, "w", [WIDTH, 1])

    @tensorflow.function
    def step(x: Any, y: Any) -> Any:
        w.assign_sub(0.1 * _by_hand(tf, x, y, w))
        return tf.constant(0)

    return step(x, y)


def step_in_a_conditional(tf: Any) -> Any:
    """The whole train step inside of a `tf.cond` of functional control flow (`If`)."""
    x, y = _inputs(tf)
    w = _variable(tf, "w", [WIDTH, 1])

    def step() -> Any:
        with tf.control_dependencies([w.assign_sub(0.1 * _by_hand(tf, x, y, w))]):
            return tf.constant(1)

    return tf.cond(tf.placeholder(tf.bool, [], name="is_training"), step, lambda: tf.constant(0))


def target_copied_by_a_function(tf: Any) -> Any:
    """A target network that a function copies before the step reads it."""
    import tensorflow

    x, y = _inputs(tf)
    w, target = _variable(tf, "w", [WIDTH, 1]), _still(tf, "target", [WIDTH, 1])

    @tensorflow.function
    def copy() -> Any:
        target.assign(w)
        return tf.constant(0)

    with tf.control_dependencies([copy()]):
        wanted = tf.squeeze(tf.matmul(x, target.read_value()), 1)
    loss = tf.reduce_mean(tf.square(tf.squeeze(tf.matmul(x, w), 1) - y - 0.5 * wanted))
    return tf.train.GradientDescentOptimizer(0.1).minimize(loss)


PATTERNS: dict[str, Pattern] = {
    pattern.build.__name__: pattern
    for pattern in (
        Pattern(conditional_moments, "same", feeds=TRAINING, alike=True),
        Pattern(conditional_fused, "same", apart=("variance",), feeds=TRAINING, alike=True),
        Pattern(conditional_average, "same", feeds=TRAINING, alike=True),
        Pattern(
            nested_conditional_moments,
            "same",
            feeds=(*TRAINING, ("frozen:0", False)),
            alike=True,
        ),
        Pattern(idle_conditional_moments, "same", feeds=(("is_training:0", False),)),
        Pattern(counted_examples, "same"),
        Pattern(fed_count, "same", by_rank=(("num_examples:0", (3, 5, 8)),)),
        Pattern(counted_words, "same"),
        Pattern(summed_rows, "same"),
        Pattern(vector_quantised, "same"),
        Pattern(streaming_metric, "same"),
        Pattern(running_largest, "refused", "Maximum is the extreme of what was written"),
        Pattern(moving_largest, "differs", "largest are written from the mean", ("largest",)),
        Pattern(welford, "refused", "grow differently with the batch"),
        Pattern(last_batch, "refused", "x:0 has a value for each row"),
        Pattern(queue_of_keys, "refused", "has a value for each row"),
        Pattern(moved_pointer, "refused", "FloorMod of a mean"),
        Pattern(class_number, "refused", "ArgMax"),
        Pattern(hand_written_backward, "same"),
        Pattern(clipped_by_hand, "refused", "stands before that"),
        Pattern(taped_backward, "same", functions=True),
        Pattern(clipped_tape, "refused", "stands before that", functions=True),
        Pattern(clipped_in_a_scope, "refused", "stands before that", functions=True),
        Pattern(own_momentum, "same", functions=True),
        Pattern(own_adam, "refused", "stands before that", functions=True),
        Pattern(feedback_alignment, "same"),
        Pattern(step_in_a_function, "refused", "inside of a function", functions=True),
        Pattern(
            step_in_a_conditional,
            "refused",
            "inside of a function",
            feeds=TRAINING,
            functions=True,
        ),
        Pattern(target_copied_by_a_function, "refused", "reads target after", functions=True),
        Pattern(horovod, "same", renamed=(("HorovodAllreduce", "HorovodAllreduce"),)),
    )
}
