"""A TF1 graph that looks up many rows of one table and updates them with Adagrad: ``python -m
tests.benchmarks.big_table DIRECTORY ROWS`` prints the checkpoint's prefix.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
WIDTH, LOOKED_UP = 64, 10_000


def id_feeds(rank: int, rows: int) -> dict[str, np.ndarray]:
    """As many ids as a step looks up, none of them twice, of a table of ``rows`` rows."""
    ids = np.random.default_rng(rank).choice(rows, LOOKED_UP, replace=False)
    return {"ids:0": ids.astype(np.int64)}


def main(directory: str, rows: str) -> None:
    import tensorflow as tf

    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session() as session:
        step = tf1.train.get_or_create_global_step()
        ids = tf1.placeholder(tf.int64, [None], name="ids")
        table = tf1.get_variable(
            "table",
            [int(rows), WIDTH],
            initializer=tf1.random_normal_initializer(stddev=0.1, seed=1),
            use_resource=False,
        )
        loss = tf.reduce_mean(tf.square(tf.nn.embedding_lookup(table, ids) - 1.0), name="loss")
        train = tf1.train.AdagradOptimizer(0.05).minimize(loss, global_step=step)
        tf1.add_to_collection("train_op", train)
        session.run(tf1.global_variables_initializer())
        prefix = str(Path(directory, "model.ckpt"))
        sys.stdout.write(tf1.train.Saver().save(session, prefix, global_step=0) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
