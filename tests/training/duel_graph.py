"""A TF1 run with two train ops that take turns: ``python -m tests.training.duel_graph DIRECTORY``.

``critic`` reads ``x:0``, ``maker`` reads ``y:0`` as well and moves the step; a label above 2 makes
the maker alone fail.
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
        tf1.set_random_seed(3)
        step = tf1.train.get_or_create_global_step()
        x = tf1.placeholder(tf.float32, [None, 4], name="x")
        labels = tf1.placeholder(tf.int64, [None], name="y")
        critic = tf1.get_variable("critic/weights", [4, 1], use_resource=False)
        maker = tf1.get_variable("maker/weights", [4, 3], use_resource=False)
        made = tf.matmul(x, maker)
        critic_loss = tf.reduce_mean(
            tf.square(tf.matmul(x, critic) - tf.reduce_sum(made, 1, keepdims=True)),
            name="critic_loss",
        )
        maker_loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=made),
            name="maker_loss",
        )
        tf1.train.AdamOptimizer(0.05).minimize(critic_loss, var_list=[critic], name="train_critic")
        tf1.train.AdamOptimizer(0.05).minimize(
            maker_loss, var_list=[maker], global_step=step, name="train_maker"
        )
        session.run(tf1.global_variables_initializer())
        sys.stdout.write(
            tf1.train.Saver().save(session, str(Path(directory, "model.ckpt")), global_step=0)
            + "\n"
        )


if __name__ == "__main__":
    main(sys.argv[1])
