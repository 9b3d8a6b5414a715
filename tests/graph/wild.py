"""How do people write their TensorFlow 1 training code? One small graph for each habit, with what
should be found in it.

Rule: as published code does it, with its names and its detours; nothing here is written so that the
analysis has it easy. Each maker builds into the default graph and says which operation trains it;
inputs are ``x:0`` float32 ``[rows, 4]`` and ``y:0`` float32 ``[rows]``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WIDTH = 4
WORDS = 11
OF_A_BATCH = "*oving_variance"
"""The variance of each worker's batch; the mean of two isn't the variance of both."""
EVERYTHING = "*"
"""The graph itself leaves open whether a read or a write comes first."""


@dataclass(frozen=True)
class Habit:
    """A graph and what is right to find in it.

    Attributes:
        ops: the operations that a run should choose by itself; empty where it should ask.
        feeds: scalar placeholders with their values.
        apart: patterns of variables in which a group rightly differs from one process with all
            rows.
    """

    ops: tuple[Any, ...]
    feeds: tuple[tuple[str, Any], ...] = ()
    apart: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Names of the operations."""
        return [getattr(op, "op", op).name for op in self.ops]


def _inputs(tf: Any) -> tuple[Any, Any]:
    return tf.placeholder(tf.float32, [None, WIDTH], name="x"), tf.placeholder(
        tf.float32, [None], name="y"
    )


def _variable(tf: Any, name: str, shape: list[int], **options: Any) -> Any:
    return tf.get_variable(
        name, shape, initializer=tf.random_normal_initializer(stddev=0.3, seed=3), **options
    )


def _dense(tf: Any, x: Any, width: int, name: str) -> Any:
    with tf.variable_scope(name, reuse=tf.AUTO_REUSE):
        kernel = _variable(tf, "kernel", [int(x.shape[-1]), width])
        bias = tf.get_variable("bias", [width], initializer=tf.zeros_initializer())
        return tf.nn.bias_add(tf.matmul(x, kernel), bias)


def _error(tf: Any, y: Any, out: Any) -> Any:
    return tf.reduce_mean(tf.square(tf.squeeze(out, 1) - y), name="loss")


def _words(tf: Any, x: Any) -> Any:
    return tf.cast(tf.floormod(tf.abs(x) * 10.0, float(WORDS)), tf.int32)


def recurrent(tf: Any) -> Habit:
    """A recurrent net in a while loop, clipped by global norm, as char-rnn tutorials do."""
    x, y = _inputs(tf)
    cell = _variable(tf, "rnn/kernel", [9, 8])
    steps = tf.TensorArray(tf.float32, WIDTH).unstack(tf.transpose(x))

    def body(time: Any, state: Any) -> tuple[Any, Any]:
        return time + 1, tf.tanh(
            tf.matmul(tf.concat([tf.expand_dims(steps.read(time), 1), state], 1), cell)
        )

    _, state = tf.while_loop(lambda time, _: time < WIDTH, body, [0, tf.zeros([tf.shape(x)[0], 8])])
    cost = _error(tf, y, _dense(tf, state, 1, "softmaxLayer"))
    lr = tf.get_variable("lr", [], initializer=tf.constant_initializer(0.01), trainable=False)
    tvars = tf.trainable_variables()
    grads, _ = tf.clip_by_global_norm(tf.gradients(cost, tvars), 0.5)
    return Habit((tf.train.AdamOptimizer(lr).apply_gradients(zip(grads, tvars, strict=True)),))


def word_vectors(tf: Any) -> Habit:
    """Embeddings with duplicates, an average, Adam with clipping of IndexedSlices by norm."""
    x, y = _inputs(tf)
    table = _variable(tf, "embeddings", [WORDS, 3])
    vectors = tf.reduce_mean(tf.nn.embedding_lookup(table, _words(tf, x)), 1)
    optimizer = tf.train.AdamOptimizer(0.05)
    pairs = optimizer.compute_gradients(_error(tf, y, _dense(tf, vectors, 1, "out")))
    clipped = [(tf.clip_by_norm(gradient, 0.3), variable) for gradient, variable in pairs]
    return Habit(
        (optimizer.apply_gradients(clipped, global_step=tf.train.get_or_create_global_step()),)
    )


