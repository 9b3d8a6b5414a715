"""Agents: what does a group make of them?

Rule: baselines, temperatures and statistics of observations are variables beside the weights; what
a batch's own numbers decide (a new coefficient, a normalised advantage) isn't made of rows.
"""

from __future__ import annotations

from typing import Any

from tests.graph.patterns import WIDTH, Pattern
from tests.graph.silent.batch_losses import NO_SUM
from tests.graph.silent.parts import (
    descent,
    gradients_of,
    inputs,
    network,
    still,
    train,
)


def _chosen(tf: Any, x: Any, y: Any, scope: str = "policy") -> tuple[Any, Any, Any]:
    """Log probabilities, those of the actions, and the actions."""
    logits = tf.nn.log_softmax(network(tf, x, scope, 3))
    action = tf.cast(tf.floormod(tf.abs(y) * 5.0, 3.0), tf.int32)
    return logits, tf.reduce_sum(logits * tf.one_hot(action, 3), 1), action


def _copied(tf: Any, source: str, target: str, share: float = 1.0) -> Any:
    pairs = zip(tf.global_variables(target), tf.trainable_variables(source), strict=True)
    return tf.group(
        *[old.assign((1.0 - share) * old + share * new.read_value()) for old, new in pairs]
    )


def proximal_policy(tf: Any) -> Any:
    """PPO: clipped ratio against an old policy's variables, a value loss, an entropy bonus."""
    x, y = inputs(tf)
    logits, chance, action = _chosen(tf, x, y)
    old = tf.reduce_sum(
        tf.nn.log_softmax(network(tf, x, "old_policy", 3)) * tf.one_hot(action, 3), 1
    )
    ratio, value = tf.exp(chance - tf.stop_gradient(old)), tf.squeeze(network(tf, x, "value"), 1)
    gain = y - tf.stop_gradient(value)
    clipped = tf.clip_by_value(ratio, 0.8, 1.2)
    surrogate = tf.reduce_mean(tf.minimum(ratio * gain, clipped * gain))
    entropy = -tf.reduce_mean(tf.reduce_sum(tf.exp(logits) * logits, 1))
    loss = 0.5 * tf.reduce_mean(tf.square(y - value)) - surrogate - 0.01 * entropy
    own = [*tf.trainable_variables("policy"), *tf.trainable_variables("value")]
    optimizer = tf.train.AdamOptimizer(0.02, epsilon=1e-5)
    gradients, variables = zip(*optimizer.compute_gradients(loss, own), strict=True)
    return optimizer.apply_gradients(
        zip(tf.clip_by_global_norm(gradients, 0.5)[0], variables, strict=True)
    )


def adapted_divergence(tf: Any) -> Any:
    """PPO's penalty: its coefficient is doubled or halved by `tf.case` on the mean divergence."""
    x, y = inputs(tf)
    logits, chance, _ = _chosen(tf, x, y)
    old = tf.stop_gradient(tf.nn.log_softmax(network(tf, x, "old_policy", 3)))
    beta = still(tf, "beta", [], 1.0)
    divergence = tf.reduce_mean(tf.reduce_sum(tf.exp(old) * (old - logits), 1))
    loss = beta * divergence - tf.reduce_mean(tf.exp(chance) * y)
    gradients, variables = gradients_of(tf, loss, "policy")
    moved = tf.case(
        [(divergence > 0.015, lambda: beta * 2.0), (divergence < 0.007, lambda: beta / 2.0)],
        default=lambda: tf.identity(beta),
        exclusive=True,
    )
    with tf.control_dependencies([descent(tf, gradients, variables), moved]):
        return beta.assign(moved)


def normalised_advantages(tf: Any) -> Any:
    """Advantages are normalised by the batch's mean and deviation."""
    x, y = inputs(tf)
    _, chance, _ = _chosen(tf, x, y)
    mean, spread = tf.nn.moments(y, [0])
    gain = (y - mean) / tf.sqrt(spread + 1e-3)
    return train(tf, -tf.reduce_mean(chance * gain))


def copied_target(tf: Any) -> Any:
    """DQN: the target network is copied every second step inside of `tf.cond`, Huber's loss, each
    gradient clipped by its norm."""
    x, y = inputs(tf)
    step = tf.train.get_or_create_global_step()
    q = network(tf, x, "online", 3)
    later = tf.stop_gradient(tf.reduce_max(network(tf, x + 0.1, "target", 3), 1))
    action = tf.one_hot(tf.cast(tf.floormod(tf.abs(y) * 5.0, 3.0), tf.int32), 3)
    gap = tf.reduce_sum(q * action, 1) - (y + 0.9 * later)
    loss = tf.reduce_mean(tf.where(tf.abs(gap) < 1.0, 0.5 * tf.square(gap), tf.abs(gap) - 0.5))
    optimizer = tf.train.AdamOptimizer(0.02)
    pairs = optimizer.compute_gradients(loss, tf.trainable_variables("online"))
    clipped = [(tf.clip_by_norm(each, 0.5), own) for each, own in pairs]
    with tf.control_dependencies([optimizer.apply_gradients(clipped, global_step=step)]):
        return tf.cond(
            tf.equal(tf.floormod(step.read_value(), 2), 0),
            lambda: _copied(tf, "online", "target"),
            tf.no_op,
        )


