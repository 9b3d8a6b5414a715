"""Counts, sums, extremes, rows and class numbers kept in variables beside the training: what does a group
make of them?
"""

from __future__ import annotations

from typing import Any

from tests.graph.patterns import WIDTH, Pattern
from tests.graph.silent.parts import beside, inputs, move, still, variable


def counted_examples(tf: Any) -> Any:
    """A count of examples, `assign_add(count, tf.shape(x)[0])`."""
    x, y = inputs(tf)
    count = still(tf, "count", [], 0, dtype=tf.int64)
    return beside(tf, x, y, tf.assign_add(count, tf.cast(tf.shape(x)[0], tf.int64)))


def fed_count(tf: Any) -> Any:
    """A count that is fed with each batch as a number (`num_examples`), added up in a variable."""
    x, y = inputs(tf)
    seen = still(tf, "seen", [], 0, dtype=tf.int32)
    return beside(tf, x, y, tf.assign_add(seen, tf.placeholder(tf.int32, [], name="num_examples")))


def counted_words(tf: Any) -> Any:
    """Counts of words, `scatter_add(counts, words, ones)`."""
    x, y = inputs(tf)
    words = tf.cast(tf.floormod(tf.abs(x[:, 0]) * 10.0, 5.0), tf.int32)
    return beside(tf, x, y, tf.scatter_add(still(tf, "counts", [5]), words, tf.ones_like(x[:, 0])))


def summed_rows(tf: Any) -> Any:
    """A running sum that is assigned, `assign(total, total + tf.reduce_sum(x, 0))`."""
    x, y = inputs(tf)
    total = still(tf, "total", [WIDTH])
    return beside(tf, x, y, tf.assign(total, total + tf.reduce_sum(x, 0)))


def vector_quantised(tf: Any) -> Any:
    """Moving counts and sums of a code book's rows (VQ-VAE's EMA)."""
    x, y = inputs(tf)
    book = variable(tf, "book", [3, WIDTH], trainable=False)
    counts, sums = still(tf, "counts", [3], 1.0), still(tf, "sums", [3, WIDTH])
    distances = tf.reduce_sum(tf.square(tf.expand_dims(x, 1) - book), 2)
    code = tf.one_hot(tf.argmin(distances, 1), 3)
    writes = [
        move(counts, tf.reduce_sum(code, 0)),
        move(sums, tf.matmul(code, x, transpose_a=True)),
    ]
    return beside(tf, x, y, *writes)


def streaming_metric(tf: Any) -> Any:
    """A metric of `tf.metrics` that is updated in the training step."""
    x, y = inputs(tf)
    return beside(tf, x, y, tf.metrics.mean(x)[1])


def running_largest(tf: Any) -> Any:
    """A running maximum, `assign(largest, tf.maximum(largest, tf.reduce_max(x)))`."""
    x, y = inputs(tf)
    largest = still(tf, "largest", [])
    return beside(tf, x, y, tf.assign(largest, tf.maximum(largest, tf.reduce_max(x))))


def moving_largest(tf: Any) -> Any:
    """A moving average of the batch's maximum, as quantised training keeps it."""
    x, y = inputs(tf)
    return beside(tf, x, y, move(still(tf, "largest", []), tf.reduce_max(x)))


def welford(tf: Any) -> Any:
    """A running mean by Welford's rule, weighted by the counts so far."""
    x, y = inputs(tf)
    count, mean = still(tf, "count", [], 1.0), still(tf, "mean", [WIDTH])
    rows = tf.cast(tf.shape(x)[0], tf.float32)
    now = tf.reduce_mean(x, 0)
    total = count + rows
    return beside(
        tf, x, y, tf.assign(mean, mean + (now - mean) * rows / total), tf.assign(count, total)
    )


def last_batch(tf: Any) -> Any:
    """The last batch's rows kept in a variable."""
    x, y = inputs(tf)
    last = tf.get_variable("last", initializer=tf.zeros([4, WIDTH]), trainable=False)
    return beside(tf, x, y, tf.assign(last, x, validate_shape=False))


def queue_of_keys(tf: Any) -> Any:
    """A queue of keys with a pointer (MoCo)."""
    x, y = inputs(tf)
    queue, pointer = still(tf, "queue", [16, WIDTH]), still(tf, "pointer", [], 0, dtype=tf.int32)
    rows = tf.shape(x)[0]
    places = tf.floormod(pointer + tf.range(rows), 16)
    with tf.control_dependencies([tf.scatter_update(queue, places, x)]):
        moved = tf.assign(pointer, tf.floormod(pointer + rows, 16))
    return beside(tf, x, y, moved)


def moved_pointer(tf: Any) -> Any:
    """A pointer into a ring that moves on by the batch's rows."""
    x, y = inputs(tf)
    pointer = still(tf, "pointer", [], 0, dtype=tf.int32)
    return beside(tf, x, y, tf.assign(pointer, tf.floormod(pointer + tf.shape(x)[0], 7)))


def class_number(tf: Any) -> Any:
    """The number of a class that the batch decides, kept in a variable."""
    x, y = inputs(tf)
    best = still(tf, "best", [], 0, dtype=tf.int64)
    return beside(tf, x, y, tf.assign(best, tf.argmax(tf.reduce_mean(x, 0))))


PATTERNS = (
    Pattern(counted_examples, "equal"),
    Pattern(fed_count, "equal", by_rank=(("num_examples:0", (3, 5, 8)),)),
    Pattern(counted_words, "equal"),
    Pattern(summed_rows, "equal"),
    Pattern(vector_quantised, "equal"),
    Pattern(streaming_metric, "equal"),
    Pattern(running_largest, "refused", "Maximum is the extreme of what was written"),
    Pattern(moving_largest, "told", "largest are written from the mean"),
    Pattern(welford, "equal"),
    Pattern(last_batch, "refused", "x:0 has a value for each row"),
    Pattern(queue_of_keys, "refused", "has a value for each row"),
    Pattern(moved_pointer, "equal"),
    Pattern(class_number, "equal"),
)
