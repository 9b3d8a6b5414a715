"""Optimizers that people wrote by hand, as papers came out: what does a group make of them?

Rule: gradients come from ``tf.gradients``, and everything after them is arithmetic and assignments.
"""

from __future__ import annotations

from typing import Any

from tests.graph.patterns import Pattern
from tests.graph.silent.parts import descent, errors, gradients_of, still


def _pairs(tf: Any) -> Any:
    gradients, variables = gradients_of(tf, tf.reduce_mean(errors(tf)))
    return list(zip(gradients, variables, strict=True))


def _slot(tf: Any, of: Any, name: str, value: float = 0.0) -> Any:
    return still(tf, f"{of.op.name}/{name}", of.shape.as_list(), value)


def _moments(tf: Any, gradient: Any, of: Any, second: float = 0.99) -> tuple[Any, Any, list[Any]]:
    m, v = _slot(tf, of, "adam_m"), _slot(tf, of, "adam_v")
    next_m = 0.9 * m + 0.1 * gradient
    next_v = second * v + (1.0 - second) * tf.square(gradient)
    return next_m, next_v, [m.assign(next_m), v.assign(next_v)]


def layerwise_rates(tf: Any) -> Any:
    """LARS: each variable's rate follows from its own norm and its gradient's."""
    updates = []
    for gradient, own in _pairs(tf):
        ratio = tf.where(tf.norm(own) > 0.0, tf.norm(own) / (tf.norm(gradient) + 1e-6), 1.0)
        moment = _slot(tf, own, "momentum")
        moved = 0.9 * moment + 0.01 * ratio * (gradient + 1e-4 * own)
        updates += [tf.assign(moment, moved), tf.assign_sub(own, moved)]
    return tf.group(*updates)


def layerwise_adam(tf: Any) -> Any:
    """LAMB: Adam's step scaled by the norm of the weights over its own, with weight decay."""
    updates = []
    for gradient, own in _pairs(tf):
        m, v, writes = _moments(tf, gradient, own)
        step = m / (tf.sqrt(v) + 1e-3) + 0.01 * own
        ratio = tf.where(tf.norm(own) > 0.0, tf.norm(own) / tf.norm(step), 1.0)
        updates += [*writes, own.assign(own - 0.05 * ratio * step)]
    return tf.group(*updates)


def bert_adam(tf: Any) -> Any:
    """BERT's `AdamWeightDecayOptimizer`: assigns by hand, no bias correction, biases excluded from
    the decay, clipping by global norm, the step counted outside of the optimizer."""
    step = tf.train.get_or_create_global_step()
    rate = tf.train.polynomial_decay(0.05, step, 10, end_learning_rate=0.0)
    warm = tf.cast(step < 2, tf.float32)
    rate = (1.0 - warm) * rate + warm * 0.05 * (tf.cast(step, tf.float32) + 1.0) / 2.0
    gradients, variables = gradients_of(tf, tf.reduce_mean(errors(tf)))
    gradients, _ = tf.clip_by_global_norm(gradients, clip_norm=1.0)
    updates = []
    for gradient, own in zip(gradients, variables, strict=True):
        m, v, writes = _moments(tf, gradient, own)
        update = m / (tf.sqrt(v) + 1e-3)
        if "bias" not in own.name:
            update += 0.01 * own
        updates += [own.assign(own - rate * update), *writes]
    with tf.control_dependencies(updates):
        return step.assign(step + 1)


def bounded_adam(tf: Any) -> Any:
    """AdaBound: every element's rate clipped between bounds that close with the step."""
    step = tf.train.get_or_create_global_step()
    t = tf.cast(step, tf.float32) + 1.0
    low, high = 0.1 * (1.0 - 1.0 / (0.01 * t + 1.0)), 0.1 * (1.0 + 1.0 / (0.01 * t))
    updates = []
    for gradient, own in _pairs(tf):
        m, v, writes = _moments(tf, gradient, own)
        updates += [*writes, tf.assign_sub(own, m * tf.clip_by_value(0.1 / tf.sqrt(v), low, high))]
    with tf.control_dependencies(updates):
        return tf.assign_add(step, 1)


