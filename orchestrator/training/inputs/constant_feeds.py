"""What values do constant feeds have?

Rule: JSON where it parses (numbers, lists, true), else the text itself; the graph's dtype decides
what it becomes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from orchestrator.errors import ConfigError
from orchestrator.graph.worker_graph import WorkerGraph


def constant_feeds(feeds: Mapping[str, str], graph: WorkerGraph) -> dict[str, np.ndarray]:
    """Arrays of the configured ``feed`` values, by the same names.

    Raises:
        ConfigError: a value can't become the dtype of its input.
    """
    dtypes = {key: port.dtype for port in graph.inputs for key in (port.name, port.tensor)}
    return {name: _array(name, text, dtypes.get(name)) for name, text in feeds.items()}


def _array(name: str, text: str, dtype: str | None) -> np.ndarray:
    if dtype == "string":
        return np.asarray(_parsed(text) if text.startswith("[") else text, dtype=object)
    try:
        return np.asarray(_parsed(text), dtype=_numpy_dtype(dtype))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"feed.{name}: {text!r} can't become {dtype or 'an array'}",
            remedy="Write a number, or a JSON list for an array",
        ) from error


def _numpy_dtype(dtype: str | None) -> np.dtype | None:
    if dtype in (None, "bfloat16"):  # the runner casts
        return None
    return np.dtype(dtype)


def _parsed(text: str) -> object:
    try:
        return json.loads(text.lower() if text in ("True", "False") else text)
    except json.JSONDecodeError:
        return text
