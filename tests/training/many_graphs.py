"""On which graphs is it proved that the number of workers doesn't show? The tests' own, habits from
the wild, and strangers' checkpoints.

Rule: each case says where its checkpoint comes from and what batch number ``n`` is; nothing but
``n`` decides on a batch. Run as a program (``python -m tests.training.many_graphs NAME DIRECTORY``)
it makes a graph that the library of ``tests/graphs`` hasn't.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.graph.worker_graph import InputPort, WorkerGraph
from tests import forked
from tests.conftest import CORPUS
from tests.graph.traits import batch as wild_batch
from tests.graphs.feeds import feeds_for
from tests.graphs.library import CheckpointLibrary
from tests.training.ranks import worker_graph

Serve = Callable[[int], Mapping[str, Any]]


@dataclass(frozen=True)
class Source:
    """A checkpoint to train on: its graph as workers get it, and its batches."""

    prefix: Path
    graph: WorkerGraph
    serve: Serve


@dataclass(frozen=True)
class Case:
    """One graph.

    Attributes:
        origin: ``library``, ``numbers`` and ``wild`` are made, ``corpus`` lies in the folder of
            strangers' checkpoints.
    """

    origin: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        words = [
            self.origin,
            self.name.replace("/", "_"),
            *(f"{key}={value}" for key, value in self.options.items()),
        ]
        return "-".join(words)

    def source(self, library: CheckpointLibrary, scratch: Path) -> Source:
        """Make it or find it."""
        if self.origin == "library":
            prefix = library(self.name, **self.options)
            return Source(prefix, worker_graph(prefix), feeds_for(self.name))
        if self.origin == "corpus":
            prefix = CORPUS / self.name
            graph = worker_graph(prefix)
            return Source(prefix, graph, _synthetic(graph))
        done = forked.run("tests.training.many_graphs", self.name, scratch)
        assert done.returncode == 0, done.stderr[-3000:]
        made = json.loads(done.stdout.splitlines()[-1])
        prefix = Path(made["prefix"])
        graph = worker_graph(prefix, train_op=made["train_op"])
        return Source(prefix, graph, lambda number: {**wild_batch(number), **made["feeds"]})


LIBRARY = [
    Case("library", "mlp", {"optimizer": "adam"}),
    Case("library", "mlp", {"optimizer": "ftrl", "resource": True}),
    Case("library", "mlp", {"optimizer": "adam", "clip": True, "resource": True}),
    Case("library", "embedding", {"optimizer": "adam", "partitions": 3}),
    Case("library", "embedding", {"optimizer": "adagrad", "resource": True, "clip": True}),
    Case("library", "embedding", {"optimizer": "momentum"}),
    Case("library", "conv_bn", {"style": "group"}),
    Case("library", "conv_bn", {"style": "dependencies", "optimizer": "rmsprop"}),
    Case("library", "ema"),
    Case("library", "dropout"),
    Case("library", "dropout", {"resource": True}),
    Case("library", "lstm"),
    Case("library", "metrics"),
    Case("library", "mnist", {"units": 32, "optimizer": "rmsprop"}),
]
NUMBERS = [
    Case("numbers", name)
    for name in ("float16", "bfloat16", "complex64", "integers", "fixed_rows", "large")
]
WILD = [
    Case("wild", name)
    for name in (
        "recurrent",
        "word_vectors",
        "sparse_columns",
        "text_classes",
        "adversarial",
        "wasserstein",
        "q_learning",
        "soft_targets",
        "noisy_gradients",
        "loss_scaled",
        "hand_written_adam",
        "switched_normalisation",
        "contrib_normalisation",
        "tutorial_normalisation",
        "every_other_step",
        "gradient_layers",
        "decayed_weights",
        "scheduled",
        "tower_averages",
        "running_statistics",
    )
]


def corpus_cases() -> list[Case]:
    """The strangers' checkpoints that plain TensorFlow trains as they are; none where their folder
    is missing.
    """
    if not (CORPUS / "corpus.tsv").is_file():
        return []
    with (CORPUS / "corpus.tsv").open() as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    return [
        Case("corpus", row["entry"])
        for row in rows
        if row["plain_tf_result"].startswith("ok [as-is]")
    ]


def _synthetic(graph: WorkerGraph) -> Serve:
    """Batches by the collection's plain feed rule: unknown dimensions are 4, integers are below 2."""
    ports = [port for port in graph.inputs if not port.optional]

    def serve(number: int) -> Mapping[str, Any]:
        draw = np.random.default_rng(number)
        return {port.name: _drawn(draw, port) for port in ports}

    return serve


def _drawn(draw: np.random.Generator, port: InputPort) -> np.ndarray:
    whole = np.dtype(port.dtype).kind in "iu"
    if port.shape is None:
        shape = [4] if whole else []
    else:
        shape = [4 if size is None else size for size in port.shape]
    return np.asarray(draw.integers(0, 2, shape) if whole else draw.random(shape)).astype(
        port.dtype
    )


