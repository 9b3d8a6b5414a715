"""Which traits do graphs from the wild have that make them hard to cut? One small TF1 graph for
each.

Rule: as their authors would have written them. Each maker builds into the default graph and returns
the operations to run, in order; inputs are ``x:0`` float32 ``[rows, 4]`` and ``y:0`` float32
``[rows]``, the loss is a mean over rows.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

WIDTH = 4


def batch(step: int, rows: int = 6) -> dict[str, np.ndarray]:
    """``x:0`` and ``y:0`` of a step."""
    rng = np.random.default_rng(100 + step)
    x = rng.normal(size=(rows, WIDTH)).astype(np.float32)
    return {"x:0": x, "y:0": (x.sum(1) + rng.normal(size=rows)).astype(np.float32)}


def _inputs(tf: Any) -> tuple[Any, Any]:
    return tf.placeholder(tf.float32, [None, WIDTH], name="x"), tf.placeholder(
        tf.float32, [None], name="y"
    )


def _layer(tf: Any, name: str, width: int = 1, resource: bool = False) -> Any:
    initializer = tf.random_normal_initializer(stddev=0.3, seed=3)
    return tf.get_variable(name, [WIDTH, width], initializer=initializer, use_resource=resource)


def _loss(tf: Any, x: Any, y: Any, weights: Any) -> Any:
    return tf.reduce_mean(tf.square(tf.squeeze(tf.matmul(x, weights), 1) - y))


def _moving(tf: Any, name: str, value: Any, zero_debias: bool = False) -> Any:
    from tensorflow.python.training import moving_averages

    moving = tf.get_variable(
        name, [], initializer=tf.zeros_initializer(), trainable=False, use_resource=False
    )
    return moving_averages.assign_moving_average(moving, value, 0.9, zero_debias=zero_debias)


def debiased(tf: Any) -> list[Any]:
    """A moving average that reads back what it has just written, before the gradients."""
    x, y = _inputs(tf)
    update = _moving(tf, "mean", tf.reduce_mean(x), zero_debias=True)
    with tf.control_dependencies([update]):
        return [tf.train.AdamOptimizer(0.1).minimize(_loss(tf, x, y, _layer(tf, "w")))]


def slim(tf: Any) -> list[Any]:
    """UPDATE_OPS as tf-slim ties them: a NoOp, then an Identity of the loss; the train op is the
    loss itself.
    """
    x, y = _inputs(tf)
    loss = _loss(tf, x, y, _layer(tf, "w"))
    update = _moving(tf, "mean", tf.reduce_mean(x))
    with tf.control_dependencies([tf.group(update, name="update_barrier")]):
        loss = tf.identity(loss)
    pairs = tf.train.MomentumOptimizer(0.1, 0.9).compute_gradients(loss)
    applied = tf.train.MomentumOptimizer(0.1, 0.9).apply_gradients(
        pairs, global_step=tf.train.get_or_create_global_step()
    )
    with tf.control_dependencies([applied]):
        return [tf.identity(loss, name="train_op")]


def parallel_average(tf: Any) -> list[Any]:
    """Averages of the weights beside the optimizer, in no order with it."""
    x, y = _inputs(tf)
    weights = _layer(tf, "w")
    applied = tf.train.GradientDescentOptimizer(0.1).minimize(_loss(tf, x, y, weights))
    return [
        tf.group(applied, tf.train.ExponentialMovingAverage(0.9).apply([weights]), name="train")
    ]


def copied_weights(tf: Any) -> list[Any]:
    """A target network that copies the weights' memory while the optimizer may write it."""
    x, y = _inputs(tf)
    weights = _layer(tf, "w")
    target = tf.get_variable(
        "target",
        [WIDTH, 1],
        initializer=tf.zeros_initializer(),
        trainable=False,
        use_resource=False,
    )
    applied = tf.train.GradientDescentOptimizer(0.1).minimize(_loss(tf, x, y, weights))
    return [tf.group(applied, tf.assign(target, weights), name="train")]


