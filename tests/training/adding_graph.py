"""A TF1 run that adds up gradients before it applies them:
``python -m tests.training.adding_graph DIRECTORY``.

``add`` adds the gradient of a batch of ``x:0`` to a variable, ``apply`` takes a quarter of it for a
step, empties it and counts. Nothing of ``apply`` needs a batch; its rate is fed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main(directory: str) -> None:
    import tensorflow as tf

    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session() as session:
        step = tf1.train.get_or_create_global_step()
        x = tf1.placeholder(tf.float32, [None, 4], name="x")
        rate = tf1.placeholder(tf.float32, [], name="rate")
        weights = tf1.get_variable("weights", [4, 1], initializer=tf1.ones_initializer())
        sums = tf1.get_variable(
            "sums", [4, 1], initializer=tf1.zeros_initializer(), trainable=False
        )
        loss = tf.reduce_mean(tf.square(tf.matmul(x, weights) - 1.0), name="loss")
        (gradient,) = tf1.gradients(loss, [weights])
        tf.group(tf1.assign_add(sums, gradient), name="add")
        applied = tf1.train.GradientDescentOptimizer(rate).apply_gradients(
            [(sums / 4.0, weights)], global_step=step
        )
        with tf.control_dependencies([applied]):
            tf.group(tf1.assign(sums, tf.zeros_like(sums)), name="apply")
        session.run(tf1.global_variables_initializer())
        sys.stdout.write(
            tf1.train.Saver().save(session, str(Path(directory, "model.ckpt")), global_step=0)
            + "\n"
        )


if __name__ == "__main__":
    main(sys.argv[1])
