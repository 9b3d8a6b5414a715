"""What does a graph get to compute with where nobody gave a batch?

Rule: floats in [0, 1), and whole numbers 0 or 1, which are indices into any table of two rows and
more. What a string has to hold is told by the operation that takes it: an Example with the features
that are parsed out of it, an image, a number; else it's empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from orchestrator.graph.graphdef.view import Edge, GraphView, parse_tensor
from orchestrator.graph.worker_graph import InputPort
from orchestrator.training.engine.tensorflow import tf, v1

UNKNOWN_SIZE = 4
"""Every dimension that the graph leaves open, but for the rows of a batch."""
IMAGE_SIZE = 8
"""Of a made-up image; what takes images of any size brings them to its own."""
_HANDING = frozenset(
    {"Identity", "Reshape", "ExpandDims", "Squeeze", "Enter", "Switch", "Merge", "NextIteration",
     "TensorArrayScatterV3", "TensorArrayReadV3", "StridedSlice", "Unpack"}
)  # fmt: skip
"""What hands strings on as they are, to each round of a loop among others."""
_IMAGES = frozenset({"DecodeJpeg", "DecodePng", "DecodeImage", "DecodeAndCropJpeg", "DecodeBmp"})
Text = Callable[[np.random.Generator], bytes]


def made_up(
    port: InputPort, rng: np.random.Generator, rows: int, text: Text = lambda rng: b""
) -> Any:
    """A value for an input.

    Args:
        rows: of a batch.
        text: a string for it.
    """
    kind = np.dtype(port.dtype).kind if port.dtype != "string" else "S"
    shape = port.shape
    if shape is None:
        shape = (None,) if kind in "iu" else ()
    open_sizes = (rows, *[UNKNOWN_SIZE] * len(shape))
    sizes = tuple(open_sizes[place] if size is None else size for place, size in enumerate(shape))
    if kind == "S":
        strings = np.empty(sizes, object)
        for place in np.ndindex(sizes):
            strings[place] = text(rng)
        return strings
    if kind in "iub":
        return rng.integers(0, 2, sizes).astype(port.dtype)
    return rng.random(sizes).astype(port.dtype)


def text_for(view: GraphView, tensor: str) -> Text:
    """What makes strings that the graph can take at a tensor."""
    for name in _takers(view, parse_tensor(tensor)):
        op = view.op(name)
        if op.startswith(("ParseExample", "ParseSingleExample")):
            return lambda rng, name=name: _example(view, name, rng)  # type: ignore[misc]
        if op in _IMAGES:
            return _image
        if op == "StringToNumber":
            return lambda rng: b"0"
    return lambda rng: b""


def _takers(view: GraphView, edge: Edge) -> Iterator[str]:
    """The operations that take a tensor's strings, past those that only hand them on."""
    seen: set[str] = set()
    waiting = [use.node for use in view.uses[edge.node] if use.port == edge.port]
    while waiting:
        name = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        if view.op(name) in _HANDING:
            waiting += [use.node for use in view.uses[name]]
        else:
            yield name


def _example(view: GraphView, parser: str, rng: np.random.Generator) -> bytes:
    """A serialised Example with every feature that an operation parses, one value of each sparse."""
    attributes = view.nodes[parser].attr
    dense, sparse = _keys(view, parser)
    example = v1.train.Example()
    for key, dtype, shape in zip(
        dense, attributes["Tdense"].list.type, attributes["dense_shapes"].list.shape, strict=False
    ):
        count = int(np.prod([max(dim.size, 1) for dim in shape.dim], dtype=int))
        _fill(example.features.feature[key], tf.as_dtype(dtype), count, rng)
    for key, dtype in zip(sparse, attributes["sparse_types"].list.type, strict=False):
        _fill(example.features.feature[key], tf.as_dtype(dtype), 1, rng)
    return bytes(example.SerializeToString())


def _fill(feature: Any, dtype: Any, count: int, rng: np.random.Generator) -> None:
    if dtype == tf.string:
        feature.bytes_list.value.extend([b""] * count)
    elif dtype.is_floating:
        feature.float_list.value.extend(rng.random(count).tolist())
    else:
        feature.int64_list.value.extend(rng.integers(0, 2, count).tolist())


def _keys(view: GraphView, parser: str) -> tuple[list[str], list[str]]:
    """The names of the dense and of the sparse features."""
    attributes, data = view.nodes[parser].attr, view.data[parser]
    if view.op(parser) == "ParseSingleExample":
        named = (attributes["dense_keys"].list.s, attributes["sparse_keys"].list.s)
        return [key.decode() for key in named[0]], [key.decode() for key in named[1]]
    if view.op(parser) == "ParseExampleV2":
        return _strings(view, data[3:4]), _strings(view, data[2:3])
    first = 2 + attributes["Nsparse"].i
    return _strings(view, data[first : first + attributes["Ndense"].i]), _strings(
        view, data[2:first]
    )


def _strings(view: GraphView, edges: Sequence[Edge]) -> list[str]:
    values = [view.nodes[edge.node].attr["value"].tensor for edge in edges]
    return [key.decode() for value in values for key in np.ravel(tf.make_ndarray(value))]


def _image(rng: np.random.Generator) -> bytes:
    pixels = rng.integers(0, 256, (IMAGE_SIZE, IMAGE_SIZE, 3))
    with tf.Graph().as_default(), v1.Session() as session:
        return bytes(session.run(tf.io.encode_png(tf.constant(pixels, tf.uint8))))
