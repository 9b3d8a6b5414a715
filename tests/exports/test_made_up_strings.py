"""Is an export checked without anybody's batches where the graph parses or decodes its inputs?"""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.config import parse_config
from orchestrator.exports.frozen import export_graph
from tests import forked

pytestmark = [pytest.mark.tf, pytest.mark.usefixtures("forked_tensorflow")]

MAKE = """
import sys
import tensorflow.compat.v1 as tf

kind, directory = sys.argv[1:]
tf.disable_v2_behavior()
given = tf.placeholder(tf.string, [None], name="given")
if kind == "images":
    def decoded(image):
        pixels = tf.cast(tf.image.decode_jpeg(image, 3), tf.float32)
        return tf.image.resize_bilinear(pixels[None], [4, 4])[0]

    x = tf.reshape(tf.map_fn(decoded, given, dtype=tf.float32), [-1, 48])
elif kind == "numbers":
    x = tf.tile(tf.string_to_number(given)[:, None], [1, 48])
else:
    features = {
        "x": tf.FixedLenFeature([48], tf.float32),
        "id": tf.FixedLenFeature([], tf.int64),
        "words": tf.VarLenFeature(tf.string),
    }
    if kind == "old examples":  # as TensorFlow before 1.15 wrote it
        keys = [tf.constant(key) for key in ("id", "words", "x")]
        parsed = tf.raw_ops.ParseExample(
            serialized=given, names=tf.constant([], tf.string), sparse_keys=[keys[1]],
            dense_keys=[keys[0], keys[2]],
            dense_defaults=[tf.constant([], tf.int64), tf.constant([], tf.float32)],
            sparse_types=[tf.string], dense_shapes=[[], [48]],
        )
        words = tf.SparseTensor(parsed[0][0], parsed[1][0], parsed[2][0])
        number, x = parsed[3]
    else:
        parsed = tf.io.parse_example(given, features)
        words, number, x = parsed["words"], parsed["id"], parsed["x"]
    rows = tf.get_variable("rows", [10, 48], initializer=tf.ones_initializer())
    buckets = tf.SparseTensor(
        words.indices, tf.strings.to_hash_bucket_fast(words.values, 10), words.dense_shape
    )
    x += tf.nn.embedding_lookup_sparse(rows, buckets, None, combiner="mean")
    x += tf.cast(number, tf.float32)[:, None]
kernel = tf.get_variable("kernel", [48, 2], initializer=tf.ones_initializer())
prediction = tf.matmul(x, kernel, name="prediction")
label = tf.placeholder(tf.float32, [None, 2], name="label")
loss = tf.reduce_mean(tf.squared_difference(prediction, label))
tf.add_to_collection("train_op", tf.train.GradientDescentOptimizer(0.1).minimize(loss))
with tf.Session() as session:
    saver = tf.train.Saver()
    session.run(tf.global_variables_initializer())
    saver.save(session, f"{directory}/model.ckpt", global_step=3)
"""


@pytest.mark.parametrize("kind", ["images", "numbers", "examples", "old examples"])
def test_export_of_a_graph_that_reads_strings_is_compared_on_made_up_ones(
    tmp_path: Path, kind: str
) -> None:
    made = forked.run(MAKE, kind, tmp_path)
    assert made.returncode == 0, made.stderr[-3000:]
    config = parse_config({"source": str(tmp_path / "model.ckpt-3")})
    found = export_graph(config, str(tmp_path / "out"), to="frozen")
    assert (found.made, found.compared) == (True, 2)
    assert [one.tensor for one in found.inputs] == ["given:0"]
    assert [one.tensor for one in found.outputs] == ["prediction:0"]
    assert found.difference <= 1e-6
