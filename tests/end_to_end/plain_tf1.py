"""What does plain TensorFlow make of our output, in a process that doesn't have this package?

``python plain_tf1.py dump PREFIX OUT.npz [META]`` restores and writes every variable; ``python
plain_tf1.py train PREFIX OUT.npz FEEDS.npz`` first runs the collection's train op once for every
batch in FEEDS (keys ``STEP|TENSOR``). This file imports nothing of the project.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
for ours in ("orchestrator", "launch"):
    sys.modules[ours] = None  # type: ignore[assignment]

import numpy as np
import tensorflow.compat.v1 as tf

tf.disable_eager_execution()


def main(mode, prefix, target, feeds=None):  # type: ignore[no-untyped-def]
    with tf.Session() as session:
        saver = tf.train.import_meta_graph(prefix + ".meta", clear_devices=True)
        session.run(
            [op for op in session.graph.get_operations() if op.name == "init_all_tables"] or []
        )
        session.run([tf.local_variables_initializer(), tf.tables_initializer()])
        saver.restore(session, prefix)
        if mode == "train":
            batches = {}  # type: ignore[var-annotated]
            with np.load(feeds) as arrays:
                for key in arrays.files:
                    step, tensor = key.split("|")
                    batches.setdefault(int(step), {})[tensor] = arrays[key]
            train_op = tf.get_collection("train_op")[0]
            for step in sorted(batches):
                session.run(train_op, batches[step])
        values = {v.op.name: session.run(v) for v in tf.global_variables()}
    np.savez(target, **values)


main(*sys.argv[1:])