def adversaries(tf: Any) -> list[Any]:
    """Two train ops that share UPDATE_OPS and the step."""
    x, y = _inputs(tf)
    counter = tf.train.get_or_create_global_step()
    update = _moving(tf, "mean", tf.reduce_mean(x))
    first, second = _layer(tf, "generator"), _layer(tf, "discriminator")
    loss = _loss(tf, x, y, first + second)
    bump = tf.assign_add(counter, 1)
    ops = []
    for weights, sign in ((first, 1.0), (second, 0.5)):
        with tf.control_dependencies([update]):
            applied = tf.train.AdamOptimizer(0.1).minimize(sign * loss, var_list=[weights])
        ops.append(tf.group(applied, bump))
    return ops


def towers(tf: Any) -> list[Any]:
    """Two towers whose gradients the graph averages itself."""
    x, y = _inputs(tf)
    weights, bias = (
        _layer(tf, "w"),
        tf.get_variable("b", [1], initializer=tf.zeros_initializer(), use_resource=False),
    )
    optimizer = tf.train.AdamOptimizer(0.1)
    parts = []
    for tower, (rows, labels) in enumerate(zip(tf.split(x, 2), tf.split(y, 2), strict=True)):
        with tf.name_scope(f"tower_{tower}"), tf.device(f"/gpu:{tower}"):
            parts.append(optimizer.compute_gradients(_loss(tf, rows, labels - bias, weights)))
    averaged = []
    for pairs in zip(*parts, strict=True):
        stacked = tf.concat([tf.expand_dims(gradient, 0) for gradient, _ in pairs], 0)
        averaged.append((tf.reduce_mean(stacked, 0), pairs[0][1]))
    return [optimizer.apply_gradients(averaged)]


def replicas(tf: Any) -> list[Any]:
    """SyncReplicasOptimizer, as one of its workers saw it."""
    x, y = _inputs(tf)
    counter = tf.train.get_or_create_global_step()
    optimizer = tf.train.SyncReplicasOptimizer(tf.train.AdamOptimizer(0.1), replicas_to_aggregate=2)
    optimizer.minimize(_loss(tf, x, y, _layer(tf, "w")), global_step=counter)
    return []


def accumulated(tf: Any) -> list[Any]:
    """Gradients added up over runs, applied by an op of its own."""
    x, y = _inputs(tf)
    weights = _layer(tf, "w")
    optimizer = tf.train.AdamOptimizer(0.1)
    gradient = optimizer.compute_gradients(_loss(tf, x, y, weights), [weights])[0][0]
    total = tf.get_variable(
        "total", [WIDTH, 1], initializer=tf.zeros_initializer(), trainable=False, use_resource=False
    )
    add = tf.assign_add(total, gradient, name="add")
    apply = optimizer.apply_gradients([(total / 2.0, weights)], name="apply")
    with tf.control_dependencies([apply]):
        return [add, tf.group(tf.assign(total, tf.zeros_like(total)), name="apply_and_clear")]


def scaled(tf: Any) -> list[Any]:
    """Loss scaling: gradients are applied within a conditional if they're finite."""
    x, y = _inputs(tf)
    weights = _layer(tf, "w", resource=True)
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    gradient = optimizer.compute_gradients(_loss(tf, x, y, weights) * 8.0, [weights])[0][0] / 8.0
    finite = tf.reduce_all(tf.is_finite(gradient))
    return [
        tf.cond(
            finite, lambda: optimizer.apply_gradients([(gradient, weights)]), tf.no_op, name="train"
        ).op
    ]


def scaled_in_functions(tf: Any) -> list[Any]:
    """The same with a conditional of the second kind, whose branches are functions."""
    tf.enable_control_flow_v2()
    try:
        return scaled(tf)
    finally:
        tf.disable_control_flow_v2()


def penalty(tf: Any) -> list[Any]:
    """A gradient inside the loss: the inner one belongs to each batch and must not be exchanged."""
    x, y = _inputs(tf)
    weights = _layer(tf, "w")
    inner = tf.gradients(tf.square(tf.matmul(x, weights)), x)[0]
    loss = _loss(tf, x, y, weights) + tf.reduce_mean(tf.square(inner))
    return [tf.train.AdamOptimizer(0.05).minimize(loss)]


def by_hand(tf: Any) -> list[Any]:
    """No optimizer: the weights are assigned."""
    x, y = _inputs(tf)
    weights = _layer(tf, "w")
    return [
        tf.assign(weights, weights - 0.1 * tf.gradients(_loss(tf, x, y, weights), weights)[0]).op
    ]


