"""What comes out where a graph chooses: by a condition for each element, by the branch that is
taken, by a loop's turn?

Rule: whichever is chosen must follow from the batch in the same way; zeros fit to anything. What
only keeps a divisor from being zero isn't a choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce

from orchestrator.graph.repetition.arithmetic import Rule, aligned, combined
from orchestrator.graph.repetition.elementwise import kept
from orchestrator.graph.repetition.nodes import Node, rank_of
from orchestrator.graph.repetition.values import (
    Depends,
    Fixed,
    Rows,
    Unknown,
    Value,
    added,
    undecided,
)


def _select(node: Node) -> Value:
    """One of two. Where the other is only there in case that a divisor is zero, it's the one."""
    condition, one, other = node.given
    # ``where(equal(count, 0), ones_like(count), count)``, as the losses of TensorFlow 1 have it
    # (``_safe_div`` of ``python/ops/losses/losses_impl.py``): the count of the two
    for value, against in ((one, other), (other, one)):
        if (
            isinstance(value, Fixed)
            and isinstance(against, Fixed)
            and value.degree
            and not against.degree
            and _asks_for_zero(node)
        ):
            return value
    rank = rank_of(node.shape_in(0))
    axes = aligned(
        node, (1, 2) if node.op == "Select" and rank == 1 else (0, 1, 2)
    )  # the old Select picks whole rows by a vector
    if isinstance(axes, Unknown):
        return axes
    # Rows are where the vector has them
    if isinstance(condition, Rows) and rank == 1 and node.op == "Select":
        axes = node.settled(frozenset({0}))
    stuck = undecided((one, other))
    if stuck is not None:
        return stuck
    found = combined(node, added, one, other, axes)
    # One of two numbers for each row has rows, though neither number has
    if isinstance(found, Fixed) and isinstance(condition, Rows):
        return Rows(
            axes,
            found.degree,
            condition.blank and found.depends < Depends.DATA,
            "",
            found.form,
            found.why,
            found.dial,
        )
    if isinstance(found, Rows) and isinstance(condition, Rows):
        return replace(found, blank=found.blank and condition.blank)
    # What the data decides isn't linear in it, whatever is chosen
    if isinstance(found, Fixed) and isinstance(condition, Fixed) and condition.form > found.form:
        depends = max(found.depends, condition.depends)
        return replace(found, depends=depends, form=condition.form, why=condition.why)
    return found


def _asks_for_zero(node: Node) -> bool:
    asked = node.graph.view.data.get(node.edge(0).node, ())
    return any(edge in (node.edge(1), node.edge(2)) for edge in asked)


def _merge(node: Node) -> Value:
    """Whichever branch is taken, or a loop's value: both must be alike, and what has rows on one
    way has them.
    """
    # A branch that gives zeros fits to any other; where both do, they stand
    values = [
        value for value in node.given if not (isinstance(value, Fixed) and value.zero)
    ] or list(node.given)
    rows = [value for value in values if isinstance(value, Rows)]
    if len(set(values)) == 1:
        return kept(replace(node, given=(values[0],)))
    stuck = undecided(tuple(values))
    if stuck is not None:
        return stuck
    degrees = {
        value.degree for value in values if isinstance(value, Fixed | Rows) and value != Fixed()
    }
    if len(degrees) > 1 or (rows and degrees - {rows[0].degree}):
        return node.unknown("its branches grow differently with the batch")
    if not rows:
        return max(
            (value for value in values if isinstance(value, Fixed)),
            key=lambda value: (value.degree != 0, value.depends, value.form),
        )
    axes = reduce(
        lambda one, other: one & other if one and other and one & other else one or other,
        (value.axes for value in rows),
    )
    return replace(rows[0], axes=node.settled(axes), blank=all(value.blank for value in rows))


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("Select", "SelectV2"), _select),
    **dict.fromkeys(("Merge", "RefMerge"), _merge),
}
