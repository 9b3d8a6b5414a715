"""Which batches fit the graphs that the tests resume?

Rule: a batch follows from its number, so that every process of a test has the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from tests.graphs.holders import holder_feeds
from tests.graphs.pipeline_makers import PIPELINES, pipeline_feeds

FEATURES, CLASSES, ROWS = 6, 3, 40


def xy_feeds(step: int, rows: int = 8) -> dict[str, np.ndarray]:
    """The batch for ``step``: ``x:0`` float32 ``[rows, 6]`` and ``y:0`` int64 ``[rows]``; a
    learnable rule with noise.
    """
    rng = np.random.default_rng(1000 + step)
    x = rng.normal(size=(rows, FEATURES)).astype(np.float32)
    return {
        "x:0": x,
        "y:0": np.argmax(x[:, :CLASSES] + 0.1 * rng.normal(size=(rows, CLASSES)), axis=1),
    }


def mnist_feeds(step: int, rows: int = 64) -> dict[str, np.ndarray]:
    """``x:0`` float32 ``[rows, 784]`` and ``y:0`` int64 ``[rows]``."""
    rng = np.random.default_rng(5000 + step)
    return {
        "x:0": rng.normal(size=(rows, 784)).astype(np.float32),
        "y:0": rng.integers(0, 10, rows),
    }


def image_feeds(step: int, rows: int = 8) -> dict[str, np.ndarray]:
    """``image:0`` float32 ``[rows, 8, 8, 1]`` and ``y:0`` int64 ``[rows]``."""
    rng = np.random.default_rng(2000 + step)
    return {
        "image:0": rng.normal(size=(rows, 8, 8, 1)).astype(np.float32),
        "y:0": rng.integers(0, CLASSES, rows),
    }


def id_feeds(step: int, rows: int | None = None) -> dict[str, np.ndarray]:
    """``ids:0`` and ``y:0`` int64 ``[rows]``; where ``rows`` is None a number from 0 to 8 that
    differs by step.
    """
    rng = np.random.default_rng(3000 + step)
    rows = int(rng.integers(0, 9)) if rows is None else rows
    return {"ids:0": rng.integers(0, 20, rows), "y:0": rng.integers(0, CLASSES, rows)}


def sequence_feeds(step: int, rows: int = 8) -> dict[str, np.ndarray]:
    """``sequence:0`` float32 ``[rows, 5, 4]`` and ``y:0`` int64 ``[rows]``."""
    rng = np.random.default_rng(4000 + step)
    return {
        "sequence:0": rng.normal(size=(rows, 5, 4)).astype(np.float32),
        "y:0": rng.integers(0, CLASSES, rows),
    }


FEEDS: dict[str, Callable[[int], Mapping[str, np.ndarray]]] = {
    "embedding": id_feeds,
    "conv_bn": image_feeds,
    "lstm": sequence_feeds,
    "mnist": mnist_feeds,
    "queue": lambda step: {},
    "tfdata": lambda step: {},
    "deeplabcut": lambda step: holder_feeds("deeplabcut", step),
    "deepmd": lambda step: holder_feeds("deepmd", step),
    "bert": lambda step: holder_feeds("bert", step),
}


def feeds_for(kind: str) -> Callable[[int], Mapping[str, np.ndarray]]:
    """The function from a step to a batch that fits the graph of this kind; empty for graphs that
    feed themselves.
    """
    return pipeline_feeds(kind) if kind in PIPELINES else FEEDS.get(kind, xy_feeds)
