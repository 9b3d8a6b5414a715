"""What becomes of rows where they're added up?

Rule: a sum over the batch axis raises the degree by one, a mean doesn't; a mean over rows that were
picked by their data divides by a count that follows from it. Where it isn't known which axis is the
batch's, a reduction over all axes, or to a known shape, decides it all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from orchestrator.graph.repetition.arithmetic import Rule
from orchestrator.graph.repetition.nodes import Node, rank_of, rows_of
from orchestrator.graph.repetition.values import (
    Depends,
    Dims,
    Fixed,
    Linearity,
    Mixed,
    Number,
    Rows,
    Unknown,
    Value,
)

EVERY = "every axis"


def _axes(node: Node) -> frozenset[int] | str | None:
    """The axes that a reduction goes over, from the front; ``EVERY``, or None where they aren't
    known.
    """
    given = node.integers(1)
    rank = rank_of(node.shape_in(0))
    # A reduction without axes computes them as ``range(rank)`` where the rank isn't known:
    # ``_ReductionDims`` of ``python/ops/math_ops.py``
    if given is None:
        source = node.graph.view.op(node.edge(1).node)
        return EVERY if source == "Range" and rank is None else None
    if rank is None:
        return frozenset(given) if all(axis >= 0 for axis in given) else None
    axes = frozenset(axis % rank if rank else 0 for axis in given)
    return EVERY if len(axes) == rank else axes


def _collapses(node: Node, value: Rows) -> bool | None:
    """Whether a reduction takes the batch axis away; None where it can't be told."""
    over = _axes(node)
    shape = node.shape()
    # The batch's size is none that is known, so an output of known sizes has no batch axis
    if over == EVERY or (shape is not None and not node.static and None not in shape):
        return True
    if value.axes is None or over is None:
        return None
    assert not isinstance(over, str)
    if value.axes <= over:
        return True
    return None if value.axes & over else False


def _left(node: Node, value: Rows) -> Rows:
    """Rows after a reduction over other axes."""
    over = _axes(node)
    if node.attribute("keep_dims").b or value.axes is None or not isinstance(over, frozenset):
        return rows_of(node, value, value.axes)
    return rows_of(
        node, value, frozenset(axis - sum(other < axis for other in over) for axis in value.axes)
    )


def _collapsed(node: Node, value: Rows, degree: int, form: Linearity = Linearity.LINEAR) -> Value:
    if value.dial and degree:
        return Unknown(
            node.name, f"its rows are scaled by {value.dial}, which is fed and may be their number"
        )
    worst, why = max((value.form, value.why), (form, node.name if form else ""))
    return Fixed(
        degree, Depends.COUNT if value.blank else Depends.DATA, worst, why, value.dial, value.zero
    )


def _reduced(node: Node, value: Rows, unknown: str, collapsed: Value) -> Value:
    """Rows after a reduction: ``collapsed`` where it takes the batch axis away."""
    found = _collapses(node, value)
    if found is None:
        return node.unknown(unknown)
    return collapsed if found else _left(node, value)


def _sum(node: Node) -> Value:
    value = node.given[0]
    if isinstance(value, Rows):
        total = _collapsed(node, value, value.degree + 1)
        return _reduced(node, value, "it isn't known whether it adds over the rows", total)
    return node.unknown("it adds sizes") if isinstance(value, Dims) else value


def _mean(node: Node) -> Value:
    value = node.given[0]
    if isinstance(value, Rows):
        mean = _collapsed(node, value, value.degree)
        # Each batch divides by the number of its own picked rows, which differ from batch to batch
        if value.picked and isinstance(mean, Fixed):
            mean = replace(mean, form=Linearity.MASKED, why=value.picked)
        return _reduced(node, value, "it isn't known whether its mean goes over the rows", mean)
    return node.unknown("it's a mean of sizes") if isinstance(value, Dims) else value


def _extreme(node: Node) -> Value:
    value = node.given[0]
    if isinstance(value, Rows):
        most = _collapsed(node, value, value.degree, Linearity.NONLINEAR)
        return _reduced(node, value, "it isn't known whether it reduces the rows", most)
    return Fixed(0, Depends.COUNT) if isinstance(value, Dims) else value


def _product(node: Node) -> Value:
    value = node.given[0]
    # The number of a tensor's elements
    if isinstance(value, Dims):
        counted = value.parts.count("rows")
        return Fixed(counted, Depends.COUNT) if counted else Fixed()
    if isinstance(value, Rows):
        found = _collapses(node, value)
        return (
            _left(node, value)
            if found is False and value.degree == 0
            else node.unknown("it multiplies rows with each other")
        )
    return value if not isinstance(value, Fixed) or value == Fixed() else node.unknown()


def _half_square(node: Node) -> Value:
    """L2Loss: half the sum of the squares of all elements."""
    value = node.given[0]
    if isinstance(value, Rows):
        return _collapsed(node, value, 2 * value.degree + 1)
    if isinstance(value, Fixed):
        form = Linearity.NONLINEAR if value.depends == Depends.DATA else Linearity.LINEAR
        return replace(
            value,
            degree=2 * value.degree,
            form=max(value.form, form),
            why=value.why or (node.name if form else ""),
        )
    return value if isinstance(value, Unknown) else node.unknown()


