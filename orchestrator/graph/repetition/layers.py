"""What do layers and look-ups make of rows?

Rule: layers leave the batch axis in front; a look-up gives a row for each index.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from orchestrator.graph.repetition.elementwise import Rule
from orchestrator.graph.repetition.nodes import Node, moved, rank_of, rows_of
from orchestrator.graph.repetition.sizes import sizes_gathered
from orchestrator.graph.repetition.values import Depends, Dims, Fixed, Mixed, Rows, Unknown, Value

BATCH_FIRST = frozenset(
    {
        "Conv2D",
        "Conv3D",
        "DepthwiseConv2dNative",
        "MaxPool",
        "MaxPoolV2",
        "AvgPool",
        "MaxPool3D",
        "AvgPool3D",
        "LRN",
        "ResizeBilinear",
        "ResizeNearestNeighbor",
        "ResizeBicubic",
        "SpaceToBatchND",
        "BatchToSpaceND",
        "SpaceToBatch",
        "BatchToSpace",
        "SpaceToDepth",
        "DepthToSpace",
        "Pad",
        "PadV2",
        "MirrorPad",
        "SoftmaxCrossEntropyWithLogits",
        "SparseSoftmaxCrossEntropyWithLogits",
        "Conv2DBackpropInput",
        "Conv3DBackpropInputV2",
        "InTopK",
        "InTopKV2",
        "TopK",
        "TopKV2",
        "ExtractImagePatches",
        "DecodeRaw",
        "StringToNumber",
        "DecodeCSV",
        "Dilation2D",
        "MaxPoolWithArgmax",
        "FakeQuantWithMinMaxVars",
        "FakeQuantWithMinMaxArgs",
        "AsString",
        "StringToHashBucketFast",
        "LookupTableFind",
        "LookupTableFindV2",
        "Substr",
        "Multinomial",
        "StatelessMultinomial",
        "Cumsum",
        "Cumprod",
        "ReverseSequence",
        "Reverse",
        "ReverseV2",
        "MatrixBandPart",
        "Roll",
        "BucketizeV2",
        "Bucketize",
        "MatrixDiag",
        "Cholesky",
        "MatrixInverse",
        "MatrixDeterminant",
        "FFT",
        "IFFT",
        "RFFT",
        "AdjustContrastv2",
    }
)
"""Operations that leave the batch axis of what they're given where it is."""
PICKING = frozenset({"Where", "DynamicPartition", "Unique", "UniqueV2", "SparseFillEmptyRows"})
"""How many rows these give follows from the data."""


def _layer(node: Node) -> Value:
    stuck = next((value for value in node.given if isinstance(value, Unknown)), None)
    if stuck is not None:
        return stuck
    rows = [value for value in node.given if isinstance(value, Rows)]
    degrees = {value.degree for value in node.given if isinstance(value, Rows | Fixed)}
    if not rows:
        return Fixed() if all(value == Fixed() for value in node.given) else node.unknown()
    if degrees != {0}:
        return node.unknown()
    axes = rows[0].axes
    for value in rows[1:]:
        axes = (
            axes
            if value.axes is None
            else value.axes
            if axes is None
            else axes & value.axes or axes
        )
    return rows_of(
        node,
        Rows(
            axes,
            0,
            all(value.blank for value in rows),
            rows[0].picked,
            *max((v.form, v.why) for v in rows),
        ),
        axes,
    )


def _arg(node: Node) -> Value:
    value, over = node.given[0], node.integers(1)
    if not isinstance(value, Rows):
        return (
            Fixed() if value == Fixed() else value if isinstance(value, Unknown) else node.unknown()
        )
    rank = rank_of(node.shape_in(0))
    if value.axes is None or not over or (over[0] < 0 and rank is None):
        return rows_of(node, Rows(None), None)
    at = over[0] % rank if rank else over[0]
    axes = frozenset(axis - (at < axis) for axis in value.axes if axis != at)
    return (
        rows_of(node, Rows(axes, picked=value.picked), axes)
        if axes
        else node.unknown("it picks one of the rows")
    )


def _one_hot(node: Node) -> Value:
    value = node.given[0]
    if not isinstance(value, Rows):
        return Fixed() if value == Fixed() else value
    axis = node.attribute("axis").i if "axis" in node.graph.view.nodes[node.name].attr else -1
    axes = (
        value.axes
        if axis < 0 or value.axes is None
        else frozenset(at + (at >= axis) for at in value.axes)
    )
    return rows_of(node, value, axes)


