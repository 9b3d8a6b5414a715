"""Which TF1 input pipelines do the tests resume? Each as its author would have written it, over
data that it writes itself.

Rule: a row of the data is known by its first feature, its number, so that a test can say which rows
a batch holds. ``data`` is the directory that the maker writes its files into and reads them from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

FEATURES, CLASSES = 6, 3
FILES, ROWS_PER_FILE, BATCH = 4, 12, 4
ROWS = FILES * ROWS_PER_FILE


def _tf() -> Any:
    import tensorflow as tf

    return tf.compat.v1


def row(number: int) -> np.ndarray:
    """The features of a row, float32 ``[6]``: its number, then noise."""
    rest = np.random.default_rng(number).normal(size=FEATURES - 1)
    return np.concatenate([[number], rest]).astype(np.float32)


def arrays() -> tuple[np.ndarray, np.ndarray]:
    """All rows: features float32 ``[48, 6]`` and labels int64 ``[48]``."""
    return np.stack([row(number) for number in range(ROWS)]), np.arange(
        ROWS, dtype=np.int64
    ) % CLASSES


def write_text(data: Path) -> list[str]:
    """The rows as CSV, a label last, in files ``part-0.csv`` …; their paths."""
    data.mkdir(parents=True, exist_ok=True)
    paths = []
    for file in range(FILES):
        numbers = range(file * ROWS_PER_FILE, (file + 1) * ROWS_PER_FILE)
        lines = [
            ",".join([*(repr(float(value)) for value in row(number)), str(number % CLASSES)])
            for number in numbers
        ]
        path = data / f"part-{file}.csv"
        path.write_text("\n".join(lines) + "\n")
        paths.append(str(path))
    return paths


def write_records(data: Path) -> list[str]:
    """The rows as tf.train.Examples in TFRecord files; their paths."""
    tf = _tf()
    data.mkdir(parents=True, exist_ok=True)
    paths = []
    for file in range(FILES):
        path = str(data / f"part-{file}.tfrecord")
        with tf.io.TFRecordWriter(path) as writer:
            for number in range(file * ROWS_PER_FILE, (file + 1) * ROWS_PER_FILE):
                x = tf.train.Feature(float_list=tf.train.FloatList(value=row(number)))
                y = tf.train.Feature(int64_list=tf.train.Int64List(value=[number % CLASSES]))
                writer.write(
                    tf.train.Example(
                        features=tf.train.Features(feature={"x": x, "y": y})
                    ).SerializeToString()
                )
        paths.append(path)
    return paths


def _train(tf: Any, x: Any, y: Any) -> Any:
    counter = tf.train.get_or_create_global_step()
    x = tf.reshape(x, [-1, FEATURES]) * tf.constant([0.01] + [1.0] * (FEATURES - 1))
    kernel = tf.get_variable(
        "kernel", [FEATURES, CLASSES], initializer=tf.zeros_initializer(), use_resource=False
    )
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.reshape(y, [-1]), logits=tf.matmul(x, kernel)
    )
    return tf.train.GradientDescentOptimizer(0.05).minimize(
        tf.reduce_mean(losses, name="loss"), global_step=counter
    )


def _decode(tf: Any, line: Any) -> tuple[Any, Any]:
    columns = tf.decode_csv(line, [[0.0]] * FEATURES + [[0]])
    return tf.stack(columns[:FEATURES]), tf.cast(columns[FEATURES], tf.int64)


def _take(tf: Any, dataset: Any, iterator: str) -> tuple[Any, Any]:
    if iterator == "one_shot":
        return tf.data.make_one_shot_iterator(dataset).get_next()
    made = tf.data.make_initializable_iterator(dataset)
    tf.add_to_collection(tf.GraphKeys.TABLE_INITIALIZERS, made.initializer)
    return made.get_next()


def csv_lines(
    data: Path, iterator: str = "one_shot", epochs: int = -1, shuffle: int = 0, drop: bool = True
) -> Any:
    """Lines of CSV files, parsed in a map function; ``shuffle`` rows of buffer without a seed."""
    tf = _tf()
    dataset = tf.data.TextLineDataset(write_text(data)).map(
        lambda line: _decode(tf, line), num_parallel_calls=2
    )
    if shuffle:
        tf.set_random_seed(None)
        dataset = dataset.shuffle(shuffle)
    return _train(
        tf, *_take(tf, dataset.repeat(epochs).batch(BATCH, drop_remainder=drop), iterator)
    )


def records(data: Path, iterator: str = "initializable", epochs: int = -1) -> Any:
    """TFRecord files whose examples are parsed in a map function."""
    tf = _tf()
    features = {
        "x": tf.FixedLenFeature([FEATURES], tf.float32),
        "y": tf.FixedLenFeature([], tf.int64),
    }

    def parse(serialized: Any) -> tuple[Any, Any]:
        parsed = tf.parse_single_example(serialized, features)
        return parsed["x"], parsed["y"]

    dataset = tf.data.TFRecordDataset(write_records(data)).map(parse).repeat(epochs).batch(BATCH)
    return _train(tf, *_take(tf, dataset.prefetch(2), iterator))


def slices(data: Path, seed: int = 5, epochs: int = -1, iterator: str = "initializable") -> Any:
    """Arrays inside the graph, shuffled anew in each epoch."""
    tf = _tf()
    if seed < 0:
        tf.set_random_seed(None)
    dataset = tf.data.Dataset.from_tensor_slices(arrays()).shuffle(
        ROWS, seed=seed if seed >= 0 else None
    )
    return _train(tf, *_take(tf, dataset.repeat(epochs).batch(BATCH), iterator))


def interleave(
    data: Path, iterator: str = "initializable", pattern: bool = False, parallel: int = 0
) -> Any:
    """Files read side by side, two at a time."""
    tf = _tf()
    paths = write_text(data)
    names = tf.data.Dataset.list_files(str(data / "*.csv"), shuffle=False) if pattern else None
    names = tf.data.Dataset.from_tensor_slices(paths) if names is None else names
    if parallel:
        reading = tf.data.experimental.parallel_interleave(
            tf.data.TextLineDataset, cycle_length=2, sloppy=True
        )
        dataset = names.apply(reading)
    else:
        dataset = names.interleave(tf.data.TextLineDataset, cycle_length=2)
    return _train(
        tf, *_take(tf, dataset.map(lambda line: _decode(tf, line)).repeat().batch(BATCH), iterator)
    )


def reader_queue(
    data: Path, shuffle: bool = False, epochs: int = 0, many: bool = False, threads: int = 1
) -> Any:
    """Files through a filename queue, a reader and a batching queue, all filled by queue runners."""
    tf = _tf()
    names = tf.train.string_input_producer(
        write_text(data), shuffle=shuffle, num_epochs=epochs or None
    )
    x, y = _decode(tf, tf.TextLineReader().read(names)[1])
    if many:
        batch = tf.train.shuffle_batch(
            [x, y], BATCH, capacity=40, min_after_dequeue=16, num_threads=threads
        )
    else:
        batch = tf.train.batch([x, y], BATCH, num_threads=threads)
    return _train(tf, *batch)


def slice_queue(data: Path, shuffle: bool = True) -> Any:
    """Arrays inside the graph, row by row through a queue of their numbers."""
    tf = _tf()
    x, y = arrays()
    picked = tf.train.slice_input_producer([tf.constant(x), tf.constant(y)], shuffle=shuffle)
    return _train(tf, *tf.train.batch(picked, BATCH))


def fed_queue(data: Path) -> Any:
    """A queue that a Python thread fills through placeholders."""
    tf = _tf()
    x, y = (
        tf.placeholder(tf.float32, [FEATURES], name="row"),
        tf.placeholder(tf.int64, [], name="label"),
    )
    queue = tf.FIFOQueue(100, [tf.float32, tf.int64], [[FEATURES], []], name="examples")
    tf.add_to_collection("fill", queue.enqueue([x, y]))
    return _train(tf, *queue.dequeue_many(BATCH, name="take"))


def generated_rows() -> Iterator[tuple[np.ndarray, np.int64]]:
    """What the generator pipelines give: all rows in order."""
    for number in range(ROWS):
        yield row(number), np.int64(number % CLASSES)


def generator(data: Path) -> Any:
    """``Dataset.from_generator``."""
    tf = _tf()
    dataset = tf.data.Dataset.from_generator(
        generated_rows, (tf.float32, tf.int64), ([FEATURES], [])
    )
    return _train(tf, *_take(tf, dataset.repeat().batch(BATCH), "initializable"))


def double(x: np.ndarray) -> np.ndarray:
    """The augmentation of ``py_augment``: the features but the first, doubled."""
    return np.concatenate([x[:1], 2 * x[1:]]).astype(np.float32)


def py_augment(data: Path) -> Any:
    """A Python function within a map function."""
    tf = _tf()

    def augment(x: Any, y: Any) -> tuple[Any, Any]:
        return tf.ensure_shape(tf.py_func(double, [x], tf.float32), [FEATURES]), y

    dataset = tf.data.Dataset.from_tensor_slices(arrays()).map(augment).repeat().batch(BATCH)
    return _train(tf, *_take(tf, dataset, "initializable"))


def py_step(data: Path) -> Any:
    """A Python function outside any pipeline, between a placeholder and the model."""
    tf = _tf()
    x, y = tf.placeholder(tf.float32, [FEATURES], name="x"), tf.placeholder(tf.int64, [], name="y")
    return _train(tf, tf.ensure_shape(tf.py_func(double, [x], tf.float32), [FEATURES]), y)


PIPELINES: dict[str, Callable[..., Any]] = {
    "csv_lines": csv_lines,
    "records": records,
    "slices": slices,
    "interleave": interleave,
    "reader_queue": reader_queue,
    "slice_queue": slice_queue,
    "fed_queue": fed_queue,
    "generator": generator,
    "py_augment": py_augment,
    "py_step": py_step,
}


def pipeline_feeds(kind: str) -> Callable[[int], dict[str, np.ndarray]]:
    """What the pipelines' graphs are fed with: nothing, but for ``py_step``."""
    if kind == "py_step":
        return lambda step: {"x:0": row(step), "y:0": np.asarray(step % CLASSES)}
    return lambda step: {}


def fill(tf: Any, session: Any) -> None:
    """Put rows into the queue of ``fed_queue``, as its author's thread did."""
    for op in tf.get_collection("fill"):
        for number in range(ROWS):
            session.run(op, {"row:0": row(number), "label:0": number % CLASSES})