def _matmul(node: Node) -> Value:
    first, second = node.given[:2]
    stuck = next((value for value in (first, second) if not isinstance(value, Fixed | Rows)), None)
    if stuck is not None:
        return stuck if isinstance(stuck, Unknown) else node.unknown()
    assert isinstance(first, Fixed | Rows)
    assert isinstance(second, Fixed | Rows)
    rank = max(rank_of(node.shape_in(0)) or 2, rank_of(node.shape_in(1)) or 2)
    flags = (
        ("transpose_a", "transpose_b")
        if node.op in ("MatMul", "SparseMatMul")
        else ("adj_x", "adj_y")
    )
    inner = _inner(node, rank, *(node.attribute(flag).b for flag in flags))
    where = [value.axes if isinstance(value, Rows) else frozenset() for value in (first, second)]
    if None in where:
        return node.unknown("it isn't known which axis of what it multiplies is the batch's")
    degree = first.degree + second.degree
    # Rows times rows, as in the gradient of a dense layer's kernel: a sum over the batch
    summed = [axes == frozenset({at}) for axes, at in zip(where, inner, strict=True)]
    if all(summed):
        return _collapsed(node, _both(first, second, degree), degree + 1)
    return _outer(node, first, second, rank, inner)


def _inner(node: Node, rank: int, first_turned: bool, second_turned: bool) -> tuple[int, int]:
    """The axes that a product adds over."""
    return (rank - 2 if first_turned else rank - 1, rank - 1 if second_turned else rank - 2)


def _both(first: Number, second: Number, degree: int) -> Rows:
    # As in ``values``: that statistics of the batch aren't linear is not the loss's business, that
    # they divide by a count of the data is
    blank = all(
        value.blank if isinstance(value, Rows) else value.depends < Depends.DATA
        for value in (first, second)
    )
    form, why = max((first.form, first.why), (second.form, second.why))
    return Rows(
        None,
        degree,
        blank,
        "",
        form if form == Linearity.MASKED else Linearity.LINEAR,
        why if form == Linearity.MASKED else "",
    )


def _outer(node: Node, first: Number, second: Number, rank: int, inner: tuple[int, int]) -> Value:
    """A product that leaves the rows rows; of one input's rows, or of both inputs' where each is
    multiplied with its own.
    """
    found: list[frozenset[int]] = []
    for value, at in ((first, inner[0]), (second, inner[1])):
        if isinstance(value, Rows):
            axes = value.axes or frozenset()
            if at in axes:
                return node.unknown("it adds over the rows of one input only, or that isn't known")
            turned = frozenset({rank - 2} if value is first else {rank - 1})
            found.append(frozenset(axis if axis < rank - 2 else min(turned) for axis in axes))
    if not found:
        if first.depends == Depends.NOTHING == second.depends:  # type: ignore[union-attr]
            return Fixed()
        return node.unknown()
    axes = found[0] if len(found) == 1 else found[0] & found[1]
    if not axes or (len(found) == 2 and any(axis >= rank - 2 for axis in axes)):
        return node.unknown("every row meets every other")
    return rows_of(node, _both(first, second, first.degree + second.degree), axes)


def _segments(node: Node) -> Value:
    """Rows added up in groups: as many groups as rows, or groups of which the number doesn't follow
    from them.
    """
    values = next((value for value in node.given if isinstance(value, Rows)), None)
    if values is None:
        return next(
            (value for value in node.given if isinstance(value, Unknown | Mixed)), node.unknown()
        )
    if not node.op.startswith("UnsortedSegment"):
        return rows_of(
            node,
            Rows(
                frozenset({0}), values.degree, values.blank, values.picked, values.form, values.why
            ),
            frozenset({0}),
        )
    count = node.given[2]
    if isinstance(count, Fixed) and count.degree == 1:
        return rows_of(node, values, frozenset({0}))
    if isinstance(count, Fixed) and count.degree == 0 and node.op == "UnsortedSegmentSum":
        return _collapsed(node, values, values.degree + 1)
    return node.unknown()


def _top_of_batch(node: Node) -> tuple[Value, ...]:
    """FusedBatchNorm: the rows, and statistics of the batch, of which variances aren't linear; in
    the order of ``core/ops/nn_ops.cc``, with the reserved ones.
    """
    value = node.given[0]
    if not isinstance(value, Rows):
        return (value,) * 6
    mean = Fixed(0, Depends.DATA)
    variance = replace(mean, form=Linearity.NONLINEAR, why=node.name)
    rows = replace(value, axes=node.settled(value.axes))
    return (rows, mean, variance, mean, variance, variance)


RULES: Mapping[str, Rule] = {
    "Sum": _sum,
    "Mean": _mean,
    **dict.fromkeys(("Max", "Min", "All", "Any"), _extreme),
    "Prod": _product,
    "L2Loss": _half_square,
    **dict.fromkeys(("MatMul", "BatchMatMul", "BatchMatMulV2", "SparseMatMul"), _matmul),
    **dict.fromkeys(
        (
            "SegmentSum",
            "SegmentMean",
            "SparseSegmentSum",
            "SparseSegmentMean",
            "SparseSegmentSqrtN",
            "UnsortedSegmentSum",
            "SegmentMax",
            "UnsortedSegmentMean",
            "SegmentMin",
        ),
        _segments,
    ),
    **dict.fromkeys(("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"), _top_of_batch),
}
