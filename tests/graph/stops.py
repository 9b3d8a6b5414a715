"""Which ways of writing a training graph would a group refuse without need, or cut at a place that
isn't right?

Rule: as in ``silent``, of which this is the second half: each maker builds into the default graph
and returns the operation that trains; its first line is the pattern's name in the documentation.
"""

from __future__ import annotations

from typing import Any

from tests.graph.patterns import WIDTH, Pattern

WORDS = 5


def _inputs(tf: Any) -> tuple[Any, Any]:
    return tf.placeholder(tf.float32, [None, WIDTH], name="x"), tf.placeholder(
        tf.float32, [None], name="y"
    )


def _variable(tf: Any, name: str, shape: list[int], **options: Any) -> Any:
    initializer = tf.random_normal_initializer(stddev=0.3, seed=3)
    return tf.get_variable(name, shape, initializer=initializer, **options)


def _errors(tf: Any, x: Any, y: Any, w: Any) -> Any:
    return tf.reduce_mean(tf.square(tf.squeeze(tf.matmul(x, w), 1) - y))


def _words(tf: Any, x: Any, column: int) -> Any:
    return tf.cast(tf.floormod(tf.abs(x[:, column]) * 10.0, float(WORDS)), tf.int32)


def _looked_up(tf: Any, table: Any, x: Any, y: Any, columns: tuple[int, ...]) -> Any:
    found = [tf.nn.embedding_lookup(table, _words(tf, x, column)) for column in columns]
    return tf.reduce_mean(tf.square(tf.reduce_sum(tf.add_n(found), 1) - y))


def two_lookups(tf: Any) -> Any:
    """Two lookups in one table, its rows given to Adam."""
    x, y = _inputs(tf)
    table = _variable(tf, "table", [WORDS, 2])
    return tf.train.AdamOptimizer(0.1).minimize(_looked_up(tf, table, x, y, (0, 1)))


def _tower_rows(tf: Any, columns: tuple[int, ...], clip: bool) -> Any:
    """Rows of two towers put together and deduplicated as ELMo's `bilm` does it."""
    x, y = _inputs(tf)
    table = _variable(tf, "table", [WORDS, 2])
    halves = [(x[0::2], y[0::2]), (x[1::2], y[1::2])]
    optimizer = tf.train.AdagradOptimizer(0.1, initial_accumulator_value=1.0)
    towers = []
    for number, half in enumerate(halves):
        with tf.name_scope(f"tower_{number}"):
            loss = _looked_up(tf, table, *half, columns)
            towers.append(optimizer.compute_gradients(loss)[0][0])
    values = tf.concat([each.values for each in towers], 0) / 2.0
    unique, positions = tf.unique(tf.concat([each.indices for each in towers], 0))
    summed = tf.unsorted_segment_sum(values, positions, tf.shape(unique)[0])
    if clip:
        summed = tf.clip_by_global_norm([summed], 0.1)[0][0]
    rows = tf.IndexedSlices(summed, unique, dense_shape=towers[0].dense_shape)
    return optimizer.apply_gradients([(rows, table)])


def rows_of_towers(tf: Any) -> Any:
    """Rows of two towers put together, averaged, deduplicated and clipped (ELMo's `bilm`)."""
    return _tower_rows(tf, (0,), clip=True)


def rows_of_towers_with_two_lookups(tf: Any) -> Any:
    """The same where each tower has two lookups in the table."""
    return _tower_rows(tf, (0, 1), clip=False)


def rows_clipped_by_tower(tf: Any) -> Any:
    """Rows of two towers, clipped by value in each tower and put together then."""
    x, y = _inputs(tf)
    table = _variable(tf, "table", [WORDS, 2])
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    towers = []
    for number in (0, 1):
        with tf.name_scope(f"tower_{number}"):
            loss = _looked_up(tf, table, x[number::2], y[number::2], (0,))
            rows = optimizer.compute_gradients(loss)[0][0]
            towers.append((tf.clip_by_value(rows.values, -0.02, 0.02), rows.indices))
    values = tf.concat([each for each, _ in towers], 0)
    rows = tf.IndexedSlices(values, tf.concat([each for _, each in towers], 0))
    return optimizer.apply_gradients([(rows, table)])


