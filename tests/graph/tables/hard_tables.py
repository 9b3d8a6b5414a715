"""TF1 graphs whose tables are touched by row alone and can't be divided all the same, and some that
can although it looks hard: ``python -m tests.graph.tables.hard_tables DIRECTORY``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.graph.tables.graphs import ROWS, WIDTH


def _tables(tf: Any) -> tuple[Any, Any]:
    ids = tf.placeholder(tf.int64, [None], name="ids")
    start = tf.random_normal_initializer(stddev=0.3)
    return ids, tf.get_variable("table", [ROWS, WIDTH], initializer=start)


def _chained(tf: Any) -> Any:
    """The rows of one table say which rows of another are wanted."""
    ids, table = _tables(tf)
    rows = tf.nn.embedding_lookup(table, ids)
    second = tf.get_variable("second", [ROWS, 2])
    others = tf.nn.embedding_lookup(second, tf.cast(tf.abs(rows[:, 0]), tf.int64))
    return tf.reduce_sum(tf.square(rows)) + tf.reduce_sum(tf.square(others))


def _looped(tf: Any) -> Any:
    ids, table = _tables(tf)

    def body(number: Any, total: Any) -> tuple[Any, Any]:
        rows = tf.nn.embedding_lookup(table, ids + tf.cast(number, tf.int64))
        return number + 1, total + tf.reduce_sum(tf.square(rows))

    return tf.while_loop(lambda number, _: number < 3, body, [tf.constant(0), tf.constant(0.0)])[1]


def _scaled(tf: Any) -> Any:
    """What is looked up follows from the rows and from what each batch brings."""
    ids, table = _tables(tf)
    scale = tf.placeholder_with_default(1.0, [], name="scale")
    seen = tf.stop_gradient(tf.gather(table * scale, ids))
    return tf.reduce_sum(tf.square(tf.nn.embedding_lookup(table, ids) + seen))


def _written(tf: Any) -> Any:
    """Which rows are wanted is counted in a variable."""
    ids, table = _tables(tf)
    seen = tf.get_variable(
        "seen", [], tf.int64, tf.zeros_initializer(), trainable=False, use_resource=False
    )
    return tf.reduce_sum(tf.square(tf.gather(table, ids + tf.assign_add(seen, 1))))


def _after_a_write(tf: Any) -> Any:
    """A lookup waits for a counter; a group lets the counter wait for the gradients instead."""
    ids, table = _tables(tf)
    seen = tf.get_variable("seen", [], initializer=tf.zeros_initializer(), trainable=False)
    with tf.control_dependencies([tf.assign_add(seen, 1.0)]):
        return tf.reduce_sum(tf.square(tf.gather(table, tf.identity(ids))))


def _asked(tf: Any) -> Any:
    """Ids are brought into the table's rows, of which there are as many as it says."""
    ids, table = _tables(tf)
    rows = tf.raw_ops.Shape(input=table, out_type=tf.int64)[0]  # tf.shape would write the number
    return tf.reduce_sum(tf.square(tf.gather(table, ids % rows)))


def _by_coordinates(tf: Any) -> Any:
    ids, table = _tables(tf)
    places = tf.stack([ids, tf.zeros_like(ids)], 1)
    seen = tf.stop_gradient(tf.gather_nd(table, places))
    return tf.reduce_sum(tf.square(tf.gather(table, ids))) + tf.reduce_sum(seen)


def given(ids: Any) -> Any:
    """What the graph calls."""
    return ids


def _called_python(tf: Any) -> Any:
    ids, table = _tables(tf)
    drawn = tf.py_func(given, [ids], tf.int64)
    return tf.reduce_sum(tf.square(tf.gather(table, drawn)))


def _summarised(tf: Any) -> Any:
    """As canned estimators do, which say which fraction of a table is zero."""
    ids, table = _tables(tf)
    loss = tf.reduce_sum(tf.square(tf.gather(table, ids)))
    tf.summary.scalar("norm", tf.nn.l2_loss(table))
    tf.summary.scalar("loss", loss)
    return loss


GRAPHS: dict[str, Callable[[Any], Any]] = {
    "chained": _chained,
    "looped": _looped,
    "scaled": _scaled,
    "written": _written,
    "after_a_write": _after_a_write,
    "asked": _asked,
    "by_coordinates": _by_coordinates,
    "called_python": _called_python,
    "summarised": _summarised,
}


def main(directory: str) -> None:
    """Write each graph as ``NAME.meta``."""
    import tensorflow as tensorflow

    tf = tensorflow.compat.v1
    tf.disable_resource_variables()
    tf.disable_control_flow_v2()
    for name, make in GRAPHS.items():
        with tf.Graph().as_default():
            loss = make(tf)
            tf.train.AdagradOptimizer(0.1).minimize(loss, tf.train.get_or_create_global_step())
            tf.train.Saver()
            tf.train.export_meta_graph(str(Path(directory) / f"{name}.meta"))


if __name__ == "__main__":
    main(sys.argv[1])
