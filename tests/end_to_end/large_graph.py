"""A TF1 run of which all workers hold more than one of them should write: ``python -m
tests.end_to_end.large_graph DIRECTORY``.

Two embeddings of 32 MiB with a slot each, of which a step touches a few rows, and a small layer.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROWS, WIDTH = 524_288, 16
STEP_S = 0.05


def batch(number: int) -> Mapping[str, np.ndarray]:
    draw = np.random.default_rng(7000 + number)
    return {"users:0": draw.integers(0, ROWS, 32), "items:0": draw.integers(0, ROWS, 32)}


def batches(ctx: Any) -> Iterator[Mapping[str, np.ndarray]]:
    """Batch n is the same whoever serves it; slowly enough that a test can hit a run's middle."""
    number = ctx.position + ctx.rank
    while True:
        time.sleep(STEP_S)
        yield batch(number)
        number += ctx.world_size


def main(directory: str) -> None:
    import tensorflow as tf

    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session() as session:
        step = tf1.train.get_or_create_global_step()
        rows = []
        for name in ("users", "items"):
            ids = tf1.placeholder(tf.int64, [None], name=name)
            start = tf1.random_normal_initializer(stddev=0.1, seed=1)
            table = tf1.get_variable(f"of_{name}", [ROWS, WIDTH], None, start, use_resource=False)
            rows.append(tf.gather(table, ids))
        start = tf1.random_normal_initializer(stddev=0.1, seed=2)
        dense = tf1.get_variable("dense", [2 * WIDTH, 4], None, start, use_resource=False)
        loss = tf.reduce_mean(tf.square(tf.matmul(tf.concat(rows, 1), dense) - 1.0))
        train = tf1.train.AdagradOptimizer(0.1).minimize(loss, global_step=step)
        tf1.add_to_collection("train_op", train)
        session.run(tf1.global_variables_initializer())
        saver = tf1.train.Saver()
        prefix = saver.save(session, str(Path(directory, "large.ckpt")), global_step=0)
    sys.stdout.write(f"{prefix}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
