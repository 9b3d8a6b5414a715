"""How do the rows of a divided table begin that a checkpoint lacks?

Rule: as the graph initialises them, some rows at a time, each rank its own. Rows that are drawn are
drawn from the first one on in portions that don't depend on the rank, so that any number of workers
begins with the same.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from orchestrator.graph.worker_tables import FirstRows
from orchestrator.training.engine.sessions import LiveSession
from orchestrator.training.state.session_rows import Rows

PORTION_BYTES = 16 << 20
"""Made in one run, so that what TensorFlow takes for it stays small beside a block."""


def make_rows(
    session: LiveSession,
    first: FirstRows,
    rows: int,
    block: Rows,
    begin: int,
    start: int,
    known: Mapping[str, Rows],
) -> None:
    """Set rows ``start`` and all behind it of a block.

    Args:
        session: in which nothing has been drawn yet for this variable.
        rows: of the whole variable.
        block: the rank's rows; its first one is row ``begin`` of the variable.
        known: blocks of other variables of the same rows.

    Raises:
        tf.errors.OpError: the initialiser failed.
    """
    end = begin + len(block)
    row_bytes = max(1, block.nbytes // max(1, len(block)))
    portion = max(1, PORTION_BYTES // row_bytes)
    for low in range(0 if first.draws else begin + start, end, portion):
        # To the portion's own end where rows are drawn: how many are asked for at once changes them
        high = min(low + portion, rows if first.draws else end)
        made = _made(session, first, block.dtype, low, high, begin, known)
        own_low, own_high = max(low, begin + start), min(high, end)
        if own_low < own_high:
            block[own_low - begin : own_high - begin] = made[own_low - low : own_high - low]


def _made(
    session: LiveSession,
    first: FirstRows,
    dtype: np.dtype,
    low: int,
    high: int,
    begin: int,
    known: Mapping[str, Rows],
) -> np.ndarray:
    fed: dict[str, np.ndarray] = {}
    graph = session.session.graph
    for tensor, rest in first.shapes:
        kind = graph.get_tensor_by_name(tensor).dtype.as_numpy_dtype
        fed[tensor] = np.array([high - low, *rest], kind)
    for tensor, shape, number in first.numbers:
        kind = graph.get_tensor_by_name(tensor).dtype.as_numpy_dtype
        fed[tensor] = np.full((high - low, *shape), number, kind)
    for tensor, name in first.reads:
        fed[tensor] = known[name][low - begin : high - begin]
    if first.value in fed:
        return np.asarray(fed[first.value], dtype)
    (made,) = session.callable((), [first.value], list(fed))(*fed.values())
    return np.asarray(made)
