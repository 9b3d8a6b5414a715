"""Which graphs take their batches, or their gradients, from somebody who isn't there any more?

Rule: as published code does it: staging areas between the input and the step, iterators chosen by a
handle, collectives between the processes of a cluster. Each maker builds into the default graph and
returns the operation that trains.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.graph.patterns import WIDTH, Made, Pattern, make

Maker = Callable[[Any], Any]


def _placeholders(tf: Any) -> tuple[Any, Any]:
    return (
        tf.placeholder(tf.float32, [None, WIDTH], name="x"),
        tf.placeholder(tf.float32, [None], name="y"),
    )


def _loss(tf: Any, x: Any, y: Any) -> tuple[Any, Any]:
    w = tf.get_variable("w", [WIDTH, 1], initializer=tf.random_normal_initializer(seed=3))
    return tf.reduce_mean(tf.square(tf.squeeze(tf.matmul(x, w), 1) - y)), w


def _optimizer(tf: Any) -> Any:
    return tf.train.MomentumOptimizer(0.1, 0.9)


def _staged(tf: Any, *, put_each_step: bool) -> Any:
    from tensorflow.python.ops import data_flow_ops

    x, y = _placeholders(tf)
    area = data_flow_ops.StagingArea([tf.float32, tf.float32], [[None, WIDTH], [None]])
    put = area.put([x, y], name="put")
    staged_x, staged_y = area.get(name="get")
    staged_x.set_shape([None, WIDTH])
    staged_y.set_shape([None])
    trained = _optimizer(tf).minimize(_loss(tf, staged_x, staged_y)[0])
    return tf.group(trained, put, name="step") if put_each_step else trained


def staged_batches(tf: Any) -> Any:
    """Each step trains on what the step before put into a `StagingArea` (`tf_cnn_benchmarks`)."""
    return _staged(tf, put_each_step=True)


def staged_twice(tf: Any) -> Any:
    """Batches that pass two staging areas, one of the host's and one of the device's."""
    from tensorflow.python.ops import data_flow_ops

    passed = _placeholders(tf)
    puts = []
    for name in ("put", "second"):
        area = data_flow_ops.StagingArea([tf.float32, tf.float32], [[None, WIDTH], [None]])
        puts.append(area.put(list(passed), name=name))
        passed = area.get()
        passed[0].set_shape([None, WIDTH])
        passed[1].set_shape([None])
    return tf.group(_optimizer(tf).minimize(_loss(tf, *passed)[0]), *puts, name="step")


def staged_by_somebody_else(tf: Any) -> Any:
    """A `StagingArea` that is filled by an operation that the program ran beside the step."""
    return _staged(tf, put_each_step=False)


def staged_gradients(tf: Any) -> Any:
    """Gradients that are applied a step later, out of a `StagingArea`."""
    from tensorflow.python.ops import data_flow_ops

    loss, w = _loss(tf, *_placeholders(tf))
    area = data_flow_ops.StagingArea([tf.float32], [[WIDTH, 1]])
    put = area.put([tf.gradients(loss, w)[0]], name="put")
    late = area.get(name="get")
    late = late[0] if isinstance(late, list) else late
    return tf.group(_optimizer(tf).apply_gradients([(late, w)]), put, name="step")


def chosen_by_a_handle(tf: Any) -> Any:
    """A feedable iterator, whose handle the program fed to choose training or validation."""
    handle = tf.placeholder(tf.string, [], name="handle")
    types, shapes = (tf.float32, tf.float32), ([None, WIDTH], [None])
    x, y = tf.data.Iterator.from_string_handle(handle, types, shapes).get_next()
    return _optimizer(tf).minimize(_loss(tf, x, y)[0])


def _reduced(tf: Any, final: str) -> Any:
    from tensorflow.python.ops import collective_ops

    loss, w = _loss(tf, *_placeholders(tf))
    gradient = collective_ops.all_reduce(tf.gradients(loss, w)[0], 2, 1, 1, "Add", final)
    return _optimizer(tf).apply_gradients([(gradient, w)])


def mean_over_a_cluster(tf: Any) -> Any:
    """Gradients of which two processes took the mean (`CollectiveReduce`)."""
    return _reduced(tf, "Div")


def sum_over_a_cluster(tf: Any) -> Any:
    """Gradients that two processes added up, their losses being scaled for it."""
    return _reduced(tf, "Id")


def statistics_over_a_cluster(tf: Any) -> Any:
    """A batch mean that two processes take together, and that the loss is computed from."""
    from tensorflow.python.ops import collective_ops

    x, y = _placeholders(tf)
    mean = collective_ops.all_reduce(tf.reduce_mean(x, 0), 2, 1, 2, "Add", "Div")
    return _optimizer(tf).minimize(_loss(tf, x - tf.stop_gradient(mean), y)[0])


def made(build: Maker, directory: Path) -> Made:
    """A maker's graph, saved."""
    return make(Pattern(build, "equal"), directory)
