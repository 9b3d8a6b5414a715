"""A TF1 run whose train op fills a lookup table, which its saver stores: ``python -m
tests.training.table_graph DIRECTORY``.

Each step the table counts, under the number of the step, how many steps there were; a table of a
vocabulary file is initialised beside it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main(directory: str) -> None:
    import tensorflow as tf

    tf1 = tf.compat.v1
    vocabulary = Path(directory, "words.txt")
    vocabulary.write_text("cat\ndog\nbird\n")
    with tf.Graph().as_default(), tf1.Session() as session:
        step = tf1.train.get_or_create_global_step()
        x = tf1.placeholder(tf.float32, [None, 4], name="x")
        words = tf1.placeholder(tf.string, [None], name="words")
        static = tf1.raw_ops.HashTableV2(
            key_dtype=tf.string, value_dtype=tf.int64, shared_name="words"
        )
        fill = tf1.raw_ops.InitializeTableFromTextFileV2(
            table_handle=static,
            filename=str(vocabulary),
            key_index=-2,
            value_index=-1,
            vocab_size=3,
        )
        tf1.add_to_collection(tf1.GraphKeys.TABLE_INITIALIZERS, fill)
        ids = tf1.raw_ops.LookupTableFindV2(
            table_handle=static, keys=words, default_value=tf.constant(0, tf.int64)
        )
        weights = tf1.get_variable("weights", [4, 3], use_resource=False)
        logits = tf.matmul(x, weights)
        loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=ids, logits=logits)
        )
        seen = tf.lookup.experimental.MutableHashTable(
            tf.int64, tf.int64, -1, name="seen", experimental_is_anonymous=False
        )
        applied = tf1.train.MomentumOptimizer(0.1, 0.9).minimize(loss, global_step=step)
        with tf.control_dependencies([applied]):
            now = step.read_value() if hasattr(step, "read_value") else tf.identity(step)
            insert = seen.insert(tf.reshape(now, [1]), tf.reshape(now * 10, [1]))
        train = tf.group(applied, insert, name="train")
        tf1.add_to_collection("train_op", train)
        session.run([tf1.global_variables_initializer(), tf1.tables_initializer()])
        saver = tf1.train.Saver()
        for number in range(3):
            session.run(train, {x: [[number, 1, 2, 3]], words: ["dog"]})
        sys.stdout.write(
            saver.save(session, str(Path(directory, "model.ckpt")), global_step=3) + "\n"
        )


if __name__ == "__main__":
    main(sys.argv[1])