def local_and_global(tf: Any) -> Any:
    """A3C: gradients of a local copy are clipped and applied to the global variables, then the
    copy is brought up to date."""
    x, y = inputs(tf)
    network(tf, x, "global", 3)
    _, chance, _ = _chosen(tf, x, y, "worker_0")
    loss = -tf.reduce_mean(chance * y)
    gradients, _ = gradients_of(tf, loss, "worker_0")
    clipped, _ = tf.clip_by_global_norm(gradients, 0.3)
    shared = tf.trainable_variables("global")
    apply = tf.train.RMSPropOptimizer(0.02, 0.99).apply_gradients(zip(clipped, shared, strict=True))
    with tf.control_dependencies([apply]):
        return _copied(tf, "global", "worker_0")


def actor_by_critic(tf: Any) -> Any:
    """DDPG: the critic's gradient with respect to the action is handed to the actor by `grad_ys`,
    divided by the batch size; targets follow softly."""
    x, y = inputs(tf)
    action = network(tf, x, "actor", 2)
    score = network(tf, tf.concat([x, action], 1), "critic")
    network(tf, x, "slow_actor", 2)
    slope = tf.gradients(score, action)[0]
    own = tf.trainable_variables("actor")
    rows = tf.cast(tf.shape(x)[0], tf.float32)
    gradients = [each / rows for each in tf.gradients(action, own, -slope, gate_gradients=True)]
    critic = tf.reduce_mean(tf.square(tf.squeeze(score, 1) - y))
    pairs = tf.train.AdamOptimizer(0.02).compute_gradients(critic, tf.trainable_variables("critic"))
    with tf.control_dependencies([*gradients, *[each for each, _ in pairs]]):
        step = descent(tf, gradients, own)
        other = descent(tf, [each for each, _ in pairs], [kept for _, kept in pairs])
    with tf.control_dependencies([step, other]):
        return _copied(tf, "actor", "slow_actor", 0.1)


def summed_actor(tf: Any) -> Any:
    """DDPG's actor as most wrote it: `tf.gradients(action, weights, -slope)`, which adds up rows."""
    x, _ = inputs(tf)
    action = network(tf, x, "actor", 2)
    slope = tf.gradients(network(tf, tf.concat([x, action], 1), "critic"), action)[0]
    own = tf.trainable_variables("actor")
    return descent(tf, tf.gradients(action, own, -slope, gate_gradients=True), own, 0.02)


def moving_baseline(tf: Any) -> Any:
    """REINFORCE with a baseline that is a moving average of rewards."""
    x, y = inputs(tf)
    _, chance, _ = _chosen(tf, x, y)
    baseline = still(tf, "baseline", [])
    loss = -tf.reduce_mean(chance * (y - baseline))
    gradients, variables = gradients_of(tf, loss)
    with tf.control_dependencies([descent(tf, gradients, variables)]):
        return baseline.assign_sub(0.1 * (baseline - tf.reduce_mean(y)))


def baseline_moved_first(tf: Any) -> Any:
    """REINFORCE whose baseline is moved by the batch's rewards before it's used (ENAS)."""
    x, y = inputs(tf)
    _, chance, _ = _chosen(tf, x, y)
    baseline = still(tf, "baseline", [])
    moved = tf.assign_sub(baseline, 0.1 * (baseline - tf.reduce_mean(y)))
    with tf.control_dependencies([moved]):
        gain = y - baseline.read_value()
    return train(tf, -tf.reduce_mean(chance * gain))


def tuned_temperature(tf: Any) -> Any:
    """SAC: policy, critic and temperature trained in one group, each by its own optimizer."""
    x, y = inputs(tf)
    logits, _, _ = _chosen(tf, x, y)
    q = 3.0 * network(tf, x, "critic", 3)
    heat = tf.get_variable("log_alpha", [], initializer=tf.zeros_initializer())
    chance = tf.exp(logits)
    actor = tf.reduce_mean(
        tf.reduce_sum(chance * (tf.stop_gradient(tf.exp(heat)) * logits - tf.stop_gradient(q)), 1)
    )
    entropy = -tf.reduce_sum(tf.stop_gradient(chance * logits), 1)
    temperature = tf.reduce_mean(heat * (entropy - 0.7))
    critic = tf.reduce_mean(tf.square(tf.reduce_mean(q, 1) - y))
    parts = [(actor, "policy"), (critic, "critic"), (temperature, "log_alpha")]
    pairs = [
        tf.train.AdamOptimizer(0.02).compute_gradients(loss, tf.trainable_variables(scope))
        for loss, scope in parts
    ]
    with tf.control_dependencies([each for some in pairs for each, _ in some]):
        return tf.group(*[tf.train.AdamOptimizer(0.02).apply_gradients(some) for some in pairs])