def rectified_adam(tf: Any) -> Any:
    """RAdam: the step is rectified once the variance can be trusted, in a `tf.cond` on the step."""
    step = tf.train.get_or_create_global_step()
    t = tf.cast(step, tf.float32) + 1.0
    length = 19.0 - 2.0 * t * tf.pow(0.9, t) / (1.0 - tf.pow(0.9, t))
    updates = []
    for gradient, own in _pairs(tf):
        m, v, writes = _moments(tf, gradient, own, 0.9)
        update = tf.cond(
            length > 1.5, lambda m=m, v=v: m / (tf.sqrt(v) + 1e-3), lambda m=m: tf.identity(m)
        )
        updates += [*writes, tf.assign_sub(own, 0.05 * update)]
    with tf.control_dependencies(updates):
        return tf.assign_add(step, 1)


def lookahead(tf: Any) -> Any:
    """Lookahead: every second step the slow weights follow, and the fast ones are set to them."""
    step = tf.train.get_or_create_global_step()
    optimizer = tf.train.AdamOptimizer(0.05)
    apply = optimizer.apply_gradients(_pairs(tf), global_step=step)
    variables = tf.trainable_variables()
    slow = [_slot(tf, own, "slow") for own in variables]

    def follow() -> Any:
        moved = []
        for behind, own in zip(slow, variables, strict=True):
            kept = behind.assign(behind + 0.5 * (own - behind))
            moved.append(own.assign(kept))
        return tf.group(*moved)

    with tf.control_dependencies([apply]):
        return tf.cond(tf.equal(tf.floormod(step, 2), 0), follow, tf.no_op)


def averaged_weights(tf: Any) -> Any:
    """SWA: a running mean of the weights over the steps, counted in a variable of its own."""
    count = still(tf, "swa/n", [])
    apply = tf.train.MomentumOptimizer(0.05, 0.9).apply_gradients(_pairs(tf))
    with tf.control_dependencies([apply]):
        means = []
        for own in tf.trainable_variables():
            mean = _slot(tf, own, "swa")
            means.append(mean.assign((mean * count + own.read_value()) / (count + 1.0)))
        with tf.control_dependencies(means):
            return tf.assign_add(count, 1.0).op


def centralised(tf: Any) -> Any:
    """Gradient centralisation: each kernel's gradient less its mean over the inputs."""
    gradients, variables = gradients_of(tf, tf.reduce_mean(errors(tf)))
    gradients = [
        each - tf.reduce_mean(each, 0, keepdims=True) if len(each.shape) > 1 else each
        for each in gradients
    ]
    return descent(tf, gradients, variables)


def signs(tf: Any) -> Any:
    """Signum: the sign of a momentum."""
    updates = []
    for gradient, own in _pairs(tf):
        kept = tf.assign(moment := _slot(tf, own, "m"), 0.9 * moment + 0.1 * gradient)
        updates.append(tf.assign_sub(own, 0.01 * tf.sign(kept)))
    return tf.group(*updates)


def preconditioned(tf: Any) -> Any:
    """Shampoo: sums of G Gᵀ, and their inverse roots by an eigendecomposition."""
    updates = []
    for gradient, own in _pairs(tf):
        if len(own.shape) == 1:
            updates.append(tf.assign_sub(own, 0.05 * gradient))
            continue
        size = int(own.shape[0])
        seen = tf.get_variable(f"{own.op.name}/l", initializer=tf.eye(size), trainable=False)
        total = seen.assign_add(tf.matmul(gradient, gradient, transpose_b=True))
        values, vectors = tf.linalg.eigh(total)
        root = tf.matmul(vectors * tf.pow(values, -0.25), vectors, transpose_b=True)
        updates.append(tf.assign_sub(own, 0.05 * tf.matmul(root, gradient)))
    return tf.group(*updates)