def lookups_put_together_by_hand(tf: Any) -> Any:
    """Gradients of two lookups' results, put together by hand as rows of the table."""
    x, y = _inputs(tf)
    table = _variable(tf, "table", [WORDS, 2])
    ids = [_words(tf, x, column) for column in (0, 1)]
    found = [tf.nn.embedding_lookup(table, each) for each in ids]
    loss = tf.reduce_mean(tf.square(tf.reduce_sum(tf.add_n(found), 1) - y))
    values = tf.concat(tf.gradients(loss, found), 0)
    return tf.scatter_sub(table, tf.concat(ids, 0), 0.1 * values)


def flat_gradient(tf: Any) -> Any:
    """All gradients put into one vector, clipped by its norm, split and applied."""
    x, y = _inputs(tf)
    pairs, sizes, flat = _flattened(tf, x, y)
    parts = tf.split(flat * tf.minimum(1.0, 0.3 / tf.norm(flat)), sizes)
    shaped = [(tf.reshape(part, each.shape), each) for part, each in zip(parts, pairs, strict=True)]
    return tf.train.MomentumOptimizer(0.1, 0.9).apply_gradients(shaped)


def flat_gradient_into_assigns(tf: Any) -> Any:
    """All variables set from one vector, `theta - rate * flat_gradient` (TRPO's `SetFromFlat`)."""
    x, y = _inputs(tf)
    variables, sizes, flat = _flattened(tf, x, y)
    theta = tf.concat([tf.reshape(each, [-1]) for each in variables], 0)
    moved = theta - 0.1 * flat
    start, writes = 0, []
    for size, each in zip(sizes, variables, strict=True):
        writes.append(tf.assign(each, tf.reshape(moved[start : start + size], each.shape)))
        start += size
    return tf.group(*writes)


def flat_rows(tf: Any) -> Any:
    """One vector of a table's gradient and another's, of which a table's part goes back into rows."""
    x, y = _inputs(tf)
    table, w = _variable(tf, "table", [WORDS, 2]), _variable(tf, "w", [WIDTH, 1])
    loss = _looked_up(tf, table, x, y, (0, 1)) + _errors(tf, x, y, w)
    gradients = [tf.convert_to_tensor(each) for each in tf.gradients(loss, [table, w])]
    flat = tf.concat([tf.reshape(each, [-1]) for each in gradients], 0)
    parts = tf.split(flat / tf.maximum(1.0, tf.norm(flat)), [2 * WORDS, WIDTH])
    return tf.train.AdamOptimizer(0.1).apply_gradients(
        [(tf.reshape(parts[0], [WORDS, 2]), table), (tf.reshape(parts[1], [WIDTH, 1]), w)]
    )


def _flattened(tf: Any, x: Any, y: Any) -> tuple[list[Any], list[int], Any]:
    hidden, w = _variable(tf, "hidden", [WIDTH, 3]), _variable(tf, "w", [3, 1])
    loss = _errors(tf, tf.tanh(tf.matmul(x, hidden)), y, w)
    flat = tf.concat([tf.reshape(each, [-1]) for each in tf.gradients(loss, [hidden, w])], 0)
    return [hidden, w], [WIDTH * 3, 3], flat


def complex_variable(tf: Any) -> Any:
    """A complex variable, moved against its complex gradient."""
    x, y = _inputs(tf)
    w = tf.complex(_variable(tf, "start", [WIDTH, 1], trainable=False), 0.0)
    wave = tf.get_variable(
        "wave", initializer=tf.complex(tf.ones([WIDTH, 1]), 0.5), use_resource=True
    )
    out = tf.matmul(tf.cast(x, tf.complex64), wave + w)
    loss = tf.reduce_mean(tf.square(tf.abs(tf.squeeze(out, 1)) - y))
    return wave.assign_sub(0.1 * tf.gradients(loss, wave)[0])


def complex_gradient_clipped(tf: Any) -> Any:
    """A complex gradient of which the real part alone is applied, by an optimizer."""
    x, y = _inputs(tf)
    w = _variable(tf, "w", [WIDTH, 1])
    wave = tf.complex(w, tf.zeros([WIDTH, 1]))
    out = tf.matmul(tf.cast(x, tf.complex64), wave)
    loss = tf.reduce_mean(tf.square(tf.abs(tf.squeeze(out, 1)) - y))
    gradient = tf.gradients(loss, wave)[0]
    return tf.train.MomentumOptimizer(0.1, 0.9).apply_gradients([(tf.real(gradient), w)])


