"""Graphs with training switches as TF1 code builds them, trained, saved, and run for inference by
their own code: what an export has to give.

``python -m tests.exports.switched_graphs KIND DIRECTORY`` writes ``model.ckpt-3`` and
``expected.npz``: ``x``, what the model gives for it in inference (``y``) and in training
(``trained``). ``… run FROZEN ARRAYS OUTPUT TENSOR INPUT`` runs a frozen graph on ``x``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

WIDTH = 4
ROWS = 16


def _tf() -> Any:
    import tensorflow.compat.v1 as tf

    return tf


def _layer(tf: Any, x: Any, units: int, name: str) -> Any:
    kernel = tf.get_variable(
        f"{name}/kernel", [int(x.shape[-1]), units], initializer=tf.ones_initializer()
    )
    return tf.matmul(x, kernel)


def _parts(tf: Any) -> tuple[Any, Any, Any, Any]:
    """Scale, offset, moving mean and moving variance of a batch norm."""
    ones, zeros = tf.ones_initializer(), tf.zeros_initializer()
    return (
        tf.get_variable("bn/scale", [WIDTH], initializer=ones),
        tf.get_variable("bn/offset", [WIDTH], initializer=zeros),
        tf.get_variable("bn/mean", [WIDTH], initializer=zeros, trainable=False),
        tf.get_variable("bn/variance", [WIDTH], initializer=ones, trainable=False),
    )


def _moved(tf: Any, average: Any, statistic: Any) -> Any:
    return tf.assign_sub(average, (average - statistic) * 0.1)


def _debiased(tf: Any, average: Any, statistic: Any) -> Any:
    """An average without a bias to zero, as TensorFlow has moved it since 1.13."""
    from tensorflow.python.training import moving_averages

    return moving_averages.assign_moving_average(average, statistic, 0.6)


def _debiased_before_1_13(tf: Any, average: Any, statistic: Any) -> Any:
    """The same as TensorFlow moved it before: nodes of ``moving_averages.py`` of 1.4."""
    name = average.op.name
    biased = tf.get_variable(f"{name}/biased", [WIDTH], initializer=tf.zeros_initializer(),
                             trainable=False)  # fmt: skip
    steps = tf.get_variable(f"{name}/local_step", [], initializer=tf.zeros_initializer(),
                            trainable=False)  # fmt: skip
    moved = tf.assign_sub(biased, (biased - statistic) * 0.4)
    counted = tf.assign_add(steps, 1.0)
    with tf.control_dependencies([moved, counted]):
        share = 1.0 - tf.pow(0.6, steps.read_value())
        return tf.assign_sub(average, average - biased.read_value() / share)


def _fused(tf: Any, x: Any, training: bool, moved: Any = _moved) -> Any:
    scale, offset, mean, variance = _parts(tf)
    image = tf.reshape(x, [-1, 1, 1, WIDTH])
    if not training:
        return tf.reshape(
            tf.nn.fused_batch_norm(image, scale, offset, mean, variance, is_training=False)[0],
            [-1, WIDTH],
        )
    normal, now, spread = tf.nn.fused_batch_norm(image, scale, offset, is_training=True)
    for average, statistic in ((mean, now), (variance, spread)):
        tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, moved(tf, average, statistic))
    return tf.reshape(normal, [-1, WIDTH])


def fused(tf: Any, x: Any, training: bool) -> Any:
    """Fused batch norm that was built with ``training=True``, its averages moved by UPDATE_OPS."""
    return _fused(tf, x, training)


def fused_debiased(tf: Any, x: Any, training: bool) -> Any:
    """The same, its averages without a bias to zero: the sums behind them aren't the averages."""
    return _fused(tf, x, training, _debiased)


def fused_debiased_resource(tf: Any, x: Any, training: bool) -> Any:
    """The same with resource variables."""
    with tf.variable_scope("", use_resource=True):
        return _fused(tf, x, training, _debiased)


def fused_debiased_of_old(tf: Any, x: Any, training: bool) -> Any:
    """The same as TensorFlow before 1.13 wrote it."""
    return _fused(tf, x, training, _debiased_before_1_13)


def fused_without_averages(tf: Any, x: Any, training: bool) -> Any:
    """The same without any averages: nothing shows how it would be used."""
    scale, offset, *_ = _parts(tf)
    image = tf.reshape(x, [-1, 1, 1, WIDTH])
    normal = tf.nn.fused_batch_norm(image, scale, offset, is_training=True)[0]
    return tf.reshape(normal, [-1, WIDTH])


def fused_in_cond(tf: Any, x: Any, training: bool) -> Any:
    """Fused batch norm whole in ``tf.cond(is_training, …)``, its averages too."""
    scale, offset, mean, variance = _parts(tf)
    image = tf.reshape(x, [-1, 1, 1, WIDTH])

    def update() -> Any:
        normal, now, spread = tf.nn.fused_batch_norm(image, scale, offset, is_training=True)
        with tf.control_dependencies([_moved(tf, mean, now), _moved(tf, variance, spread)]):
            return tf.identity(normal)

    def use() -> Any:
        return tf.nn.fused_batch_norm(image, scale, offset, mean, variance, is_training=False)[0]

    return tf.reshape(tf.cond(_switch(tf, training), update, use), [-1, WIDTH])


