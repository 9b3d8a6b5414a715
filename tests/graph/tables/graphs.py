"""TF1 graphs with tables, for what is asked of tables: which are touched by row alone, and how do
they grow?

Rule: each graph is one line of a table of makers, written as TF1 code of its kind is written; all
are made by one process.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROWS, WIDTH = 20, 4


def _tf() -> Any:
    import tensorflow as tf

    return tf.compat.v1


def _table(tf: Any, resource: bool, parts: int = 0, name: str = "table") -> Any:
    return tf.get_variable(
        name,
        [ROWS, WIDTH],
        initializer=tf.random_normal_initializer(stddev=0.3),
        use_resource=resource,
        partitioner=tf.fixed_size_partitioner(parts) if parts else None,
    )


def _lazy_adam(tf: Any) -> Any:
    """``contrib.opt.LazyAdamOptimizer``, from the public source of TensorFlow 1.15."""

    class LazyAdam(tf.train.AdamOptimizer):
        def _rows(self, grad: Any, var: Any, indices: Any, resource: bool) -> Any:
            power1, power2 = self._get_beta_accumulators()
            base = var.dtype.base_dtype
            rate = tf.cast(self._lr_t, base)
            beta1, beta2 = tf.cast(self._beta1_t, base), tf.cast(self._beta2_t, base)
            rate = rate * tf.sqrt(1 - tf.cast(power2, base)) / (1 - tf.cast(power1, base))
            m, v = self.get_slot(var, "m"), self.get_slot(var, "v")
            m_rows = beta1 * tf.gather(m, indices) + (1 - beta1) * grad
            v_rows = beta2 * tf.gather(v, indices) + (1 - beta2) * tf.square(grad)
            delta = rate * m_rows / (tf.sqrt(v_rows) + tf.cast(self._epsilon_t, base))
            if resource:
                raw = tf.raw_ops
                kept = [
                    raw.ResourceScatterUpdate(resource=m.handle, indices=indices, updates=m_rows),
                    raw.ResourceScatterUpdate(resource=v.handle, indices=indices, updates=v_rows),
                    raw.ResourceScatterSub(resource=var.handle, indices=indices, updates=delta),
                ]
            else:
                kept = [
                    tf.scatter_update(m, indices, m_rows),
                    tf.scatter_update(v, indices, v_rows),
                    tf.scatter_sub(var, indices, delta),
                ]
            return tf.group(*kept)

        def _apply_sparse(self, grad: Any, var: Any) -> Any:
            return self._rows(grad.values, var, grad.indices, False)

        def _resource_apply_sparse(self, grad: Any, var: Any, indices: Any) -> Any:
            return self._rows(grad, var, indices, True)

    return LazyAdam(0.05)


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "sgd": lambda tf: tf.train.GradientDescentOptimizer(0.05),
    "momentum": lambda tf: tf.train.MomentumOptimizer(0.05, 0.9),
    "adagrad": lambda tf: tf.train.AdagradOptimizer(0.05),
    "adam": lambda tf: tf.train.AdamOptimizer(0.05),
    "lazy_adam": _lazy_adam,
    "ftrl": lambda tf: tf.train.FtrlOptimizer(0.05, l1_regularization_strength=0.01),
    "rmsprop": lambda tf: tf.train.RMSPropOptimizer(0.05, momentum=0.5),
    "centered": lambda tf: tf.train.RMSPropOptimizer(0.05, centered=True),
    "proximal": lambda tf: tf.train.ProximalAdagradOptimizer(0.05),
    "adadelta": lambda tf: tf.train.AdadeltaOptimizer(0.05),
}


def looked_up(
    optimizer: str = "sgd",
    resource: bool = False,
    parts: int = 0,
    strategy: str = "mod",
    ids_dtype: str = "int64",
    lookup: str = "embedding_lookup",
    extra: str = "",
    decayed_rate: bool = False,
) -> None:
    """A table that is looked up, a dense layer behind it, and one of ``EXTRAS`` on the table."""
    tf = _tf()
    step = tf.train.get_or_create_global_step()
    ids = tf.placeholder(ids_dtype, [None], name="ids")
    table = _table(tf, resource, parts)
    if lookup == "embedding_lookup":
        rows = tf.nn.embedding_lookup(table, ids, partition_strategy=strategy)
    elif lookup == "max_norm":
        rows = tf.nn.embedding_lookup(table, ids, partition_strategy=strategy, max_norm=1.0)
    elif lookup == "sparse":
        sparse = tf.sparse.SparseTensor(
            tf.placeholder(tf.int64, [None, 2], name="places"), tf.cast(ids, tf.int64), [8, 4]
        )
        rows = tf.nn.embedding_lookup_sparse(
            table, sparse, None, partition_strategy=strategy, combiner="mean"
        )
    elif lookup == "safe":
        sparse = tf.sparse.SparseTensor(
            tf.placeholder(tf.int64, [None, 2], name="places"), tf.cast(ids, tf.int64), [8, 4]
        )
        rows = tf.nn.safe_embedding_lookup_sparse(list(table) if parts else [table], sparse)
    else:
        rows = tf.gather(table, ids) + tf.nn.embedding_lookup(table, ids + 1)
    dense = tf.get_variable("out", [WIDTH, 3], use_resource=resource)
    loss = tf.reduce_sum(tf.square(tf.matmul(rows, dense)))
    rate: Any = EXTRAS[extra](tf, table, loss) if extra else None
    loss = loss if rate is None else loss + rate
    chosen = OPTIMIZERS[optimizer](tf)
    if decayed_rate:
        chosen = tf.train.AdamOptimizer(tf.train.exponential_decay(0.1, step, 10, 0.9))
    train = chosen.minimize(loss, global_step=step)
    if extra == "average":
        with tf.control_dependencies([train]):
            tf.train.ExponentialMovingAverage(0.9).apply([table])


def sampled(resource: bool = False, parts: int = 0) -> None:
    """word2vec with a sampled softmax: a table of rows and one of numbers."""
    tf = _tf()
    tf.train.get_or_create_global_step()
    ids = tf.placeholder(tf.int32, [8], name="ids")
    labels = tf.placeholder(tf.int64, [8, 1], name="labels")
    words = _table(tf, resource, name="words")
    weights = _table(tf, resource, parts, name="softmax")
    biases = tf.get_variable("biases", [ROWS], use_resource=resource)
    loss = tf.reduce_mean(
        tf.nn.sampled_softmax_loss(
            weights, biases, labels, tf.nn.embedding_lookup(words, ids), 5, ROWS
        )
    )
    tf.train.AdagradOptimizer(0.1).minimize(loss)
    unit = words / tf.sqrt(tf.reduce_sum(tf.square(words), 1, keepdims=True))
    full = tf.matmul(tf.nn.embedding_lookup(unit, ids), unit, transpose_b=True)
    tf.identity(full, name="similarity")  # not a part of the step


EXTRAS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "decay": lambda tf, table, loss: 0.01 * tf.nn.l2_loss(table),
    "norm": lambda tf, table, loss: tf.square(tf.nn.l2_loss(table)),
    "softmax": lambda tf, table, loss: tf.reduce_sum(tf.matmul(table, table, transpose_b=True)),
    "mean": lambda tf, table, loss: tf.reduce_mean(table),
    "column": lambda tf, table, loss: tf.reduce_sum(tf.gather(table, [0], axis=1)),
    "mask": lambda tf, table, loss: tf.reduce_sum(
        tf.gather(
            table * tf.constant([[float(row)] * WIDTH for row in range(ROWS)], name="each"), [0, 3]
        )
    ),
    "scaled": lambda tf, table, loss: tf.reduce_sum(tf.stop_gradient(tf.gather(table * 2.0, [1]))),
    "average": lambda tf, table, loss: None,
}


PARTS = [
    ("adam", "mod", False),
    ("adam", "div", True),
    ("ftrl", "mod", True),
    ("ftrl", "div", False),
]
KINDS = {"ref": False, "resource": True}

GRAPHS: dict[str, Callable[[], None]] = {
    **{
        f"{name}-{kind}": partial(looked_up, name, resource)
        for name in OPTIMIZERS
        for kind, resource in KINDS.items()
    },
    **{
        f"parts-{name}-{strategy}": partial(looked_up, name, resource, 3, strategy)
        for name, strategy, resource in PARTS
    },
    **{
        f"{lookup}-{parts}": partial(
            looked_up, "adagrad", parts=parts, lookup=lookup, ids_dtype="int32"
        )
        for lookup, parts in (
            *(("max_norm", 0), ("sparse", 0), ("sparse", 2), ("safe", 0), ("safe", 2)),
            ("twice", 0),
        )
    },
    **{extra: partial(looked_up, "adam", extra=extra) for extra in EXTRAS},
    "decay-resource": partial(looked_up, "adam", True, extra="decay"),
    "average-resource": partial(looked_up, "adam", True, extra="average"),
    "decay-parts": partial(looked_up, "adagrad", parts=2, extra="decay"),
    "decayed-rate": partial(looked_up, decayed_rate=True),
    "sampled": sampled,
    "sampled-resource-parts": partial(sampled, True, 2),
}


NAMED = 10
"""Ids below it are looked up; rows of the others are poisoned."""


def poisoned_alike(tf: Any, strategy: str) -> bool:
    """Whether a step gives the same where the rows that it doesn't name hold NaN: variables
    elsewhere, and the rows that it names, bit for bit.
    """
    graph = tf.get_default_graph()
    feeds: dict[str, Any] = {"ids:0": np.array([1, 5, 5, 3])}
    if any(node.name == "places" for node in graph.get_operations()):
        feeds["places:0"] = np.array([[0, 0], [0, 1], [2, 0], [3, 1]])
    train = tf.get_collection("train_op")[0]
    variables = tf.global_variables()
    with tf.Session(graph=graph) as session:
        for one in variables:  # in order: an average starts as its variable, which it reads at once
            session.run(one.initializer)
        start = session.run(variables)
        found = []
        for poison in (False, True):
            for one, value in zip(variables, start, strict=True):
                others = _others(one.op.name, value, strategy)
                spoiled = value.copy()
                if poison and others is not None:
                    spoiled[others] = np.nan
                one.load(spoiled, session)
            session.run(train, feeds)
            found.append(session.run(variables))
    for one, clean, spoiled in zip(variables, *found, strict=True):
        others = _others(one.op.name, clean, strategy)
        if others is not None:
            clean, spoiled = clean[~others], spoiled[~others]
        if clean.tobytes() != spoiled.tobytes():
            return False
    return True


def _others(name: str, value: Any, strategy: str) -> Any:
    """Which rows of a table or of its slot no id names; None for other variables."""
    if not name.startswith("table") or not value.shape:
        return None
    part = re.search(r"part_(\d+)", name)
    sizes = {7: 3, 6: 3, 10: 2, 20: 1}[len(value)]
    number = int(part[1]) if part else 0
    if strategy == "mod":
        return np.arange(len(value)) * sizes + number >= NAMED
    return np.arange(len(value)) + number * -(-ROWS // sizes) >= NAMED


def main(directory: str) -> None:
    """Write each graph with a saver of its variables as ``NAME.meta``, and whether it bears poison
    into ``poisoned.json``.
    """
    tf = _tf()
    tf.disable_resource_variables()
    alike = {}
    for name, make in GRAPHS.items():
        with tf.Graph().as_default():
            make()
            tf.train.Saver()
            tf.train.export_meta_graph(str(Path(directory) / f"{name}.meta"))
            if not name.startswith("sampled"):  # candidates are drawn anew
                alike[name] = poisoned_alike(
                    tf, "div" if "div" in name or "safe" in name else "mod"
                )
    (Path(directory) / "poisoned.json").write_text(json.dumps(alike))


if __name__ == "__main__":
    main(sys.argv[1])
