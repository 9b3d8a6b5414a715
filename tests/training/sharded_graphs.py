"""TF1 graphs with tables at their first checkpoint, and what one process makes of them: ``python -m
tests.training.sharded_graphs DIRECTORY CASE…``.

Rule: the batches of a step are numbered; one process takes all of a step's as one. Some batches are
empty, each names a row twice, and one row is named by all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.graph.tables.graphs import OPTIMIZERS, ROWS, WIDTH, looked_up, sampled

SLOTS, STEPS = 3, 4


def clipped(resource: bool = False, parts: int = 0) -> None:
    """Three tables that one product takes, one of them of numbers, whose gradients are clipped by
    their norm together.
    """
    import tensorflow as tensorflow

    tf = tensorflow.compat.v1
    ids = tf.placeholder(tf.int32, [None], name="ids")
    divided = tf.fixed_size_partitioner(parts) if parts else None
    start = tf.random_normal_initializer(stddev=0.3)
    users = tf.get_variable("users", [ROWS, WIDTH], None, start, use_resource=resource)
    items = tf.get_variable(
        "items", [ROWS // 2, 2], None, start, partitioner=divided, use_resource=resource
    )
    biases = tf.get_variable("biases", [ROWS], None, start, use_resource=resource)
    rows = tf.concat(
        [
            tf.nn.embedding_lookup(users, ids),
            tf.nn.embedding_lookup(items, ids // 2),
            tf.expand_dims(tf.gather(biases, ids), 1),
        ],
        1,
    )
    dense = tf.get_variable("dense", [WIDTH + 3, 2], None, start, use_resource=resource)
    loss = tf.reduce_sum(tf.square(tf.matmul(rows, dense) - 1.0))
    chosen = tf.train.AdagradOptimizer(0.1)
    gradients, variables = zip(*chosen.compute_gradients(loss), strict=True)
    held, _ = tf.clip_by_global_norm(gradients, 0.5)
    chosen.apply_gradients(zip(held, variables, strict=True), tf.train.get_or_create_global_step())


KINDS = {"ref": False, "resource": True}
OF_THE_ISSUE = ("sgd", "momentum", "adagrad", "adam", "lazy_adam", "ftrl", "rmsprop")
JOINT: dict[str, Callable[[], None]] = {
    **{
        f"{name}-{kind}": partial(
            looked_up, name, resource, ids_dtype="int32" if resource else "int64"
        )
        for name in OPTIMIZERS
        if name in OF_THE_ISSUE
        for kind, resource in KINDS.items()
    },
    "parts-adam": partial(looked_up, "adam", parts=3, ids_dtype="int32"),
    "parts-ftrl": partial(looked_up, "ftrl", True, 3, "div"),
    "twice": partial(looked_up, "adagrad", lookup="twice"),
    "clipped": clipped,
    "clipped-parts": partial(clipped, True, 2),
}
"""Their loss is a sum over rows, so one process with all rows computes the same."""
GRAPHS: dict[str, Callable[[], None]] = {
    **JOINT,
    "average": partial(looked_up, "adam", True, extra="average"),
    "average-ref": partial(looked_up, "sgd", extra="average"),
    "max_norm": partial(looked_up, "adagrad", lookup="max_norm"),
    "sparse": partial(looked_up, "adagrad", parts=2, lookup="sparse"),
    "safe": partial(looked_up, "adam", lookup="safe", ids_dtype="int32"),
}
PLACED = {"sparse", "safe"}
"""What they look up stands in a sparse matrix, so batches can't be put together."""
DRAWN: dict[str, Callable[[], None]] = {
    "sampled": sampled,
    "sampled-parts": partial(sampled, True, 2),
}
"""Their candidates are drawn from a hidden state: alike only in processes that drew as often."""