def looped_gradients(tf: Any) -> Any:
    """Gradients of microbatches summed inside of a while loop, applied after it."""
    x, y = _inputs(tf)
    w = _variable(tf, "w", [WIDTH, 1])

    def body(number: Any, summed: Any) -> Any:
        loss = _errors(tf, x[number::2], y[number::2], w)
        return number + 1, summed + tf.gradients(loss, w)[0]

    summed = tf.while_loop(lambda number, _: number < 2, body, [0, tf.zeros([WIDTH, 1])])[1]
    return tf.train.MomentumOptimizer(0.1, 0.9).apply_gradients([(summed / 2.0, w)])


def looped_largest(tf: Any) -> Any:
    """Of microbatches' gradients the largest is kept inside of a while loop."""
    x, y = _inputs(tf)
    w = _variable(tf, "w", [WIDTH, 1])

    def body(number: Any, kept: Any) -> Any:
        loss = _errors(tf, x[number::2], y[number::2], w)
        return number + 1, tf.maximum(kept, tf.gradients(loss, w)[0])

    kept = tf.while_loop(lambda number, _: number < 2, body, [0, tf.zeros([WIDTH, 1])])[1]
    return tf.train.MomentumOptimizer(0.1, 0.9).apply_gradients([(kept, w)])


def _one_of_two(tf: Any, predicate: Any, x: Any, y: Any) -> Any:
    w = _variable(tf, "w", [WIDTH, 1])

    def of(target: Any) -> Any:
        return tf.gradients(_errors(tf, x, target, w), w)[0]

    gradient = tf.cond(predicate, lambda: of(y), lambda: of(2.0 * y))
    return tf.train.MomentumOptimizer(0.1, 0.9).apply_gradients([(gradient, w)])


def gradient_of_either_loss(tf: Any) -> Any:
    """Gradients of one of two losses, computed in both branches of `tf.cond`."""
    x, y = _inputs(tf)
    return _one_of_two(tf, tf.placeholder(tf.bool, [], name="first"), x, y)


def gradient_of_the_loss_that_the_batch_chooses(tf: Any) -> Any:
    """The same where the batch decides which loss it is."""
    x, y = _inputs(tf)
    return _one_of_two(tf, tf.reduce_mean(y) > 0.0, x, y)


def gradient_of_either_loss_by_the_step(tf: Any) -> Any:
    """The same where the step's number decides which loss it is."""
    x, y = _inputs(tf)
    step = tf.train.get_or_create_global_step()
    trained = _one_of_two(tf, tf.equal(tf.floormod(step, 2), 0), x, y)
    with tf.control_dependencies([trained]):
        return tf.assign_add(step, 1)


def assigned(tf: Any) -> Any:
    """A step by hand, `assign(w, w - rate * gradient)`."""
    x, y = _inputs(tf)
    w = _variable(tf, "w", [WIDTH, 1])
    return tf.assign(w, w - 0.1 * tf.gradients(_errors(tf, x, y, w), w)[0])


def assigned_from_clipped(tf: Any) -> Any:
    """The same of a gradient that is clipped by its norm."""
    x, y = _inputs(tf)
    w = _variable(tf, "w", [WIDTH, 1])
    gradient = tf.clip_by_norm(tf.gradients(_errors(tf, x, y, w), w)[0], 0.3)
    return tf.assign(w, w - 0.1 * gradient)


def assigned_by_hand(tf: Any) -> Any:
    """`assign(w, w - rate * gradient)` of a backward pass by hand."""
    x, y = _inputs(tf)
    w = _variable(tf, "w", [WIDTH, 1])
    errors = tf.matmul(x, w) - tf.expand_dims(y, 1)
    gradient = tf.matmul(x, errors, transpose_a=True) * 2.0 / tf.cast(tf.shape(x)[0], tf.float32)
    return tf.assign(w, w - 0.1 * gradient)