def normalised_observations(tf: Any) -> Any:
    """Running sum, sum of squares and count of observations (baselines' RunningMeanStd), read before
    they're added to."""
    x, y = inputs(tf)
    total, squares = still(tf, "sum", [WIDTH]), still(tf, "sumsq", [WIDTH], 1.0)
    count = still(tf, "count", [], 1.0)
    mean = total / count
    spread = tf.maximum(squares / count - tf.square(mean), 1e-2)
    seen = tf.clip_by_value((x - mean) / tf.sqrt(spread), -5.0, 5.0)
    loss = tf.reduce_mean(tf.square(tf.squeeze(network(tf, seen), 1) - y))
    with tf.control_dependencies([train(tf, loss)]):
        return tf.group(
            total.assign_add(tf.reduce_sum(x, 0)),
            squares.assign_add(tf.reduce_sum(tf.square(x), 0)),
            count.assign_add(tf.cast(tf.shape(x)[0], tf.float32)),
        )


def projected_distribution(tf: Any) -> Any:
    """A categorical critic (C51): the target's distribution projected onto fixed atoms."""
    x, y = inputs(tf)
    atoms = tf.linspace(-2.0, 2.0, 5)
    aim = tf.stop_gradient(tf.nn.softmax(network(tf, x, "target", 5)))
    moved = tf.clip_by_value(y[:, None] + 0.9 * atoms, -2.0, 2.0)
    near = tf.clip_by_value(1.0 - tf.abs(moved[:, None] - atoms[None, :, None]), 0.0, 1.0)
    wanted = tf.reduce_sum(near * aim[:, None], 2)
    loss = -tf.reduce_sum(wanted * tf.nn.log_softmax(network(tf, x, "online", 5)), 1)
    return tf.train.AdamOptimizer(0.02).minimize(
        tf.reduce_mean(loss), var_list=tf.trainable_variables("online")
    )


def natural_gradient(tf: Any) -> Any:
    """TRPO's direction: two steps of conjugate gradients with the divergence's Hessian products."""
    x, y = inputs(tf)
    logits, chance, _ = _chosen(tf, x, y)
    own = tf.trainable_variables()
    old = tf.stop_gradient(logits)
    divergence = tf.reduce_mean(tf.reduce_sum(tf.exp(old) * (old - logits), 1))
    slopes = tf.gradients(divergence, own)

    def flat(many: Any) -> Any:
        return tf.concat([tf.reshape(each, [-1]) for each in many], 0)

    def product(vector: Any) -> Any:
        inner = tf.reduce_sum(flat(slopes) * tf.stop_gradient(vector))
        return flat(tf.gradients(inner, own)) + 0.1 * vector

    gradient = flat(tf.gradients(-tf.reduce_mean(chance * y), own))
    residual = direction = gradient
    found = tf.zeros_like(gradient)
    for _ in range(2):
        moved = product(direction)
        length = tf.reduce_sum(residual * residual) / tf.reduce_sum(direction * moved)
        found += length * direction
        left = residual - length * moved
        direction = left + direction * tf.reduce_sum(left * left) / tf.reduce_sum(residual**2)
        residual = left
    sizes = [int(own_one.shape.num_elements()) for own_one in own]
    steps = [
        tf.reshape(part, each.shape) for part, each in zip(tf.split(found, sizes), own, strict=True)
    ]
    with tf.control_dependencies(steps):
        return tf.group(
            *[each.assign_sub(0.05 * step) for each, step in zip(own, steps, strict=True)]
        )


PATTERNS = (
    Pattern(proximal_policy, "equal"),
    Pattern(adapted_divergence, "equal"),
    Pattern(normalised_advantages, "told", NO_SUM),
    Pattern(copied_target, "equal"),
    Pattern(local_and_global, "equal"),
    Pattern(
        actor_by_critic,
        "told",
        "the group's sum is 2 times one process's",
        gap="that a sum over rows is divided by their number behind `tf.gradients` isn't seen yet",
    ),
    Pattern(summed_actor, "equal"),
    Pattern(moving_baseline, "equal"),
    Pattern(
        baseline_moved_first,
        "refused",
        "reads baseline after",
        gap="the rewards would have to be exchanged before the gradients are computed",
    ),
    Pattern(tuned_temperature, "equal"),
    Pattern(normalised_observations, "equal"),
    Pattern(projected_distribution, "equal"),
    Pattern(
        natural_gradient,
        "told",
        "what trains these weights without gradients",
        gap="each product with the Hessian would have to be exchanged before the next",
    ),
)
