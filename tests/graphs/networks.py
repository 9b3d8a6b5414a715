"""Which graphs do the tests resume? Small TF1 programs, written as their authors would have written
them in 2017.

Rule: each maker builds its graph with ``tf.compat.v1`` alone into the default graph, and returns what
trains it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tests.graphs.feeds import CLASSES, FEATURES, ROWS
from tests.graphs.holders import HOLDERS


def tf1() -> Any:
    import tensorflow as tf

    return tf.compat.v1


def _optimizer(tf: Any, name: str, rate: Any = 0.05) -> Any:
    return {
        "sgd": lambda: tf.train.GradientDescentOptimizer(rate),
        "momentum": lambda: tf.train.MomentumOptimizer(rate, 0.9),
        "adam": lambda: tf.train.AdamOptimizer(rate),
        "adagrad": lambda: tf.train.AdagradOptimizer(rate),
        "rmsprop": lambda: tf.train.RMSPropOptimizer(rate),
        "ftrl": lambda: tf.train.FtrlOptimizer(rate),
    }[name]()


def _variable(tf: Any, name: str, shape: Iterable[int], resource: bool, scale: float = 0.3) -> Any:
    return tf.get_variable(
        name,
        list(shape),
        initializer=tf.random_normal_initializer(stddev=scale, seed=7),
        use_resource=resource,
    )


def _placeholders(tf: Any, batch: int | None = None) -> tuple[Any, Any]:
    x = tf.placeholder(tf.float32, [batch, FEATURES], name="x")
    y = tf.placeholder(tf.int64, [batch], name="y")
    return x, y


def _loss(tf: Any, logits: Any, labels: Any, reduce: Any = None) -> Any:
    loss = (reduce or tf.reduce_mean)(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits), name="loss"
    )
    tf.losses.add_loss(loss)
    return loss


def _dense(tf: Any, x: Any, units: int, name: str, resource: bool) -> Any:
    with tf.variable_scope(name):
        kernel = _variable(tf, "kernel", [int(x.shape[-1]), units], resource)
        bias = tf.get_variable(
            "bias", [units], initializer=tf.zeros_initializer(), use_resource=resource
        )
        return tf.matmul(x, kernel) + bias


def _counter(tf: Any, step: bool | str) -> Any:
    """The global step, none, or under a name of the author's own an int64 or a float32
    (``as_float``) that is in no collection.
    """
    if not isinstance(step, str):
        return tf.train.get_or_create_global_step() if step else None
    return tf.Variable(
        0.0 if step == "as_float" else tf.constant(0, tf.int64), trainable=False, name=step
    )


def mlp(
    optimizer: str = "adam",
    resource: bool = False,
    clip: bool = False,
    devices: bool = False,
    step: bool | str = True,
    summary: bool = False,
    summed: bool = False,
) -> Any:
    """Two layers; with ``clip`` by global norm; with ``devices`` spread over a parameter server and
    a worker's GPUs.

    ``step`` is false for a graph that counts none, or the name of a counter of the author's own;
    with ``summary`` of its loss, which ``validation`` adds something to that training doesn't need;
    ``summed`` is for a loss that sums over rows.
    """
    tf = tf1()
    with tf.device("/job:ps/task:0" if devices else None):
        counter = _counter(tf, step)
        x, y = _placeholders(tf)
        hidden = tf.nn.relu(_dense(tf, x, 16, "hidden", resource))
    with tf.device("/job:worker/task:3/device:GPU:2" if devices else None):
        loss = _loss(
            tf,
            _dense(tf, hidden, CLASSES, "out", resource),
            y,
            tf.reduce_sum if summed else tf.reduce_mean,
        )
        if summary:
            tf.summary.scalar("loss_curve", loss)
            tf.add(loss, tf.placeholder(tf.float32, [], name="penalty"), name="validation")
        chosen = _optimizer(tf, optimizer)
        if not clip:
            return chosen.minimize(loss, global_step=counter)
        gradients, variables = zip(*chosen.compute_gradients(loss), strict=True)
        clipped, _ = tf.clip_by_global_norm(gradients, 0.1)
        return chosen.apply_gradients(
            list(zip(clipped, variables, strict=True)), global_step=counter
        )


def examples() -> Any:
    """``mlp``, whose step counts examples: each run adds the rows of its batch."""
    tf = tf1()
    counter = tf.train.get_or_create_global_step()
    x, y = _placeholders(tf)
    train = _optimizer(tf, "adam").minimize(_loss(tf, _dense(tf, x, CLASSES, "out", False), y))
    tf.get_default_graph().clear_collection("train_op")  # the group is the only one
    return tf.group(train, tf.assign_add(counter, tf.cast(tf.shape(x)[0], tf.int64)))


def checked(resource: bool = False) -> Any:
    """``mlp``, whose train operation also runs a check of the batch that takes longer than all
    updates and that none of them waits for, as ``add_check_numerics_ops`` gives.
    """
    tf = tf1()
    counter = tf.train.get_or_create_global_step()
    x, y = _placeholders(tf)
    loss = _loss(tf, _dense(tf, x, CLASSES, "out", resource), y)
    slow = tf.fill([600, 600], tf.reduce_max(tf.abs(x)) / 600.0)
    for _ in range(12):
        slow = tf.minimum(tf.matmul(slow, tf.ones([600, 600]) / 600.0), 1.0)
    check = tf.Assert(tf.less(tf.reduce_mean(slow), 0.5), ["a value is out of range"])
    return tf.group(_optimizer(tf, "adam").minimize(loss, global_step=counter), check)


def embedding(
    optimizer: str = "adam",
    resource: bool = False,
    clip: bool = False,
    partitions: int = 0,
    vocabulary: int = 20,
) -> Any:
    """Sparse gradients of a looked-up table; ``ids:0`` int64 ``[rows]``, ``y:0`` int64 ``[rows]``.
    A table row has 32 bytes.
    """
    tf = tf1()
    counter = tf.train.get_or_create_global_step()
    ids = tf.placeholder(tf.int64, [None], name="ids")
    labels = tf.placeholder(tf.int64, [None], name="y")
    partitioner = tf.fixed_size_partitioner(partitions) if partitions else None
    with tf.variable_scope("embedding", partitioner=partitioner):
        table = tf.get_variable(
            "table",
            [vocabulary, 8],
            initializer=tf.random_normal_initializer(stddev=0.3, seed=3),
            use_resource=resource,
        )
    rows = tf.nn.embedding_lookup(table, ids)
    # A mean over all rows of a fixed number would hide a wrong weighting; an empty batch must not
    # divide by zero
    logits = _dense(tf, rows, CLASSES, "out", resource)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    loss = tf.reduce_sum(losses, name="loss") / 8.0
    tf.losses.add_loss(loss)
    chosen = _optimizer(tf, optimizer)
    pairs = chosen.compute_gradients(loss)
    if clip:
        gradients, variables = zip(*pairs, strict=True)
        clipped, _ = tf.clip_by_global_norm(gradients, 0.1)
        pairs = list(zip(clipped, variables, strict=True))
    return chosen.apply_gradients(pairs, global_step=counter)


def conv_bn(style: str = "dependencies", optimizer: str = "momentum") -> Any:
    """Convolution with batch norm; UPDATE_OPS before the gradients (``dependencies``) or beside
    them (``group``).
    """
    tf = tf1()
    counter = tf.train.get_or_create_global_step()
    image = tf.placeholder(tf.float32, [None, 8, 8, 1], name="image")
    labels = tf.placeholder(tf.int64, [None], name="y")
    kernel = _variable(tf, "conv/kernel", [3, 3, 1, 4], False)
    value = tf.nn.conv2d(image, kernel, strides=[1, 1, 1, 1], padding="SAME")
    value = tf.nn.relu(_batch_norm(tf, value))
    loss = _loss(tf, _dense(tf, tf.reduce_mean(value, axis=[1, 2]), CLASSES, "out", False), labels)
    updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    chosen = _optimizer(tf, optimizer)
    if style == "group":
        return tf.group(chosen.minimize(loss, global_step=counter), *updates, name="train")
    with tf.control_dependencies(updates):
        return chosen.minimize(tf.identity(loss), global_step=counter)


def _batch_norm(tf: Any, value: Any) -> Any:
    from tensorflow.python.training import moving_averages

    channels = int(value.shape[-1])
    with tf.variable_scope("bn"):
        gamma = tf.get_variable(
            "gamma", [channels], initializer=tf.ones_initializer(), use_resource=False
        )
        beta = tf.get_variable(
            "beta", [channels], initializer=tf.zeros_initializer(), use_resource=False
        )
        mean = tf.get_variable(
            "moving_mean",
            [channels],
            initializer=tf.zeros_initializer(),
            trainable=False,
            use_resource=False,
        )
        variance = tf.get_variable(
            "moving_variance",
            [channels],
            initializer=tf.ones_initializer(),
            trainable=False,
            use_resource=False,
        )
        batch_mean, batch_variance = tf.nn.moments(value, [0, 1, 2])
        for moving, batch in ((mean, batch_mean), (variance, batch_variance)):
            update = moving_averages.assign_moving_average(moving, batch, 0.9, zero_debias=False)
            tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
        return tf.nn.batch_normalization(value, batch_mean, batch_variance, beta, gamma, 1e-3)


def ema(optimizer: str = "adam") -> Any:
    """Moving averages of the weights, hung downstream of the optimizer; the collection holds the
    optimizer only.
    """
    tf = tf1()
    counter = tf.train.get_or_create_global_step()
    x, y = _placeholders(tf)
    loss = _loss(tf, _dense(tf, x, CLASSES, "out", False), y)
    applied = _optimizer(tf, optimizer).minimize(loss, global_step=counter)
    averages = tf.train.ExponentialMovingAverage(0.9, counter)
    with tf.control_dependencies([applied]):
        return tf.group(averages.apply(tf.trainable_variables()), name="train")


def dropout(resource: bool = False) -> Any:
    """A dropout mask and input noise drawn anew each step."""
    tf = tf1()
    counter = tf.train.get_or_create_global_step()
    x, y = _placeholders(tf)
    noisy = x + tf.random_normal(tf.shape(x), stddev=0.01)
    hidden = tf.nn.dropout(tf.nn.relu(_dense(tf, noisy, 16, "hidden", resource)), rate=0.5)
    loss = _loss(tf, _dense(tf, hidden, CLASSES, "out", resource), y)
    return _optimizer(tf, "sgd").minimize(loss, global_step=counter)


def lstm() -> Any:
    """A recurrent cell in a ``while`` loop; ``sequence:0`` float32 ``[rows, time, 4]``."""
    tf = tf1()
    counter = tf.train.get_or_create_global_step()
    sequence = tf.placeholder(tf.float32, [None, None, 4], name="sequence")
    labels = tf.placeholder(tf.int64, [None], name="y")
    kernel = _variable(tf, "cell/kernel", [4 + 5, 5], False)
    time_major = tf.transpose(sequence, [1, 0, 2])

    def body(index: Any, state: Any) -> tuple[Any, Any]:
        return index + 1, tf.tanh(tf.matmul(tf.concat([time_major[index], state], 1), kernel))

    zeros = tf.zeros([tf.shape(sequence)[0], 5])
    shapes = [tf.TensorShape([]), tf.TensorShape([None, 5])]
    _, state = tf.while_loop(
        lambda index, _: index < tf.shape(time_major)[0], body, [0, zeros], shape_invariants=shapes
    )
    loss = _loss(tf, _dense(tf, state, CLASSES, "out", False), labels)
    return _optimizer(tf, "rmsprop").minimize(loss, global_step=counter)


def metrics() -> Any:
    """A streaming accuracy of local variables, updated within the train op."""
    tf = tf1()
    counter = tf.train.get_or_create_global_step()
    x, y = _placeholders(tf)
    logits = _dense(tf, x, CLASSES, "out", False)
    applied = _optimizer(tf, "sgd").minimize(_loss(tf, logits, y), global_step=counter)
    _, update = tf.metrics.accuracy(y, tf.argmax(logits, 1))
    return tf.group(applied, update, name="train")


def queue() -> Any:
    """A FIFO queue filled by a queue runner inside the graph."""
    tf = tf1()
    counter = tf.train.get_or_create_global_step()
    rng = np.random.default_rng(5)
    rows = tf.constant(rng.normal(size=(ROWS, FEATURES)).astype(np.float32))
    row = tf.train.slice_input_producer(
        [rows, tf.constant(rng.integers(0, CLASSES, ROWS))], shuffle=False
    )
    x, y = tf.train.batch(row, batch_size=8)
    loss = _loss(tf, _dense(tf, x, CLASSES, "out", False), y)
    return _optimizer(tf, "sgd").minimize(loss, global_step=counter)


def tfdata(resource: bool = False) -> Any:
    """An initializable tf.data iterator over arrays inside the graph."""
    tf = tf1()
    counter = tf.train.get_or_create_global_step()
    rng = np.random.default_rng(5)
    arrays = (rng.normal(size=(ROWS, FEATURES)).astype(np.float32), rng.integers(0, CLASSES, ROWS))
    dataset = tf.data.Dataset.from_tensor_slices(arrays).repeat().batch(8, drop_remainder=True)
    iterator = tf.data.make_initializable_iterator(dataset)
    tf.add_to_collection(tf.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
    x, y = iterator.get_next()
    loss = _loss(tf, _dense(tf, x, CLASSES, "out", resource), y)
    return _optimizer(tf, "sgd").minimize(loss, global_step=counter)


def wide(megabytes: int = 16, optimizer: str = "sgd", work: int = 1) -> Any:
    """As many megabytes of weights as asked, for tests and benchmarks of state and saves; ``work``
    repeats the product.
    """
    tf = tf1()
    counter = tf.train.get_or_create_global_step()
    x, y = _placeholders(tf)
    units = megabytes * 1024 * 1024 // (4 * (FEATURES + CLASSES + 1))
    hidden = tf.nn.relu(_dense(tf, x, units, "hidden", False))
    for _ in range(work - 1):
        hidden = tf.nn.relu(hidden * 0.999)
    loss = _loss(tf, _dense(tf, hidden, CLASSES, "out", False), y)
    return _optimizer(tf, optimizer).minimize(loss, global_step=counter)


def phased(units: int = 24_000) -> Any:
    """A perceptron that calls Python in the middle of its forward pass, of its backward pass, and
    between gradients and their application.

    Its two kernels are too large to share a collective, so that the call in the backward pass lies
    between two of them.
    """
    tf = tf1()

    def python(value: Any) -> Any:
        called = tf.py_func(lambda array: array, [value], value.dtype, stateful=False)
        called.set_shape(value.shape)
        return called

    @tf.custom_gradient
    def python_on_the_way_back(value: Any) -> Any:
        return tf.identity(value), python

    counter = tf.train.get_or_create_global_step()
    x, y = _placeholders(tf)
    hidden = python_on_the_way_back(tf.nn.relu(_dense(tf, python(x), units, "hidden", False)))
    loss = _loss(tf, _dense(tf, hidden, CLASSES, "out", False), y)
    chosen = _optimizer(tf, "momentum")
    gradients = [
        (python(gradient) if variable.op.name == "out/kernel" else gradient, variable)
        for gradient, variable in chosen.compute_gradients(loss)
    ]
    return chosen.apply_gradients(gradients, global_step=counter)


def mnist(units: int = 256, optimizer: str = "sgd") -> Any:
    """A 784-units-units-10 perceptron, the model that frameworks are timed with; ``x:0`` ``[rows,
    784]``, ``y:0`` ``[rows]``.
    """
    tf = tf1()
    counter = tf.train.get_or_create_global_step()
    x = tf.placeholder(tf.float32, [None, 784], name="x")
    y = tf.placeholder(tf.int64, [None], name="y")
    hidden = x
    for layer in range(2):
        hidden = tf.nn.relu(_dense(tf, hidden, units, f"hidden{layer}", False))
    loss = _loss(tf, _dense(tf, hidden, 10, "out", False), y)
    return _optimizer(tf, optimizer, 1e-3).minimize(loss, global_step=counter)


MAKERS: dict[str, Callable[..., Any]] = {
    "mlp": mlp,
    "checked": checked,
    "examples": examples,
    "embedding": embedding,
    "conv_bn": conv_bn,
    "ema": ema,
    "dropout": dropout,
    "lstm": lstm,
    "metrics": metrics,
    "queue": queue,
    "tfdata": tfdata,
    "wide": wide,
    "mnist": mnist,
    "phased": phased,
    **HOLDERS,
}