def tuned_by_curvature(tf: Any) -> Any:
    """YellowFin's tuning: a window of squared gradient norms, its extremes, and a rate from them."""
    gradients, variables = gradients_of(tf, tf.reduce_mean(errors(tf)))
    window, place = still(tf, "curvature_window", [3]), still(tf, "place", [], 0, dtype=tf.int32)
    square = tf.square(tf.global_norm(gradients))
    with tf.control_dependencies([tf.scatter_update(window, tf.floormod(place, 3), square)]):
        kept = window.read_value()
        rate = 0.1 / (1.0 + tf.reduce_max(kept) - tf.reduce_min(kept))
    apply = tf.train.GradientDescentOptimizer(rate).apply_gradients(
        zip(gradients, variables, strict=True)
    )
    with tf.control_dependencies([apply]):
        return tf.assign_add(place, 1)


def keras_updates(tf: Any) -> Any:
    """Keras' `optimizer.get_updates`: iterations, a decayed rate and clipping by value, grouped as
    `training/…` and run as one function."""
    pairs = _pairs(tf)
    with tf.name_scope("training/RMSprop"):
        iterations = still(tf, "iterations", [], 0, dtype=tf.int64)
        rate = still(tf, "lr", [], 0.05) / (1.0 + 0.1 * tf.cast(iterations, tf.float32))
        with tf.control_dependencies([rate]):
            updates = [tf.assign_add(iterations, 1)]
        for gradient, own in pairs:
            clipped = tf.clip_by_value(gradient, -0.5, 0.5)
            seen = _slot(tf, own, "rms")
            now = 0.9 * seen + 0.1 * tf.square(clipped)
            updates += [tf.assign(seen, now)]
            updates += [tf.assign(own, own - rate * clipped / (tf.sqrt(now) + 1e-3))]
    return tf.group(*updates, name="training/updates")


def accumulated(tf: Any) -> Any:
    """Gradients added up in variables, applied and zeroed on each third step inside of `tf.cond`."""
    step = tf.train.get_or_create_global_step()
    pairs = _pairs(tf)
    sums = [_slot(tf, own, "sum") for _, own in pairs]
    adds = [tf.assign_add(kept, each) for kept, (each, _) in zip(sums, pairs, strict=True)]
    optimizer = tf.train.GradientDescentOptimizer(0.1)

    def apply() -> Any:
        means = [(kept / 3.0, own) for kept, (_, own) in zip(sums, pairs, strict=True)]
        with tf.control_dependencies([optimizer.apply_gradients(means)]):
            return tf.group(*[kept.assign(tf.zeros_like(kept)) for kept in sums])

    with tf.control_dependencies(adds):
        done = tf.cond(tf.equal(tf.floormod(step, 3), 2), apply, tf.no_op)
    with tf.control_dependencies([done]):
        return tf.assign_add(step, 1)


def master_weights(tf: Any) -> Any:
    """Mixed precision by hand: half-precision copies of float32 weights, a static loss scale."""
    x = tf.placeholder(tf.float32, [None, 4], name="x")
    y = tf.placeholder(tf.float32, [None], name="y")
    w = tf.get_variable("w", initializer=tf.constant([[0.25], [-0.5], [0.125], [0.5]]))
    out = tf.matmul(tf.cast(tf.round(x), tf.float16), tf.cast(w, tf.float16))
    loss = tf.reduce_mean(tf.square(tf.cast(tf.squeeze(out, 1), tf.float32) - y))
    gradient = tf.gradients(loss * 128.0, w)[0] / 128.0
    return tf.train.MomentumOptimizer(0.1, 0.9).apply_gradients([(gradient, w)])


PATTERNS = (
    Pattern(layerwise_rates, "equal"),
    Pattern(layerwise_adam, "equal"),
    Pattern(bert_adam, "equal"),
    Pattern(bounded_adam, "equal"),
    Pattern(rectified_adam, "equal"),
    Pattern(lookahead, "equal"),
    Pattern(averaged_weights, "equal"),
    Pattern(centralised, "equal"),
    Pattern(signs, "equal"),
    Pattern(preconditioned, "equal"),
    Pattern(tuned_by_curvature, "equal"),
    Pattern(keras_updates, "equal"),
    Pattern(accumulated, "equal"),
    Pattern(master_weights, "equal", tolerance=2e-3),
)
