"""How fast is the plain TF1 loop of the README on the same graph? The bar for one worker, for the
start and for memory.

``python -m tests.benchmarks.bare_tf1 META STEPS``; batches and log as ``probe`` has them.
"""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

from tests.benchmarks import probe


def main(meta: str, steps: int) -> None:
    import tensorflow.compat.v1 as tf

    tf.disable_eager_execution()
    with tf.Session() as session:
        saver = tf.train.import_meta_graph(meta, clear_devices=True)
        saver.restore(session, meta.removesuffix(".meta"))
        train_op = tf.get_collection("train_op")[0]
        source = probe.batches(SimpleNamespace(rank=0, step=0))
        for _ in range(steps):
            session.run(train_op, next(source))
        next(source)
    sys.stdout.write(f"{probe.peak_bytes()}\n")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main(sys.argv[1], int(sys.argv[2]))