def _gather(node: Node) -> Value:
    """A row for each index; out of rows too, where the indices have them."""
    sizes = sizes_gathered(node)
    if sizes is not None:
        return sizes
    table, indices = node.given[0], node.given[1]
    stuck = next((value for value in (table, indices) if isinstance(value, Unknown | Mixed)), None)
    if stuck is not None:
        return stuck if isinstance(stuck, Unknown) else node.unknown()
    at = (node.integers(2) or (0,))[0] if node.op == "GatherV2" else 0
    if isinstance(indices, Rows):
        degree = table.degree if isinstance(table, Rows | Fixed) else 0
        axes = (
            indices.axes
            if node.op == "GatherNd" or at == 0
            else moved(indices.axes, at)
            if at > 0
            else None
        )
        form, why = (
            (table.form, table.why) if isinstance(table, Rows) else (indices.form, indices.why)
        )
        return rows_of(node, Rows(axes, degree, False, indices.picked, form, why), axes)
    if not isinstance(table, Rows):
        return table if isinstance(table, Fixed) else node.unknown()
    if table.axes is None or at in table.axes or at < 0 or node.op == "GatherNd":
        return node.unknown("it takes a part of the rows")
    return rows_of(node, table, None)


def _picked(node: Node) -> Value:
    value = next((value for value in node.given if isinstance(value, Rows)), None)
    if value is None:
        return next((value for value in node.given if isinstance(value, Unknown)), node.unknown())
    return replace(
        value, axes=node.settled(frozenset({0})), picked=value.picked or node.name, blank=False
    )


def _split(node: Node) -> Value:
    at = 1 if node.op == "Split" else 0
    value = node.given[at]
    return (
        replace(value, axes=node.settled(value.axes))
        if isinstance(value, Rows)
        else value
        if isinstance(value, Fixed | Unknown)
        else node.unknown()
    )


def _unpack(node: Node) -> Value | tuple[Value, ...]:
    value, at = node.given[0], node.attribute("axis").i
    if isinstance(value, Dims):
        return tuple(Fixed(1, Depends.COUNT) if part == "rows" else Fixed() for part in value.parts)
    if not isinstance(value, Rows):
        return value
    rank = rank_of(node.shape_in(0))
    if value.axes is None or (at < 0 and rank is None):
        return rows_of(node, value, None)
    place = at % rank if rank else at
    axes = frozenset(axis - (place < axis) for axis in value.axes if axis != place)
    return rows_of(node, value, axes) if axes else node.unknown("it takes the rows apart")


def _stored(node: Node) -> Value:
    """What a TensorArray holds, told by its flow as the tensor that its elements make, one behind
    the other along a new first axis.
    """
    given = list(node.given)
    if node.op == "TensorArrayWriteV3" and isinstance(given[2], Rows):
        given[2] = replace(given[2], axes=moved(given[2].axes, 1))
    held = [value for value in given if isinstance(value, Rows)]
    stuck = next((value for value in given if isinstance(value, Unknown)), None)
    if stuck is not None:
        return stuck
    if not held:
        return Fixed() if all(value == Fixed() for value in given) else node.unknown()
    if len({value.degree for value in held}) > 1:
        return node.unknown("it holds parts that grow differently with the batch")
    axes = next((value.axes for value in held if value.axes is not None), None)
    if node.op == "TensorArrayReadV3" and axes is not None:
        axes = frozenset(axis - 1 for axis in axes if axis)
        if not axes:
            return node.unknown("it takes the rows apart")
    return rows_of(node, held[0], None if node.op == "TensorArrayConcatV3" else axes)


def _scattered(node: Node) -> Value:
    """ScatterNd: as many rows as its shape says."""
    sizes = node.sizes(2)
    updates = node.given[1]
    if isinstance(updates, Rows) and sizes is not None and sizes.count("rows") == 1:
        return rows_of(node, updates, frozenset({sizes.index("rows")}))
    return updates if isinstance(updates, Unknown) else node.unknown()


