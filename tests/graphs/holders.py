"""How do the graphs of DeepLabCut, DeePMD-kit and BERT look, in small?

Rule: what their authors' code gives a ``.meta`` (names, placeholders, optimizers, collections) is as
there; layers are few and narrow.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def _tf() -> Any:
    import tensorflow as tf

    return tf.compat.v1


def _layer(tf: Any, value: Any, units: int, name: str, dtype: Any = None) -> Any:
    kind = dtype or tf.float32
    with tf.variable_scope(name):
        start = tf.random_normal_initializer(stddev=0.3, seed=5, dtype=kind)
        kernel = tf.get_variable("matrix", [int(value.shape[-1]), units], kind, start)
        bias = tf.get_variable("bias", [units], kind, start)
        return tf.matmul(value, kernel) + bias


def deeplabcut() -> Any:
    """A pose network: images come out of a queue that Python feeds, the rate is a placeholder, two
    heads give part predictions and location refinement, and momentum trains them.
    """
    tf = _tf()
    image = tf.placeholder(tf.float32, [1, 8, 8, 3], name="fifo_image")
    target = tf.placeholder(tf.float32, [1, 8, 8, 2], name="fifo_target")
    offsets = tf.placeholder(tf.float32, [1, 8, 8, 4], name="fifo_offsets")
    with tf.variable_scope("resnet_v1_50/conv1"):
        start = tf.random_normal_initializer(stddev=0.2, seed=3)
        kernel = tf.get_variable("weights", [3, 3, 3, 6], initializer=start)
        trunk = tf.nn.relu(tf.nn.conv2d(image, kernel, strides=[1, 1, 1, 1], padding="SAME"))

    def head(channels: int, name: str) -> Any:
        with tf.variable_scope(f"pose/{name}/block4"):
            kernel = tf.get_variable("weights", [1, 1, 6, channels], initializer=start)
            return tf.nn.conv2d(trunk, kernel, strides=[1, 1, 1, 1], padding="SAME")

    parts, refined = head(2, "part_pred"), head(4, "locref_pred")
    tf.sigmoid(parts, name="part_prob")
    loss = tf.losses.sigmoid_cross_entropy(target, parts)
    total = loss + 0.05 * tf.losses.huber_loss(offsets, refined)
    rate = tf.placeholder(tf.float32, [], name="learning_rate")
    return tf.train.MomentumOptimizer(rate, 0.9).minimize(total)


def deepmd() -> Any:
    """A fit of energies in double precision: descriptor and fitting nets, a rate that decays, Adam."""
    tf = _tf()
    step = tf.train.get_or_create_global_step()
    descriptor = tf.placeholder(tf.float64, [None, 12], name="t_coord")
    energy = tf.placeholder(tf.float64, [None], name="t_energy")
    hidden = tf.tanh(_layer(tf, descriptor, 8, "filter_type_0", tf.float64))
    hidden = tf.tanh(_layer(tf, hidden, 8, "layer_0_type_0", tf.float64))
    atom = tf.reshape(_layer(tf, hidden, 1, "final_layer_type_0", tf.float64), [-1])
    predicted = tf.identity(atom, name="o_energy")
    rate = tf.train.exponential_decay(1e-3, step, 5000, 0.95, staircase=True)
    loss = tf.reduce_mean(tf.square(predicted - energy), name="l2_loss")
    return tf.train.AdamOptimizer(rate).minimize(loss, global_step=step)


def bert() -> Any:
    """A classifier on an encoder: an optimizer that is written out (``AdamWeightDecayOptimizer``),
    gradients clipped, and a step that the train op assigns.
    """
    tf = _tf()
    step = tf.train.get_or_create_global_step()
    ids = tf.placeholder(tf.int32, [None, 4], name="input_ids")
    labels = tf.placeholder(tf.int32, [None], name="label_ids")
    with tf.variable_scope("bert/embeddings"):
        start = tf.random_normal_initializer(stddev=0.02, seed=4)
        table = tf.get_variable("word_embeddings", [20, 6], initializer=start)
    words = tf.reduce_mean(tf.gather(table, ids), axis=1)
    with tf.variable_scope("bert/encoder"):
        pooled = tf.tanh(_layer(tf, words, 6, "pooler"))
    with tf.variable_scope("loss"):
        weights = tf.get_variable("output_weights", [2, 6], initializer=start)
        logits = tf.matmul(pooled, weights, transpose_b=True)
        tf.nn.softmax(logits, name="probabilities")
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        loss = tf.reduce_mean(losses)
    rate = tf.train.polynomial_decay(2e-5, step, 1000, 0.0, 1.0)
    variables = tf.trainable_variables()
    gradients, _ = tf.clip_by_global_norm(tf.gradients(loss, variables), 1.0)
    assigned = []
    for gradient, variable in zip(gradients, variables, strict=True):
        name = variable.op.name
        zeros = {"initializer": tf.zeros_initializer(), "trainable": False}
        m = tf.get_variable(f"{name}/adam_m", variable.shape.as_list(), **zeros)
        v = tf.get_variable(f"{name}/adam_v", variable.shape.as_list(), **zeros)
        dense = tf.convert_to_tensor(gradient)
        next_m = 0.9 * m + 0.1 * dense
        next_v = 0.999 * v + 0.001 * tf.square(dense)
        update = next_m / (tf.sqrt(next_v) + 1e-6) + 0.01 * variable
        assigned += [variable.assign(variable - rate * update), m.assign(next_m), v.assign(next_v)]
    return tf.group(*assigned, step.assign(step + 1))


HOLDERS = {"deeplabcut": deeplabcut, "deepmd": deepmd, "bert": bert}


def holder_feeds(kind: str, step: int) -> dict[str, np.ndarray]:
    """A batch for one of ``HOLDERS``."""
    rng = np.random.default_rng(7000 + step)
    if kind == "deeplabcut":
        return {
            "fifo_image:0": rng.random((1, 8, 8, 3), np.float32),
            "fifo_target:0": rng.integers(0, 2, (1, 8, 8, 2)).astype(np.float32),
            "fifo_offsets:0": rng.normal(size=(1, 8, 8, 4)).astype(np.float32),
            "learning_rate:0": np.asarray(0.005, np.float32),
        }
    if kind == "deepmd":
        return {"t_coord:0": rng.normal(size=(4, 12)), "t_energy:0": rng.normal(size=4)}
    return {
        "input_ids:0": rng.integers(0, 20, (4, 4)).astype(np.int32),
        "label_ids:0": rng.integers(0, 2, 4).astype(np.int32),
    }