def in_turns() -> None:
    """Two train operations, of which one looks nothing up."""
    import tensorflow as tensorflow

    tf = tensorflow.compat.v1
    ids = tf.placeholder(tf.int64, [None], name="ids")
    start = tf.random_normal_initializer(stddev=0.3)
    table = tf.get_variable("table", [ROWS, WIDTH], initializer=start)
    dense = tf.get_variable("dense", [WIDTH, 2], initializer=start)
    loss = tf.reduce_sum(tf.square(tf.matmul(tf.nn.embedding_lookup(table, ids), dense)))
    step = tf.train.get_or_create_global_step()
    tf.train.AdagradOptimizer(0.1).minimize(loss, step, [table], name="rows")
    tf.train.GradientDescentOptimizer(0.1).minimize(
        tf.nn.l2_loss(dense), None, [dense], name="rest"
    )


def tall(rows: int, resource: bool = False) -> None:
    """A table that is never initialised here."""
    import tensorflow as tensorflow

    tf = tensorflow.compat.v1
    step = tf.train.get_or_create_global_step()
    table = tf.get_variable("table", [rows, 64], use_resource=resource)
    loss = tf.reduce_sum(
        tf.square(tf.nn.embedding_lookup(table, tf.placeholder(tf.int64, [None], name="ids")))
    )
    tf.train.AdagradOptimizer(0.1).minimize(loss, global_step=step)


EVERY = {**GRAPHS, **DRAWN, "in_turns": in_turns}


def batch(number: int, name: str = "") -> Mapping[str, np.ndarray]:
    """The batch of this number."""
    draw = np.random.default_rng(number)
    if name in DRAWN:
        return {"ids:0": draw.integers(0, ROWS, 8), "labels:0": draw.integers(0, ROWS, (8, 1))}
    ids = draw.integers(0, ROWS - 1, 6)  # "twice" looks up the next row too
    ids = np.concatenate([ids, ids[:2], [7]])
    if number % 5 == 3:
        ids = ids[:0]
    if name not in PLACED:
        return {"ids:0": ids}
    places = np.array([(at // 4, at % 4) for at in range(len(ids))], np.int64)
    return {"ids:0": ids, "places:0": places.reshape(-1, 2)}


def of_a_step(step: int, name: str = "") -> list[Mapping[str, np.ndarray]]:
    """The batches of all slots."""
    return [batch(SLOTS * step + slot, name) for slot in range(SLOTS)]


def main(directory: str, names: list[str]) -> None:
    """Save each graph's first checkpoint as ``NAME-0``, and what one process ends with as
    ``NAME.npz``; of a table of so many rows (``1000`` or ``1000-resource``) write ``tall.meta`` alone.
    """
    import tensorflow as tensorflow

    tf = tensorflow.compat.v1
    tf.disable_resource_variables()
    for name in names:
        with tf.Graph().as_default():
            number, _, kind = name.partition("-")
            if number.isdigit():
                tall(int(number), kind == "resource")
                tf.train.Saver()
                tf.train.export_meta_graph(str(Path(directory, "tall.meta")))
                continue
            tf.set_random_seed(3)
            EVERY[name]()
            saver = tf.train.Saver()
            with tf.Session() as session:
                # An average begins as its variable, if that is set; in one run each may be first
                first = tf.trainable_variables()
                rest = [one for one in tf.global_variables() if one not in first]
                for variables in (first, rest):
                    session.run(tf.variables_initializer(variables))
                saver.save(session, str(Path(directory, name)), global_step=0)
                if name in JOINT:
                    ended: dict[str, Any] = _trained(tf, session)
                    np.savez(Path(directory, f"{name}.npz"), **ended)


def _trained(tf: Any, session: Any) -> dict[str, np.ndarray]:
    train = tf.get_collection("train_op")[0]
    for step in range(STEPS):
        together = [each["ids:0"] for each in of_a_step(step)]
        session.run(train, {"ids:0": np.concatenate(together)})
    return {one.op.name: session.run(one) for one in tf.global_variables()}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:] or list(EVERY))
