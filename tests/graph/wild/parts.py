"""What do the graphs of this room share? What a maker gives, and the pieces that it builds from."""

from __future__ import annotations

from dataclasses import dataclass
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


def inputs(tf: Any) -> tuple[Any, Any]:
    return tf.placeholder(tf.float32, [None, WIDTH], name="x"), tf.placeholder(
        tf.float32, [None], name="y"
    )


def variable(tf: Any, name: str, shape: list[int], **options: Any) -> Any:
    return tf.get_variable(
        name, shape, initializer=tf.random_normal_initializer(stddev=0.3, seed=3), **options
    )


def dense(tf: Any, x: Any, width: int, name: str) -> Any:
    with tf.variable_scope(name, reuse=tf.AUTO_REUSE):
        kernel = variable(tf, "kernel", [int(x.shape[-1]), width])
        bias = tf.get_variable("bias", [width], initializer=tf.zeros_initializer())
        return tf.nn.bias_add(tf.matmul(x, kernel), bias)


def error(tf: Any, y: Any, out: Any) -> Any:
    return tf.reduce_mean(tf.square(tf.squeeze(out, 1) - y), name="loss")


def words_of(tf: Any, x: Any) -> Any:
    return tf.cast(tf.floormod(tf.abs(x) * 10.0, float(WORDS)), tf.int32)