def unscoped(tf: Any) -> list[Any]:
    """A backward pass written by hand: no gradient scope anywhere."""
    x, y = _inputs(tf)
    weights = _layer(tf, "w")
    error = tf.squeeze(tf.matmul(x, weights), 1) - y
    gradient = 2.0 * tf.reduce_mean(x * tf.expand_dims(error, 1), 0)
    return [tf.train.AdamOptimizer(0.1).apply_gradients([(tf.expand_dims(gradient, 1), weights)])]


def counted(tf: Any) -> list[Any]:
    """Rows seen, a whole number that depends on the batch."""
    x, y = _inputs(tf)
    seen = tf.get_variable(
        "seen",
        [],
        tf.int64,
        initializer=tf.zeros_initializer(),
        trainable=False,
        use_resource=False,
    )
    applied = tf.train.GradientDescentOptimizer(0.1).minimize(_loss(tf, x, y, _layer(tf, "w")))
    return [tf.group(applied, tf.assign_add(seen, tf.shape(x, out_type=tf.int64)[0]), name="train")]


def clipped(tf: Any) -> list[Any]:
    """Every gradient clipped by value, on resource variables."""
    x, y = _inputs(tf)
    optimizer = tf.train.RMSPropOptimizer(0.1)
    pairs = optimizer.compute_gradients(_loss(tf, x, y, _layer(tf, "w", resource=True)))
    return [
        optimizer.apply_gradients(
            [(tf.clip_by_value(gradient, -0.1, 0.1), weights) for gradient, weights in pairs]
        )
    ]


def two_optimizers(tf: Any) -> list[Any]:
    """Parts of one step with an optimizer each; only the sink counts the step."""
    x, y = _inputs(tf)
    counter = tf.train.get_or_create_global_step()
    wide, deep = _layer(tf, "wide"), _layer(tf, "deep")
    loss = _loss(tf, x, y, wide + deep)
    parts = [
        tf.train.FtrlOptimizer(0.1).minimize(loss, var_list=[wide]),
        tf.train.AdagradOptimizer(0.1).minimize(loss, var_list=[deep]),
    ]
    with tf.control_dependencies([tf.group(*parts)]):
        return [tf.assign_add(counter, 1).op]


def averaged_loss(tf: Any) -> list[Any]:
    """A moving average of the loss that hangs downstream of the optimizer."""
    x, y = _inputs(tf)
    loss = _loss(tf, x, y, _layer(tf, "w"))
    applied = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
    with tf.control_dependencies([applied]):
        return [tf.group(_moving(tf, "loss_average", loss), name="train")]


def decayed(tf: Any) -> list[Any]:
    """A learning rate computed from the step, with staircase and all."""
    x, y = _inputs(tf)
    counter = tf.train.get_or_create_global_step()
    rate = tf.train.exponential_decay(0.1, counter, 2, 0.5, staircase=True)
    return [
        tf.train.AdamOptimizer(rate).minimize(_loss(tf, x, y, _layer(tf, "w")), global_step=counter)
    ]


TRAITS: dict[str, Callable[[Any], list[Any]]] = {
    maker.__name__: maker
    for maker in (
        debiased,
        slim,
        parallel_average,
        copied_weights,
        adversaries,
        towers,
        replicas,
        accumulated,
        scaled,
        scaled_in_functions,
        penalty,
        by_hand,
        unscoped,
        counted,
        clipped,
        two_optimizers,
        averaged_loss,
        decayed,
    )
}


def make_trait(name: str, directory: Path) -> tuple[Path, list[str]]:
    """Build, initialise and save the graph of this trait; its prefix and the operations to run."""
    import tensorflow

    tf = tensorflow.compat.v1
    tf.disable_resource_variables()
    tf.disable_control_flow_v2()
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(11)
        ops = [getattr(op, "op", op).name for op in TRAITS[name](tf)]
        saver = tf.train.Saver()
        with tf.Session(graph=graph, config=tf.ConfigProto(allow_soft_placement=True)) as session:
            session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
            return Path(saver.save(session, str(directory / "model.ckpt"), global_step=0)), ops
