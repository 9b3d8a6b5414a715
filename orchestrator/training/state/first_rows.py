"""How do the rows of a divided table begin that a checkpoint lacks?

Rule: as the graph initialises them, some rows at a time, each rank its own. Rows that are drawn are
drawn from the first one on in portions that don't depend on the rank, so that any number of workers
begins with the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from orchestrator.graph.worker_tables import Block, FirstRows
from orchestrator.training.engine.sessions import LiveSession
from orchestrator.training.state.session_rows import Rows

PORTION_BYTES = 16 << 20
"""Made in one run, so that what TensorFlow takes for it stays small beside a block."""


def make_rows(
    session: LiveSession,
    first: FirstRows,
    rows: int,
    held: Rows,
    blocks: Sequence[Block],
    start: int,
    known: Mapping[str, Rows],
) -> None:
    """Set row ``start`` of a variable and all behind it that a rank holds.

    Args:
        session: in which nothing has been drawn yet for this variable.
        rows: of the whole variable.
        held: the rank's rows, block by block.
        blocks: which rows those are.
        known: what is held of other variables, of the same rows.

    Raises:
        tf.errors.OpError: the initialiser failed.
    """
    row_bytes = max(1, held.nbytes // max(1, len(held)))
    portion = max(1, PORTION_BYTES // row_bytes)
    if first.draws:
        last = max(end for _, end in blocks)
        for low in range(0, last, portion):
            # To the portion's own end: how many are asked for at once changes them
            high = min(low + portion, rows)
            made = _made(session, first, held.dtype, low, high, slice(0), known)
            for begin, end, at in _placed(blocks, max(low, start), high):
                held[at : at + end - begin] = made[begin - low : end - low]
        return
    for begin, end, at in _placed(blocks, start, rows):
        for low in range(begin, end, portion):
            place = slice(at + low - begin, at + min(low + portion, end) - begin)
            high = min(low + portion, end)
            held[place] = _made(session, first, held.dtype, low, high, place, known)


def _placed(blocks: Sequence[Block], low: int, high: int) -> Iterator[tuple[int, int, int]]:
    """Of each block the rows from ``low`` up to ``high``: the first, the one behind the last, and
    where they lie.
    """
    at = 0
    for begin, end in blocks:
        if max(begin, low) < min(end, high):
            yield max(begin, low), min(end, high), at + max(begin, low) - begin
        at += end - begin


def _made(
    session: LiveSession,
    first: FirstRows,
    dtype: np.dtype,
    low: int,
    high: int,
    place: slice,
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
        fed[tensor] = known[name][place]
    if first.value in fed:
        return np.asarray(fed[first.value], dtype)
    (made,) = session.callable((), [first.value], list(fed))(*fed.values())
    return np.asarray(made)
