"""Which habits train several parts, each by a loss of its own?"""

from __future__ import annotations

from typing import Any

from tests.graph.wild.parts import WIDTH, Habit, dense, error, inputs


def adversarial(tf: Any) -> Habit:
    """A GAN: both parts trained in turn, each by its own variables."""
    x, y = inputs(tf)
    with tf.variable_scope("Generator"):
        fake = dense(tf, tf.nn.relu(dense(tf, x, 5, "h")), WIDTH, "out")
    with tf.variable_scope("Discriminator"):
        real_logit = dense(tf, x + tf.expand_dims(y, 1), 1, "d")
        fake_logit = dense(tf, fake, 1, "d")
    ones, zeros = tf.ones_like(real_logit), tf.zeros_like(fake_logit)
    cross = tf.nn.sigmoid_cross_entropy_with_logits
    d_loss = tf.reduce_mean(
        cross(logits=real_logit, labels=ones) + cross(logits=fake_logit, labels=zeros)
    )
    g_loss = tf.reduce_mean(cross(logits=fake_logit, labels=ones))
    d_vars = [
        variable
        for variable in tf.trainable_variables()
        if variable.name.startswith("Discriminator")
    ]
    g_vars = [
        variable for variable in tf.trainable_variables() if variable.name.startswith("Generator")
    ]
    return Habit(
        (
            tf.train.GradientDescentOptimizer(0.1).minimize(
                d_loss, var_list=d_vars, name="d_train"
            ),
            tf.train.GradientDescentOptimizer(0.1).minimize(
                g_loss, var_list=g_vars, name="g_train"
            ),
        )
    )


def wasserstein(tf: Any) -> Habit:
    """A critic whose weights are clipped after each of its updates, in the same train op."""
    x, y = inputs(tf)
    with tf.variable_scope("gen"):
        fake = dense(tf, x, WIDTH, "out")
    with tf.variable_scope("critic"):
        gap = tf.reduce_mean(dense(tf, x * tf.expand_dims(y, 1), 1, "d")) - tf.reduce_mean(
            dense(tf, fake, 1, "d")
        )
    step = tf.train.RMSPropOptimizer(0.05).minimize(-gap, var_list=tf.trainable_variables("critic"))
    with tf.control_dependencies([step]):
        clip = [
            variable.assign(tf.clip_by_value(variable, -0.1, 0.1))
            for variable in tf.trainable_variables("critic")
        ]
    g_step = tf.train.RMSPropOptimizer(0.05).minimize(
        gap, var_list=tf.trainable_variables("gen"), name="g_step"
    )
    return Habit((tf.group(*clip, name="critic_step"), g_step))


def q_learning(tf: Any) -> Habit:
    """DQN: the target net is trainable by oversight and copied by operations of its own."""
    x, y = inputs(tf)
    with tf.variable_scope("online"):
        q = dense(tf, tf.nn.relu(dense(tf, x, 6, "h1")), 2, "q")
    with tf.variable_scope("target"):
        later = dense(tf, tf.nn.relu(dense(tf, x, 6, "h1")), 2, "q")
    aim = tf.stop_gradient(y + 0.9 * tf.reduce_max(later, 1))
    td = tf.reduce_mean(
        tf.square(aim - tf.reduce_sum(q * tf.one_hot(tf.cast(y > 0, tf.int32), 2), 1))
    )
    train = tf.train.AdamOptimizer(0.01).minimize(
        td, var_list=tf.trainable_variables("online"), name="train_q"
    )
    pairs = zip(tf.trainable_variables("target"), tf.trainable_variables("online"), strict=True)
    tf.group(*[old.assign(new) for old, new in pairs], name="copy_online_to_target")
    return Habit((train,))


def soft_targets(tf: Any) -> Habit:
    """DDPG: the targets follow softly, hung behind the update in one op."""
    x, y = inputs(tf)
    with tf.variable_scope("actor/eval"):
        out = dense(tf, x, 1, "l")
    with tf.variable_scope("actor/target"):
        dense(tf, x, 1, "l")
    train = tf.train.AdamOptimizer(0.01).minimize(
        error(tf, y, out), var_list=tf.trainable_variables("actor/eval")
    )
    pairs = zip(
        tf.trainable_variables("actor/target"), tf.trainable_variables("actor/eval"), strict=True
    )
    with tf.control_dependencies([train]):
        follow = [old.assign(0.9 * old + 0.1 * new) for old, new in pairs]
    return Habit((tf.group(*follow, name="train_and_follow"),))


def every_other_step(tf: Any) -> Habit:
    """An auxiliary part that learns on every second step only, by a conditional on the step."""
    x, y = inputs(tf)
    step = tf.train.get_or_create_global_step()
    main = tf.train.GradientDescentOptimizer(0.1).minimize(
        error(tf, y, dense(tf, x, 1, "main")), var_list=tf.trainable_variables("main")
    )
    aux_loss = error(tf, y * 2.0, dense(tf, x, 1, "aux"))
    optimizer = tf.train.MomentumOptimizer(0.1, 0.9)
    pairs = optimizer.compute_gradients(aux_loss, tf.trainable_variables("aux"))
    now = tf.cond(
        tf.equal(tf.floormod(step, 2), 0), lambda: optimizer.apply_gradients(pairs), tf.no_op
    )
    with tf.control_dependencies([main, now]):
        return Habit((tf.assign_add(step, 1, name="train_step").op,))


def phases(tf: Any) -> Habit:
    """Pre-training of the head, then fine-tuning of all: two train ops over the same variables are
    a question.
    """
    x, y = inputs(tf)
    loss = error(tf, y, dense(tf, dense(tf, x, 3, "body"), 1, "head"))
    tf.train.AdamOptimizer(0.01).minimize(
        loss, var_list=tf.trainable_variables("head"), name="train_head"
    )
    tf.train.GradientDescentOptimizer(0.01).minimize(loss, name="fine_tune")
    return Habit(())
