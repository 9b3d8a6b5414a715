"""What does an old training look like? The run that ``tfresume demo`` makes and then continues.

Rule: plain TF1 code as it was written in 2017, with a parameter server and GPUs in its device
strings, saved by ``tf.train.Saver``; run in a process of its own (``python -m
orchestrator.training.baseline.demo_run train DIRECTORY STEPS``, or ``evaluate PREFIX``), where it
knows nothing of the rest of this project. The last line on standard output is one JSON object.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

FEATURES, CLASSES, ROWS = 8, 3, 512
"""Rows enough that the loss of a batch says more about the model than about the batch: the report's
line has few points.
"""
HELD_OUT = 10_000_019
"""Index of a batch that no run of the demo trains on."""


def batch(index: int, rows: int = ROWS) -> dict[str, np.ndarray]:
    """Batch number ``index``: ``x:0`` float32 ``[rows, 8]``, ``y:0`` int64 ``[rows]``; which of
    three bumps is nearest.
    """
    rng = np.random.default_rng(index)
    x = rng.normal(size=(rows, FEATURES)).astype(np.float32)
    # The same bumps in every batch, or there would be nothing to learn
    centres = np.random.default_rng(7).normal(size=(CLASSES, FEATURES))
    distances = ((x[:, None, :] - centres[None]) ** 2).sum(axis=2)
    return {"x:0": x, "y:0": np.argmin(distances, axis=1).astype(np.int64)}


def batches(ctx: Any) -> Iterator[dict[str, np.ndarray]]:
    """The demo's input function, as a user would write it: batches ``position + rank``, ``position
    + world_size + rank`` and so on.
    """
    for index in itertools.count(ctx.position + ctx.rank, ctx.world_size):
        yield batch(1_000_000 + index)


def _graph(tf: Any) -> None:
    """A small network whose variables live on a parameter server; its train op is in the collection
    of that name.
    """
    with tf.device("/job:ps/task:0"):
        step = tf.train.get_or_create_global_step()
        x = tf.placeholder(tf.float32, [None, FEATURES], name="x")
        y = tf.placeholder(tf.int64, [None], name="y")
        first = tf.get_variable(
            "hidden/kernel",
            [FEATURES, 32],
            initializer=tf.random_normal_initializer(stddev=0.2, seed=1),
        )
        second = tf.get_variable(
            "out/kernel",
            [32, CLASSES],
            initializer=tf.random_normal_initializer(stddev=0.2, seed=2),
        )
    with tf.device("/job:worker/task:1/gpu:3"):
        logits = tf.matmul(tf.nn.relu(tf.matmul(x, first)), second)
        loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits), name="loss"
        )
        tf.losses.add_loss(loss)
        tf.train.AdamOptimizer(0.001).minimize(loss, global_step=step)


def train(directory: str, steps: int) -> dict[str, Any]:
    """Train from nothing and save; the prefix of the checkpoint and the loss on the held-out batch."""
    import tensorflow.compat.v1 as tf

    tf.disable_eager_execution()
    prefix = str(Path(directory) / f"model.ckpt-{steps}")
    _graph(tf)
    initializer = tf.global_variables_initializer().name
    # The cluster of 2017 isn't here: what is saved names its devices, what is trained here doesn't
    tf.train.export_meta_graph(prefix + ".meta", saver_def=tf.train.Saver().saver_def)
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        tf.set_random_seed(0)
        saver = tf.train.import_meta_graph(prefix + ".meta", clear_devices=True)
        session.run(initializer)
        for index in range(steps):
            session.run(tf.get_collection("train_op"), batch(index))
        saver.save(
            session, str(Path(directory) / "model.ckpt"), global_step=steps, write_meta_graph=False
        )
        return {"prefix": prefix, "loss": float(session.run("loss:0", batch(HELD_OUT, 2048)))}


def evaluate(prefix: str) -> dict[str, Any]:
    """Load a checkpoint with three lines of TF1 code: its step, and its loss on the held-out batch."""
    import tensorflow.compat.v1 as tf

    tf.disable_eager_execution()
    with tf.Session(config=tf.ConfigProto(allow_soft_placement=True)) as session:
        saver = tf.train.import_meta_graph(prefix + ".meta", clear_devices=True)
        saver.restore(session, prefix)
        loss, step = session.run(["loss:0", tf.train.get_global_step()], batch(HELD_OUT, 2048))
        return {"step": int(step), "loss": float(loss)}


def main(words: list[str]) -> None:
    """Run as a program."""
    result = train(words[1], int(words[2])) if words[0] == "train" else evaluate(words[1])
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
