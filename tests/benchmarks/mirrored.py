"""How fast is ``MultiWorkerMirroredStrategy`` on the same model? The bar for two workers.

``python -m tests.benchmarks.mirrored RANK PORT0,PORT1 STEPS UNITS``: the perceptron of
``networks.mnist`` in TF2 code, batch and log as ``probe`` has them.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from types import SimpleNamespace
from typing import Any

from tests.benchmarks import probe


def main(rank: int, ports: list[str], steps: int, units: int) -> None:
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    os.environ["TF_CONFIG"] = json.dumps(
        {"cluster": cluster, "task": {"type": "worker", "index": rank}}
    )
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        widths = [784, units, units, 10]
        variables = [
            tf.Variable(tf.random.stateless_normal(shape, [1, 2]) * 0.03)
            for pair in itertools.pairwise(widths)
            for shape in (list(pair), [pair[1]])
        ]

    def replica_step(x: Any, y: Any) -> None:
        with tf.GradientTape() as tape:
            hidden = x
            for layer in range(3):
                hidden = tf.matmul(hidden, variables[2 * layer]) + variables[2 * layer + 1]
                hidden = tf.nn.relu(hidden) if layer < 2 else hidden
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=hidden)
            )
        gradients = tf.distribute.get_replica_context().all_reduce(
            "mean", tape.gradient(loss, variables)
        )
        for variable, gradient in zip(variables, gradients, strict=True):
            variable.assign_sub(1e-3 * gradient)

    @tf.function
    def step(x: Any, y: Any) -> None:
        strategy.run(replica_step, (x, y))

    source = probe.batches(SimpleNamespace(rank=rank, step=0))
    for _ in range(steps):
        batch = next(source)
        step(tf.constant(batch["x:0"]), tf.constant(batch["y:0"]))
    next(source)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main(int(sys.argv[1]), sys.argv[2].split(","), int(sys.argv[3]), int(sys.argv[4]))