def _stitched(node: Node) -> Value:
    rows = [value for value in node.given[len(node.given) // 2 :] if isinstance(value, Rows)]
    if not rows:
        return next((value for value in node.given if isinstance(value, Unknown)), node.unknown())
    if len({value.degree for value in rows}) > 1:
        return node.unknown("it joins parts that grow differently with the batch")
    return rows_of(node, replace(rows[0], picked=""), frozenset({0}))


def _parsed(node: Node) -> Value | tuple[Value, ...]:
    """ParseExample: dense tensors and the parts of sparse ones, all with a row for each example."""
    if not isinstance(node.given[0], Rows):
        return node.given[0]
    sparse = node.attribute("Nsparse").i
    rows = Rows(frozenset({0}))
    dense = node.attribute("Ndense").i
    return (*(rows,) * (2 * sparse), *(Dims(("rows", None)),) * sparse, *(rows,) * dense)


def _dense(node: Node) -> Value:
    """SparseToDense: as many rows as its shape says, whichever of them the data fills."""
    sizes = node.sizes(1)
    stuck = next((value for value in node.given if isinstance(value, Unknown)), None)
    if stuck is not None:
        return stuck
    if sizes is None or sizes.count("rows") != 1:
        return node.unknown("it makes a tensor of a shape that isn't known")
    values = next((value for value in node.given[2:] if isinstance(value, Rows)), Rows(None))
    return rows_of(node, replace(values, picked="", blank=False), frozenset({sizes.index("rows")}))


def _sampled(node: Node) -> tuple[Value, ...]:
    """Candidate samplers: as many candidates as the graph says, and what is expected of each row's
    labels.
    """
    value = node.given[0]
    return (Fixed(), replace(value, degree=0) if isinstance(value, Rows) else value, Fixed())


def _einsum(node: Node) -> Value:
    """A product written with letters: the batch's is kept where the result has it, and added over
    where it hasn't.
    """
    equation = node.attribute("equation").s.decode("utf-8", "replace").replace(" ", "")
    inputs, arrow, output = equation.partition("->")
    letters = inputs.split(",")
    stuck = next((value for value in node.given if not isinstance(value, Fixed | Rows)), None)
    if stuck is not None or not arrow or "." in equation or len(letters) != len(node.given):
        return stuck if isinstance(stuck, Unknown) else node.unknown()
    numbers = [value for value in node.given if isinstance(value, Fixed | Rows)]
    found = {
        letters[slot][axis]
        for slot, value in enumerate(numbers)
        if isinstance(value, Rows)
        for axis in value.axes or ()
    }
    known = all(
        value.axes is not None and len(value.axes) == 1
        for value in numbers
        if isinstance(value, Rows)
    )
    if (
        len(found) != 1
        or not known
        or any(isinstance(value, Fixed) and value.depends for value in numbers)
    ):
        return node.unknown("every row meets every other" if len(found) > 1 else "")
    (letter,) = found
    if any(
        letter in letters[slot] for slot, value in enumerate(numbers) if isinstance(value, Fixed)
    ):
        return node.unknown()
    degree = sum(value.degree for value in numbers)
    if letter not in output:
        return Fixed(degree + 1, Depends.DATA)
    return rows_of(node, Rows(None, degree), frozenset({output.index(letter)}))


def _crossed(node: Node) -> Value | tuple[Value, ...]:
    """SparseCross, SparseReshape: the parts of a sparse tensor with a row for each example."""
    stuck = next((value for value in node.given if isinstance(value, Unknown)), None)
    if stuck is not None:
        return stuck
    rows = Rows(frozenset({0}))
    if node.op == "SparseReshape":
        sizes = node.sizes(2) or ()
        return (
            rows,
            Dims(tuple("rows" if size in ("rows", -1) else size for size in sizes))
            if sizes
            else node.unknown(),
        )
    return (rows, rows, Dims(("rows", None)))


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(BATCH_FIRST, _layer),
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg),
    "OneHot": _one_hot,
    **dict.fromkeys(("Gather", "GatherV2", "GatherNd", "ResourceGather"), _gather),
    **dict.fromkeys(PICKING, _picked),
    **dict.fromkeys(("Split", "SplitV"), _split),
    "Unpack": _unpack,
    **dict.fromkeys(
        (
            "TensorArrayScatterV3",
            "TensorArrayReadV3",
            "TensorArrayWriteV3",
            "TensorArrayGatherV3",
            "TensorArrayConcatV3",
        ),
        _stored,
    ),
    "ScatterNd": _scattered,
    **dict.fromkeys(("DynamicStitch", "ParallelDynamicStitch"), _stitched),
    "ParseExample": _parsed,
    "SparseToDense": _dense,
    "Einsum": _einsum,
    **dict.fromkeys(
        ("SparseCross", "SparseCrossV2", "SparseCrossHashed", "SparseReshape"), _crossed
    ),
    **dict.fromkeys(
        (
            "LogUniformCandidateSampler",
            "UniformCandidateSampler",
            "LearnedUnigramCandidateSampler",
            "FixedUnigramCandidateSampler",
        ),
        _sampled,
    ),
}