# -- what is made here, in a process with TensorFlow


def _made(name: str, directory: Path) -> dict[str, Any]:
    from tests.graph.wild import HABITS, make_habit

    if name in HABITS:
        made = make_habit(name, directory)
        return {"prefix": str(made.prefix), "train_op": made.ops, "feeds": made.feeds}
    import tensorflow

    tf = tensorflow.compat.v1
    tf.disable_resource_variables()
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(5)
        train = SPECIAL[name](tf) if name in SPECIAL else _of_type(tf, tf.as_dtype(name))
        session.run(tf.global_variables_initializer())
        prefix = tf.train.Saver().save(session, str(directory / "model.ckpt"), global_step=0)
    return {"prefix": prefix, "train_op": [train.name], "feeds": {}}


def _of_type(tf: Any, dtype: Any) -> Any:
    """Weights, gradients and optimizer slots of a rare type, plain and looked up; dropout in the
    same type where there is one.
    """
    counter = tf.train.get_or_create_global_step()
    x = tf.placeholder(tf.float32, [None, 4], name="x")
    y = tf.placeholder(tf.float32, [None], name="y")
    draw = np.random.default_rng(3)
    kernel, table = draw.normal(size=(4, 3)) * 0.3, draw.normal(size=(6, 3)) * 0.3
    weights = tf.get_variable(
        "weights", initializer=tf.cast(tf.constant(kernel), dtype), use_resource=False
    )
    rows = tf.get_variable(
        "rows", initializer=tf.cast(tf.constant(table), dtype), use_resource=True
    )
    ids = tf.cast(tf.floormod(tf.abs(y) * 10.0, 6.0), tf.int32)
    hidden = tf.matmul(tf.cast(x, dtype), weights) + tf.nn.embedding_lookup(rows, ids)
    real = tf.abs(hidden) if dtype.is_complex else tf.nn.dropout(hidden, rate=0.3)
    loss = tf.reduce_mean(tf.square(tf.reduce_sum(tf.cast(real, tf.float32), 1) - y), name="loss")

    class Momentum(tf.train.MomentumOptimizer):
        """TensorFlow's own refuses complex numbers, its kernels don't."""

        def _valid_dtypes(self) -> set[Any]:
            return {dtype, tf.float32}

    return Momentum(0.05, 0.9).minimize(loss, global_step=counter, name="train")


def _of_whole_numbers(tf: Any) -> Any:
    """Counters of several integer types beside the optimizer: of steps, of rows seen, of how often
    a word came.
    """
    counter = tf.train.get_or_create_global_step()
    x = tf.placeholder(tf.float32, [None, 4], name="x")
    y = tf.placeholder(tf.float32, [None], name="y")
    weights = tf.get_variable(
        "weights", [4, 1], use_resource=False, initializer=tf.zeros_initializer()
    )
    loss = tf.reduce_mean(tf.square(tf.squeeze(tf.matmul(x, weights), 1) - y), name="loss")
    applied = tf.train.FtrlOptimizer(0.1).minimize(loss, global_step=counter)
    epoch = tf.get_variable(
        "tens", [], tf.int32, tf.zeros_initializer(), trainable=False, use_resource=False
    )
    with tf.control_dependencies([applied]):
        return tf.group(applied, tf.assign_add(epoch, 10), name="train")


def _of_fixed_rows(tf: Any) -> Any:
    """Six rows a batch are written into the graph, though its placeholders leave them open."""
    x = tf.placeholder(tf.float32, [None, 4], name="x")
    y = tf.placeholder(tf.float32, [None], name="y")
    weights = tf.get_variable(
        "weights", [4, 1], use_resource=False, initializer=tf.zeros_initializer()
    )
    loss = tf.reduce_mean(tf.square(tf.reshape(tf.matmul(x, weights), [6]) - y), name="loss")
    return tf.train.MomentumOptimizer(0.1, 0.9).minimize(
        loss, global_step=tf.train.get_or_create_global_step()
    )


def _large(tf: Any) -> Any:
    """A weight of 1e4 that a step moves by some thousandths of a percent."""
    x = tf.placeholder(tf.float32, [None, 4], name="x")
    y = tf.placeholder(tf.float32, [None], name="y")
    weights = tf.get_variable(
        "weights", [4, 1], use_resource=False, initializer=tf.constant_initializer(1e4)
    )
    loss = tf.reduce_mean(tf.square(tf.squeeze(tf.matmul(x, weights - 1e4), 1) - y), name="loss")
    return tf.train.GradientDescentOptimizer(0.1).minimize(
        loss, global_step=tf.train.get_or_create_global_step()
    )


SPECIAL: dict[str, Callable[[Any], Any]] = {
    "integers": _of_whole_numbers,
    "fixed_rows": _of_fixed_rows,
    "large": _large,
}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_made(sys.argv[1], Path(sys.argv[2]))) + "\n")