def assigned_from_a_tape(tf: Any) -> Any:
    """`w.assign(w - rate * gradient)` of a tape's gradient."""
    import tensorflow

    x, y = _inputs(tf)
    w = _variable(tf, "w", [WIDTH, 1])
    with tensorflow.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(tf.squeeze(tf.matmul(x, w), 1) - y, name="loss"))
    return w.assign(w - 0.1 * tape.gradient(loss, w))


def assigned_from_a_clipped_tape(tf: Any) -> Any:
    """`w.assign(w - rate * gradient)` of a tape's gradient that is clipped by its norm."""
    import tensorflow

    x, y = _inputs(tf)
    w = _variable(tf, "w", [WIDTH, 1])
    with tensorflow.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(tf.squeeze(tf.matmul(x, w), 1) - y, name="loss"))
    return w.assign(w - 0.1 * tf.clip_by_norm(tape.gradient(loss, w), 0.3))


def flat_tape_clipped(tf: Any) -> Any:
    """A tape's gradients put into one vector, clipped by its norm, split and applied."""
    import tensorflow

    x, y = _inputs(tf)
    hidden, w = _variable(tf, "hidden", [WIDTH, 3]), _variable(tf, "w", [3, 1])
    with tensorflow.GradientTape() as tape:
        out = tf.matmul(tf.tanh(tf.matmul(x, hidden)), w)
        loss = tf.reduce_mean(tf.square(tf.squeeze(out, 1) - y, name="loss"))
    found = tape.gradient(loss, [hidden, w])
    flat = tf.concat([tf.reshape(each, [-1]) for each in found], 0)
    parts = tf.split(tf.clip_by_norm(flat, 0.3), [WIDTH * 3, 3])
    return tf.train.MomentumOptimizer(0.1, 0.9).apply_gradients(
        [(tf.reshape(parts[0], [WIDTH, 3]), hidden), (tf.reshape(parts[1], [3, 1]), w)]
    )


def subtracted_without_a_collection(tf: Any) -> Any:
    """`assign_sub(w, rate * gradient)` of a variable that isn't in the trainable collection."""
    x, y = _inputs(tf)
    w = _variable(tf, "w", [WIDTH, 1], trainable=False)
    return tf.assign_sub(w, 0.1 * tf.gradients(_errors(tf, x, y, w), w)[0])


def assigned_without_a_collection(tf: Any) -> Any:
    """`assign(w, w - rate * gradient)` of a variable that isn't in the trainable collection."""
    x, y = _inputs(tf)
    w = _variable(tf, "w", [WIDTH, 1], trainable=False)
    return tf.assign(w, w - 0.1 * tf.gradients(_errors(tf, x, y, w), w)[0])


UNNAMED = (
    "assigned",
    "assigned_by_hand",
    "assigned_from_a_tape",
    "assigned_without_a_collection",
    "subtracted_without_a_collection",
)
"""Of these the train operation is found without ``--train-op``."""

STOPS: dict[str, Pattern] = {
    pattern.build.__name__: pattern
    for pattern in (
        Pattern(two_lookups, "equal"),
        Pattern(rows_of_towers, "equal"),
        Pattern(rows_of_towers_with_two_lookups, "equal"),
        Pattern(rows_clipped_by_tower, "equal"),
        Pattern(lookups_put_together_by_hand, "equal"),
        Pattern(flat_gradient, "equal"),
        Pattern(flat_gradient_into_assigns, "equal"),
        Pattern(flat_rows, "equal"),
        Pattern(complex_variable, "equal"),
        Pattern(complex_gradient_clipped, "equal"),
        Pattern(looped_gradients, "equal"),
        Pattern(looped_largest, "refused", "Maximum"),
        Pattern(gradient_of_either_loss, "equal", feeds=(("first:0", True),)),
        Pattern(gradient_of_the_loss_that_the_batch_chooses, "refused", "branch"),
        Pattern(gradient_of_either_loss_by_the_step, "equal"),
        Pattern(assigned, "equal"),
        Pattern(assigned_from_clipped, "equal"),
        Pattern(assigned_by_hand, "equal"),
        Pattern(assigned_from_a_tape, "equal", functions=True),
        Pattern(assigned_from_a_clipped_tape, "refused", "stands before that", functions=True),
        Pattern(flat_tape_clipped, "refused", "stands before that", functions=True),
        Pattern(subtracted_without_a_collection, "equal"),
        Pattern(assigned_without_a_collection, "equal"),
    )
}