def sparse_columns(tf: Any) -> Habit:
    """Partitioned tables read by embedding_lookup_sparse, wide part by Ftrl, deep part by Adagrad,
    the step counted by the sink.
    """
    x, y = _inputs(tf)
    words = _words(tf, x)
    rows = tf.shape(x, out_type=tf.int64)[0]
    where = tf.stack(
        [tf.repeat(tf.range(rows), WIDTH), tf.tile(tf.range(WIDTH, dtype=tf.int64), [rows])], 1
    )
    sparse = tf.SparseTensor(where, tf.reshape(tf.cast(words, tf.int64), [-1]), [rows, WIDTH])
    cut = tf.fixed_size_partitioner(2)
    wide = tf.get_variable(
        "linear/weights", [WORDS, 1], initializer=tf.zeros_initializer(), partitioner=cut
    )
    with tf.variable_scope("dnn", partitioner=cut):
        deep = _variable(tf, "embedding_weights", [WORDS, 3])
    logits = tf.nn.embedding_lookup_sparse(wide, sparse, None, combiner="sum")
    hidden = tf.nn.relu(
        _dense(
            tf, tf.nn.embedding_lookup_sparse(deep, sparse, None, combiner="mean"), 5, "dnn/hidden"
        )
    )
    loss = _error(tf, y, logits + _dense(tf, hidden, 1, "dnn/logits"))
    parts = [
        tf.train.FtrlOptimizer(0.1).minimize(loss, var_list=tf.trainable_variables("linear")),
        tf.train.AdagradOptimizer(0.1).minimize(loss, var_list=tf.trainable_variables("dnn")),
    ]
    with tf.control_dependencies([tf.group(*parts)]):
        return Habit((tf.assign_add(tf.train.get_or_create_global_step(), 1).op,))


def text_classes(tf: Any) -> Habit:
    """Strings through a lookup table into an embedding."""
    from tensorflow.python.ops import lookup_ops

    x, y = _inputs(tf)
    table = lookup_ops.index_table_from_tensor(
        tf.constant([str(word) for word in range(WORDS - 2)]), num_oov_buckets=2
    )
    words = table.lookup(tf.as_string(_words(tf, x)))
    vectors = tf.reduce_sum(tf.nn.embedding_lookup(_variable(tf, "emb", [WORDS, 3]), words), 1)
    loss = _error(tf, y, _dense(tf, vectors, 1, "out"))
    return Habit(
        (tf.train.RMSPropOptimizer(0.01).minimize(loss, global_step=tf.train.create_global_step()),)
    )


