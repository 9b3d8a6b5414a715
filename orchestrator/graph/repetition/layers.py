"""What do layers make of rows?

Rule: layers leave the batch axis in front.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from orchestrator.graph.repetition.arithmetic import Rule
from orchestrator.graph.repetition.nodes import Node, rank_of, rows_of
from orchestrator.graph.repetition.values import Depends, Fixed, Rows, Unknown, Value

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


def _layer(node: Node) -> Value:
    stuck = next((value for value in node.given if isinstance(value, Unknown)), None)
    if stuck is not None:
        return stuck
    rows = [value for value in node.given if isinstance(value, Rows)]
    degrees = {value.degree for value in node.given if isinstance(value, Rows | Fixed)}
    if not rows:
        return Fixed() if all(value == Fixed() for value in node.given) else node.unknown()
    # Some layers are linear and some aren't, and no rule tells which: what grows with the batch
    # ends here
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
    # Which axis is picked from isn't known, so that any of those left may be the batch's
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
    # The new axis stands last as a rule, and then moves no other
    axes = (
        value.axes
        if axis < 0 or value.axes is None
        else frozenset(at + (at >= axis) for at in value.axes)
    )
    return rows_of(node, value, axes)


def _sampled(node: Node) -> tuple[Value, ...]:
    """Candidate samplers: as many candidates as the graph says, and what is expected of each row's
    labels, in the order of ``core/ops/candidate_sampling_ops.cc``.
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
    # A factor that follows from the data makes the product other than linear in the rows, or of
    # another degree: no single answer holds for all its terms
    if (
        len(found) != 1
        or not known
        or any(isinstance(value, Fixed) and value.depends for value in numbers)
    ):
        return node.unknown("every row meets every other" if len(found) > 1 else "")
    (letter,) = found
    # Something without rows that is as long as the batch wouldn't be repeated with it
    if any(
        letter in letters[slot] for slot, value in enumerate(numbers) if isinstance(value, Fixed)
    ):
        return node.unknown()
    degree = sum(value.degree for value in numbers)
    if letter not in output:
        return Fixed(degree + 1, Depends.DATA)
    return rows_of(node, Rows(None, degree), frozenset({output.index(letter)}))


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(BATCH_FIRST, _layer),
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg),
    "OneHot": _one_hot,
    "Einsum": _einsum,
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
