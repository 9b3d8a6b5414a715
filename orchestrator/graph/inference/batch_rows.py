"""How many rows may a made-up batch have?

Rule: a few, unless the graph was built for a batch of a fixed size, which then stands in constants
that say shapes (Fill, Reshape, Tile, Pack). Those numbers are proposed, the most frequent first;
what fits shows when the graph is run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.tensors import dtype_name, shape_of

FEW = 4
"""Rows where the graph doesn't mind."""
LARGEST = 4096
"""Of a batch that is worth making up: larger numbers are widths of layers and vocabularies."""
TRIES = 6
"""Each is a run of the graph that fails at once or gives the answer."""
_LONGEST_SHAPE = 8
"""TensorFlow's tensors have no more dimensions, longer lists aren't shapes."""


def batch_rows(graph: Graph, needed: Iterable[str]) -> tuple[int, ...]:
    """Numbers of rows to try, in this order.

    Args:
        needed: the nodes that the outputs are computed from.
    """
    found: Counter[int] = Counter()
    for name in needed:
        if graph.view.op(name) == "Const":
            found.update(_numbers(graph, name))
    fitting = [(count, size) for size, count in found.items() if 1 <= size <= LARGEST]
    ordered = sorted(fitting, key=lambda pair: (-pair[0], pair[1]))
    return tuple(dict.fromkeys([FEW, *(size for _, size in ordered[:TRIES])]))


def _numbers(graph: Graph, name: str) -> list[int]:
    tensor = graph.view.nodes[name].attr["value"].tensor
    dtype, shape = dtype_name(tensor.dtype), shape_of(tensor.tensor_shape)
    if dtype not in ("int32", "int64") or shape is None or len(shape) > 1:
        return []
    if shape and not 1 <= (shape[0] or 0) <= _LONGEST_SHAPE:
        return []
    if tensor.tensor_content:
        return [int(number) for number in np.frombuffer(tensor.tensor_content, dtype)]
    return [int(number) for number in (tensor.int_val or tensor.int64_val)]
