"""How large are the variables of usual runs at their first checkpoints? Each is trained by plain
TensorFlow from its initialisers; whatever counts as a jump between two of them is printed.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from orchestrator.decide.outliers import Size, outliers
from orchestrator.training.state.sizes import size_of
from orchestrator.training.state.state import is_float
from tests.graphs.feeds import feeds_for
from tests.graphs.networks import MAKERS

CHECKPOINTS = (0, 1, 2, 10, 100, 400)
RUNS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("mlp", {"optimizer": "adam", "step": "as_float"}),
    ("mlp", {"optimizer": "adagrad"}),
    ("mlp", {"optimizer": "rmsprop"}),
    ("mlp", {"optimizer": "ftrl"}),
    ("embedding", {"optimizer": "adam"}),
    ("embedding", {"optimizer": "momentum"}),
    ("conv_bn", {"optimizer": "adam"}),
    ("ema", {"optimizer": "adam"}),
)


def raw_features(tf: Any) -> Any:
    """A line fitted to prices: zero biases, batch norm of numbers in the thousands, a loss that
    sums over rows, so that slots of squares start at zero and come to billions.
    """
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    y = tf.placeholder(tf.float32, [None], name="y")
    mean = tf.get_variable("norm/mean", [3], initializer=tf.zeros_initializer(), trainable=False)
    spread = tf.get_variable("norm/var", [3], initializer=tf.ones_initializer(), trainable=False)
    here, spread_here = tf.nn.moments(x, [0])
    moving = [
        tf.assign_sub(mean, 0.01 * (mean - here)),
        tf.assign_sub(spread, 0.01 * (spread - spread_here)),
    ]
    examples = tf.get_variable("examples", [], initializer=tf.zeros_initializer(), trainable=False)
    weights = tf.get_variable("weights", [3], initializer=tf.zeros_initializer())
    bias = tf.get_variable("bias", [1], initializer=tf.zeros_initializer())
    guess = tf.reduce_sum((x - here) / tf.sqrt(spread_here + 1.0) * weights, 1) + bias
    loss = tf.reduce_sum(tf.square(guess - y))
    with tf.control_dependencies([*moving, tf.assign_add(examples, 32.0)]):
        return tf.train.AdamOptimizer(100.0).minimize(loss)


def raw_batch(step: int) -> Mapping[str, np.ndarray]:
    """Columns from one to a hundred thousand, and a price of 200 000."""
    draw = np.random.default_rng(step)
    x = draw.normal(size=(32, 3)) * [1.0, 300.0, 1e5] + [0.0, 1000.0, 3e5]
    return {"x:0": x.astype(np.float32), "y:0": (2e5 + x[:, 1] * 50).astype(np.float32)}


def checkpoints(train_op: Any, tf: Any, batch: Any) -> Iterator[tuple[int, dict[str, Size]]]:
    """The sizes at each of ``CHECKPOINTS``."""
    trained = {variable.name for variable in tf.trainable_variables()}
    with tf.Session() as session:
        session.run(tf.variables_initializer(tf.trainable_variables()))
        session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        for step in range(CHECKPOINTS[-1] + 1):
            if step in CHECKPOINTS:
                values = session.run({item.name: item for item in tf.global_variables()})
                yield (
                    step,
                    {
                        name: size_of(np.asarray(value), trained=name in trained)
                        for name, value in values.items()
                        if is_float(np.asarray(value))
                    },
                )
            session.run(train_op, batch(step))


def main() -> None:
    import tensorflow as tensorflow

    tf = tensorflow.compat.v1
    looked_at = 0
    for kind, options in (*RUNS, ("raw", {})):
        with tf.Graph().as_default():
            tf.set_random_seed(5)
            raw = kind == "raw"
            train_op = raw_features(tf) if raw else MAKERS[kind](**options)
            found = list(checkpoints(train_op, tf, raw_batch if raw else feeds_for(kind)))
        for (early, before), (late, now) in itertools.pairwise(found):
            looked_at += len(now)
            for item in outliers(now, before, 1000.0):
                sys.stdout.write(f"{kind} {options} from {early} to {late}: {item}\n")
    sys.stdout.write(f"looked at {looked_at}\n")


if __name__ == "__main__":
    main()