def moments_in_cond(tf: Any, x: Any, training: bool) -> Any:
    """The batch norm of a thousand tutorials: an average of the moments, applied in ``tf.cond``."""
    scale, offset, *_ = _parts(tf)
    mean, variance = tf.nn.moments(x, [0])
    average = tf.train.ExponentialMovingAverage(0.5)

    def update() -> Any:
        with tf.control_dependencies([average.apply([mean, variance])]):
            return tf.identity(mean), tf.identity(variance)

    taken = tf.cond(
        _switch(tf, training),
        update,
        lambda: (average.average(mean), average.average(variance)),
    )
    return tf.nn.batch_normalization(x, *taken, offset, scale, 1e-3)


def noise_by_default(tf: Any, x: Any, training: bool) -> Any:
    """A switch that's on where nothing is fed (``placeholder_with_default``), around noise."""
    switch = tf.placeholder_with_default(training, [], name="is_training")
    return tf.cond(switch, lambda: x + tf.random_normal(tf.shape(x)), lambda: tf.identity(x))


def noise_by_contrary(tf: Any, x: Any, training: bool) -> Any:
    """The switch says the contrary: ``testing``."""
    testing = tf.placeholder_with_default(not training, [], name="testing")
    return tf.cond(
        tf.logical_not(testing), lambda: x + tf.random_normal(tf.shape(x)), lambda: tf.identity(x)
    )


def dropout_in_loop(tf: Any, x: Any, training: bool) -> Any:
    """A kept share that a loop's body turns into a dropped one, as ``DropoutWrapper`` does."""
    keep = tf.placeholder(tf.float32, [], name="keep") if training else tf.constant(1.0)
    return tf.while_loop(
        lambda number, _: number < 2,
        lambda number, value: (number + 1, tf.nn.dropout(value, rate=1.0 - keep)),
        [0, x],
    )[1]


def doubled_by_switch(tf: Any, x: Any, training: bool) -> Any:
    """A switch of which neither side looks like training."""
    return tf.cond(_switch(tf, training), lambda: 2.0 * x, lambda: 3.0 * x)


def constant_data(tf: Any, x: Any, training: bool) -> Any:
    """A graph that holds its rows as a constant, as an Estimator's input function makes it."""
    return x * 2.0


def _switch(tf: Any, training: bool) -> Any:
    """Fed in training; built in for what is expected."""
    if training:
        return tf.placeholder(tf.bool, [], name="is_training")
    return tf.constant(False, name="is_training")


KINDS: dict[str, Callable[[Any, Any, bool], Any]] = {
    maker.__name__: maker
    for maker in (
        fused,
        fused_debiased,
        fused_debiased_resource,
        fused_debiased_of_old,
        fused_without_averages,
        fused_in_cond,
        moments_in_cond,
        noise_by_default,
        noise_by_contrary,
        dropout_in_loop,
        doubled_by_switch,
        constant_data,
    )
}


def _model(tf: Any, kind: str, training: bool, rows: np.ndarray) -> tuple[Any, Any]:
    if kind == "constant_data":
        x = tf.constant(rows, name="x")
    else:
        x = tf.placeholder(tf.float32, [None, WIDTH], name="x")
    with tf.variable_scope("", use_resource=False):
        hidden = KINDS[kind](tf, _layer(tf, x, WIDTH, "before"), training)
        return x, tf.identity(_layer(tf, hidden, 2, "after"), name="prediction")


def make(kind: str, directory: Path) -> None:
    """Train, save, and note what is expected."""
    tf = _tf()
    tf.disable_control_flow_v2()
    tf.disable_resource_variables()
    rows = np.random.default_rng(3).normal(2.0, 3.0, (ROWS, WIDTH)).astype(np.float32)
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        tf.set_random_seed(5)
        x, y = _model(tf, kind, True, rows)
        label = tf.placeholder(tf.float32, [None, 2], name="label")
        loss = tf.reduce_mean(tf.squared_difference(y, label))
        with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
            step = tf.train.GradientDescentOptimizer(1e-3).minimize(tf.identity(loss))
        tf.add_to_collection("train_op", step)
        saver = tf.train.Saver()
        session.run(tf.global_variables_initializer())
        feeds: dict[Any, Any] = {x: rows, label: rows[:, :2]}
        named = {op.name for op in graph.get_operations() if op.type == "Placeholder"}
        feeds |= {"is_training:0": True} if "is_training" in named else {}
        feeds |= {"keep:0": 0.5} if "keep" in named else {}
        for _ in range(3):
            session.run(step, feeds)
        prefix = saver.save(session, str(directory / "model.ckpt"), global_step=3)
        trained = session.run(y, feeds)
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        x, y = _model(tf, kind, False, rows)
        there = {name for name, _ in tf.train.list_variables(prefix)}
        tf.train.Saver([v for v in tf.global_variables() if v.op.name in there]).restore(
            session, prefix
        )
        inferred = session.run(y, {x: rows})
    np.savez(directory / "expected.npz", x=rows, y=inferred, trained=trained)


def run(frozen: Path, arrays: Path, output: Path, tensor: str, fed: str) -> None:
    """Run a frozen graph on ``x`` of the arrays."""
    tf = _tf()
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        tf.import_graph_def(tf.GraphDef.FromString(frozen.read_bytes()), name="")
        np.save(output, session.run(tensor, {fed: np.load(arrays)["x"]}))


if __name__ == "__main__":
    if sys.argv[1] == "run":
        run(Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]), sys.argv[5], sys.argv[6])
    else:
        make(sys.argv[1], Path(sys.argv[2]))