def adversarial(tf: Any) -> Habit:
    """A GAN: both parts trained in turn, each by its own variables."""
    x, y = _inputs(tf)
    with tf.variable_scope("Generator"):
        fake = _dense(tf, tf.nn.relu(_dense(tf, x, 5, "h")), WIDTH, "out")
    with tf.variable_scope("Discriminator"):
        real_logit = _dense(tf, x + tf.expand_dims(y, 1), 1, "d")
        fake_logit = _dense(tf, fake, 1, "d")
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
    x, y = _inputs(tf)
    with tf.variable_scope("gen"):
        fake = _dense(tf, x, WIDTH, "out")
    with tf.variable_scope("critic"):
        gap = tf.reduce_mean(_dense(tf, x * tf.expand_dims(y, 1), 1, "d")) - tf.reduce_mean(
            _dense(tf, fake, 1, "d")
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
    x, y = _inputs(tf)
    with tf.variable_scope("online"):
        q = _dense(tf, tf.nn.relu(_dense(tf, x, 6, "h1")), 2, "q")
    with tf.variable_scope("target"):
        later = _dense(tf, tf.nn.relu(_dense(tf, x, 6, "h1")), 2, "q")
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
    x, y = _inputs(tf)
    with tf.variable_scope("actor/eval"):
        out = _dense(tf, x, 1, "l")
    with tf.variable_scope("actor/target"):
        _dense(tf, x, 1, "l")
    train = tf.train.AdamOptimizer(0.01).minimize(
        _error(tf, y, out), var_list=tf.trainable_variables("actor/eval")
    )
    pairs = zip(
        tf.trainable_variables("actor/target"), tf.trainable_variables("actor/eval"), strict=True
    )
    with tf.control_dependencies([train]):
        follow = [old.assign(0.9 * old + 0.1 * new) for old, new in pairs]
    return Habit((tf.group(*follow, name="train_and_follow"),))


def shadowed(tf: Any) -> Habit:
    """Moving averages of weights downstream of the optimizer; the collection knows the optimizer
    alone.
    """
    x, y = _inputs(tf)
    step = tf.train.get_or_create_global_step()
    rate = tf.train.exponential_decay(0.1, step, 2, 0.9, staircase=True)
    apply = tf.train.GradientDescentOptimizer(rate).minimize(
        _error(tf, y, _dense(tf, x, 1, "l")), global_step=step
    )
    averages = tf.train.ExponentialMovingAverage(0.9, step)
    with tf.control_dependencies([apply]):
        return Habit((tf.group(averages.apply(tf.trainable_variables()), name="train"),))


def noisy_gradients(tf: Any) -> Habit:
    """Gradient noise and a norm summary, as contrib.layers.optimize_loss adds them; the train op is
    the loss.
    """
    x, y = _inputs(tf)
    step = tf.train.get_or_create_global_step()
    with tf.variable_scope("OptimizeLoss"):
        loss = _error(tf, y, _dense(tf, x, 1, "l"))
        optimizer = tf.train.GradientDescentOptimizer(0.1)
        pairs = optimizer.compute_gradients(loss)
        noisy = [
            (gradient + 0.0 * tf.truncated_normal(tf.shape(gradient)), variable)
            for gradient, variable in pairs
        ]
        tf.summary.scalar(
            "global_norm/gradient_norm", tf.global_norm([gradient for gradient, _ in noisy])
        )
        update = optimizer.apply_gradients(noisy, global_step=step, name="train")
        with tf.control_dependencies([update]):
            return Habit((tf.identity(loss, name="control_dependency").op,))


def loss_scaled(tf: Any) -> Habit:
    """Mixed precision's dynamic loss scale: the scale and the good steps are variables, updates
    stand in a conditional.
    """
    x, y = _inputs(tf)
    scale = tf.get_variable(
        "current_loss_scale", [], initializer=tf.constant_initializer(8.0), trainable=False
    )
    good = tf.get_variable(
        "good_steps", [], tf.int64, initializer=tf.zeros_initializer(), trainable=False
    )
    loss = _error(tf, y, _dense(tf, x, 1, "l"))
    optimizer = tf.train.MomentumOptimizer(0.05, 0.9)
    pairs = [
        (gradient / scale, variable)
        for gradient, variable in optimizer.compute_gradients(loss * scale)
    ]
    finite = tf.reduce_all(
        tf.stack([tf.reduce_all(tf.is_finite(gradient)) for gradient, _ in pairs])
    )

    def apply() -> Any:
        with tf.control_dependencies([optimizer.apply_gradients(pairs)]):
            return tf.group(tf.assign_add(good, 1))

    return Habit(
        (
            tf.cond(
                finite, apply, lambda: tf.group(tf.assign(scale, scale / 2.0)), name="LossScale"
            ).op,
        )
    )


def hand_written_adam(tf: Any) -> Habit:
    """Keras in graph mode: updates are plain assignments under ``training/Adam``, and nothing is in
    the train_op collection.
    """
    x, y = _inputs(tf)
    loss = _error(tf, y, _dense(tf, x, 1, "dense_1"))
    params = tf.trainable_variables()
    updates = []
    with tf.name_scope("training/Adam"):
        gradients = tf.gradients(loss, params)
        iterations = tf.get_variable(
            "Adam/iterations", [], tf.int64, initializer=tf.zeros_initializer(), trainable=False
        )
        updates.append(tf.assign_add(iterations, 1))
        for parameter, gradient in zip(params, gradients, strict=True):
            shape = parameter.shape.as_list()
            moment = tf.get_variable(
                f"m_{parameter.op.name}", shape, initializer=tf.zeros_initializer(), trainable=False
            )
            new = 0.9 * moment + 0.1 * gradient
            updates.append(tf.assign(moment, new))
            updates.append(tf.assign(parameter, parameter - 0.05 * new))
    return Habit((tf.group(*updates, name="training/group_deps"),))


def switched_normalisation(tf: Any) -> Habit:
    """contrib's batch norm with ``is_training`` as a placeholder: averages are assigned inside a
    conditional, before the loss.
    """
    from tensorflow.python.training import moving_averages

    x, y = _inputs(tf)
    training = tf.placeholder(tf.bool, [], name="is_training")
    hidden = _dense(tf, x, 3, "h")
    mean, variance = tf.nn.moments(hidden, [0])
    moving = [
        tf.get_variable(
            f"BatchNorm/moving_{kind}", [3], initializer=tf.zeros_initializer(), trainable=False
        )
        for kind in ("mean", "variance")
    ]

    def update() -> list[Any]:
        pairs = zip(moving, (mean, variance), strict=True)
        return [
            moving_averages.assign_moving_average(old, new, 0.9, zero_debias=False)
            for old, new in pairs
        ]

    def keep() -> list[Any]:
        return [tf.identity(old) for old in moving]

    with tf.control_dependencies(tf.cond(training, update, keep)):
        normal = tf.identity(tf.cond(training, lambda: mean * 0.0, lambda: moving[0]) + hidden)
    loss = _error(tf, y, _dense(tf, normal, 1, "out"))
    return Habit(
        (tf.train.GradientDescentOptimizer(0.1).minimize(loss),),
        (("is_training:0", True),),
        (OF_A_BATCH,),
    )


def contrib_normalisation(tf: Any) -> Habit:
    """contrib.layers.batch_norm with ``updates_collections=None`` and a placeholder: one
    conditional gives batch or moving moments.
    """
    from tensorflow.python.training import moving_averages

    x, y = _inputs(tf)
    training = tf.placeholder(tf.bool, [], name="is_training")
    hidden = _dense(tf, x, 3, "h")
    mean, variance = tf.nn.moments(hidden, [0])
    moving_mean = tf.get_variable(
        "BatchNorm/moving_mean", [3], initializer=tf.zeros_initializer(), trainable=False
    )
    moving_variance = tf.get_variable(
        "BatchNorm/moving_variance", [3], initializer=tf.ones_initializer(), trainable=False
    )

    def force_updates() -> Any:
        updates = [
            moving_averages.assign_moving_average(moving_mean, mean, 0.9, zero_debias=False),
            moving_averages.assign_moving_average(
                moving_variance, variance, 0.9, zero_debias=False
            ),
        ]
        with tf.control_dependencies(updates):
            return tf.identity(mean), tf.identity(variance)

    centre, spread = tf.cond(
        training, force_updates, lambda: (tf.identity(moving_mean), tf.identity(moving_variance))
    )
    normal = tf.nn.batch_normalization(hidden, 0.0 * centre, 0.0 * spread + 1.0, None, None, 0.001)
    loss = _error(tf, y, _dense(tf, normal, 1, "out"))
    step = tf.train.get_or_create_global_step()
    return Habit(
        (tf.train.AdamOptimizer(0.05).minimize(loss, global_step=step),),
        (("is_training:0", True),),
        (OF_A_BATCH,),
    )


def tutorial_normalisation(tf: Any) -> Habit:
    """The batch norm of a thousand tutorials: an ExponentialMovingAverage applied inside tf.cond."""
    x, y = _inputs(tf)
    training = tf.placeholder(tf.bool, name="phase_train")
    hidden = _dense(tf, x, 3, "h")
    mean, variance = tf.nn.moments(hidden, [0], name="moments")
    ema = tf.train.ExponentialMovingAverage(decay=0.5)

    def mean_var_with_update() -> Any:
        with tf.control_dependencies([ema.apply([mean, variance])]):
            return tf.identity(mean), tf.identity(variance)

    centre, spread = tf.cond(
        training, mean_var_with_update, lambda: (ema.average(mean), ema.average(variance))
    )
    normal = tf.nn.batch_normalization(hidden, 0.0 * centre, 0.0 * spread + 1.0, None, None, 1e-3)
    loss = _error(tf, y, _dense(tf, normal, 1, "out"))
    return Habit(
        (tf.train.GradientDescentOptimizer(0.1).minimize(loss),),
        (("phase_train:0", True),),
        ("moments/Squeeze_1/*",),
    )


def every_other_step(tf: Any) -> Habit:
    """An auxiliary part that learns on every second step only, by a conditional on the step."""
    x, y = _inputs(tf)
    step = tf.train.get_or_create_global_step()
    main = tf.train.GradientDescentOptimizer(0.1).minimize(
        _error(tf, y, _dense(tf, x, 1, "main")), var_list=tf.trainable_variables("main")
    )
    aux_loss = _error(tf, y * 2.0, _dense(tf, x, 1, "aux"))
    optimizer = tf.train.MomentumOptimizer(0.1, 0.9)
    pairs = optimizer.compute_gradients(aux_loss, tf.trainable_variables("aux"))
    now = tf.cond(
        tf.equal(tf.floormod(step, 2), 0), lambda: optimizer.apply_gradients(pairs), tf.no_op
    )
    with tf.control_dependencies([main, now]):
        return Habit((tf.assign_add(step, 1, name="train_step").op,))


def own_gradient_scope(tf: Any) -> Habit:
    """The author's own name scope is called ``gradients``: clipping stands in it too."""
    x, y = _inputs(tf)
    loss = _error(tf, y, _dense(tf, x, 1, "l"))
    variables = tf.trainable_variables()
    with tf.name_scope("gradients"):
        gradients, _ = tf.clip_by_global_norm(tf.gradients(loss, variables), 0.2)
    return Habit(
        (
            tf.train.GradientDescentOptimizer(0.1).apply_gradients(
                zip(gradients, variables, strict=True), name="apply"
            ),
        )
    )


def all_in_gradient_scope(tf: Any) -> Habit:
    """Even the optimizer stands in a scope called ``gradients``."""
    x, y = _inputs(tf)
    loss = _error(tf, y, _dense(tf, x, 1, "l"))
    with tf.name_scope("gradients"):
        optimizer = tf.train.MomentumOptimizer(0.1, 0.9)
        pairs = [
            (tf.clip_by_norm(gradient, 0.2), variable)
            for gradient, variable in optimizer.compute_gradients(loss)
        ]
        return Habit((optimizer.apply_gradients(pairs, name="apply"),))


def gradient_layers(tf: Any) -> Habit:
    """A forward layer under a scope called ``gradients_1``."""
    x, y = _inputs(tf)
    with tf.name_scope("gradients_1"):
        features = tf.concat([x[:, 1:] - x[:, :-1], x[:, :1]], 1)
    loss = _error(tf, y, _dense(tf, features, 1, "l"))
    return Habit((tf.train.AdamOptimizer(0.05).minimize(loss),))


def named_gradients(tf: Any) -> Habit:
    """``tf.gradients(name=…)``: no scope of the usual name; clipping by global norm comes after."""
    x, y = _inputs(tf)
    loss = _error(tf, y, _dense(tf, x, 1, "l"))
    variables = tf.trainable_variables()
    gradients, _ = tf.clip_by_global_norm(tf.gradients(loss, variables, name="backprop"), 0.2)
    return Habit(
        (tf.train.AdamOptimizer(0.05).apply_gradients(zip(gradients, variables, strict=True)),)
    )


def decayed_weights(tf: Any) -> Habit:
    """AdamW: weights decay by an assignment before the update."""
    x, y = _inputs(tf)
    loss = _error(tf, y, _dense(tf, x, 1, "l"))
    optimizer = tf.train.AdamOptimizer(0.05)
    pairs = optimizer.compute_gradients(loss)
    decay = [variable.assign_sub(0.01 * variable) for _, variable in pairs]
    with tf.control_dependencies([gradient for gradient, _ in pairs] + decay):
        return Habit((optimizer.apply_gradients(pairs),), (), (EVERYTHING,))


def measured(tf: Any) -> Habit:
    """tf.metrics in the same group as the update: totals and counts are local variables, and become
    the workers' mean.
    """
    x, y = _inputs(tf)
    out = _dense(tf, x, 1, "l")
    _, seen = tf.metrics.mean_absolute_error(y, tf.squeeze(out, 1))
    train = tf.train.GradientDescentOptimizer(0.1).minimize(_error(tf, y, out))
    return Habit((tf.group(train, seen, name="train_and_measure"),), (), ("mean_absolute_error/*",))


def scheduled(tf: Any) -> Habit:
    """A learning rate by tf.case and a warm-up by tf.cond on the step."""
    x, y = _inputs(tf)
    step = tf.train.get_or_create_global_step()
    rate = tf.train.piecewise_constant(step, [1, 3], [0.1, 0.05, 0.01])
    rate = tf.cond(step < 2, lambda: rate * tf.cast(step + 1, tf.float32) / 2.0, lambda: rate)
    return Habit(
        (
            tf.train.MomentumOptimizer(rate, 0.9, use_nesterov=True).minimize(
                _error(tf, y, _dense(tf, x, 1, "l")), step
            ),
        )
    )


def tower_averages(tf: Any) -> Habit:
    """The cifar10 tutorial on two GPUs: towers, averaged gradients, histograms, moving averages,
    all in one group.
    """
    x, y = _inputs(tf)
    step = tf.get_variable(
        "global_step", [], tf.int64, initializer=tf.zeros_initializer(), trainable=False
    )
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    towers = []
    for number, (rows, labels) in enumerate(zip(tf.split(x, 2), tf.split(y, 2), strict=True)):
        with tf.device(f"/gpu:{number}"), tf.name_scope(f"tower_{number}"):
            loss = _error(tf, labels, _dense(tf, rows, 1, "softmax_linear"))
            towers.append(optimizer.compute_gradients(loss, colocate_gradients_with_ops=True))
    averaged = []
    for pairs in zip(*towers, strict=True):
        stacked = tf.concat([tf.expand_dims(gradient, 0) for gradient, _ in pairs], axis=0)
        averaged.append((tf.reduce_mean(stacked, 0), pairs[0][1]))
    for gradient, variable in averaged:
        tf.summary.histogram(variable.op.name + "/gradients", gradient)
    apply = optimizer.apply_gradients(averaged, global_step=step)
    follow = tf.train.ExponentialMovingAverage(0.99, step).apply(tf.trainable_variables())
    return Habit((tf.group(apply, follow),), (), ("*/ExponentialMovingAverage",))


def phases(tf: Any) -> Habit:
    """Pre-training of the head, then fine-tuning of all: two train ops over the same variables are
    a question.
    """
    x, y = _inputs(tf)
    loss = _error(tf, y, _dense(tf, _dense(tf, x, 3, "body"), 1, "head"))
    tf.train.AdamOptimizer(0.01).minimize(
        loss, var_list=tf.trainable_variables("head"), name="train_head"
    )
    tf.train.GradientDescentOptimizer(0.01).minimize(loss, name="fine_tune")
    return Habit(())


def checked_numbers(tf: Any) -> Habit:
    """Assertions and prints on the way, as debugging leaves them."""
    x, y = _inputs(tf)
    loss = _error(tf, y, _dense(tf, x, 1, "l"))
    with tf.control_dependencies(
        [tf.assert_greater(tf.shape(x)[0], 0), tf.debugging.assert_all_finite(loss, "loss")]
    ):
        loss = tf.identity(loss)
    train = tf.train.AdagradOptimizer(0.1).minimize(loss)
    return Habit((train,))


def running_statistics(tf: Any) -> Habit:
    """Observations normalised by running sums, as in policy gradients."""
    x, y = _inputs(tf)
    total = tf.get_variable(
        "obfilter/sum", [WIDTH], tf.float64, initializer=tf.zeros_initializer(), trainable=False
    )
    count = tf.get_variable(
        "obfilter/count", [], tf.float64, initializer=tf.ones_initializer(), trainable=False
    )
    sums = [
        tf.assign_add(total, tf.reduce_sum(tf.cast(x, tf.float64), 0)),
        tf.assign_add(count, tf.cast(tf.shape(x)[0], tf.float64)),
    ]
    mean = tf.cast(total / count, tf.float32)
    train = tf.train.AdamOptimizer(0.01).minimize(
        _error(tf, y, _dense(tf, x - tf.stop_gradient(mean), 1, "pi"))
    )
    with tf.control_dependencies([train]):
        return Habit((tf.group(*sums, name="update_all"),), (), (EVERYTHING,))


HABITS: dict[str, Callable[[Any], Habit]] = {
    maker.__name__: maker
    for maker in (
        recurrent,
        word_vectors,
        sparse_columns,
        text_classes,
        adversarial,
        wasserstein,
        q_learning,
        soft_targets,
        shadowed,
        noisy_gradients,
        loss_scaled,
        hand_written_adam,
        switched_normalisation,
        contrib_normalisation,
        tutorial_normalisation,
        every_other_step,
        own_gradient_scope,
        all_in_gradient_scope,
        gradient_layers,
        named_gradients,
        decayed_weights,
        measured,
        scheduled,
        tower_averages,
        phases,
        checked_numbers,
        running_statistics,
    )
}


@dataclass(frozen=True)
class Made:
    """A saved graph: its prefix, and what its habit says."""

    prefix: Path
    ops: list[str]
    feeds: dict[str, Any]
    apart: tuple[str, ...]


def make_habit(name: str, directory: Path) -> Made:
    """Build, initialise and save one of the graphs, without a train_op collection where its author
    wouldn't have had one.
    """
    import tensorflow

    tf = tensorflow.compat.v1
    tf.disable_resource_variables()
    tf.disable_control_flow_v2()
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(11)
        habit = HABITS[name](tf)
        saver = tf.train.Saver()
        with tf.Session(graph=graph, config=tf.ConfigProto(allow_soft_placement=True)) as session:
            session.run(
                [
                    tf.global_variables_initializer(),
                    tf.local_variables_initializer(),
                    tf.tables_initializer(),
                ]
            )
            return Made(
                Path(saver.save(session, str(directory / "model.ckpt"), global_step=0)),
                habit.names,
                dict(habit.feeds),
                habit.apart,
            )
