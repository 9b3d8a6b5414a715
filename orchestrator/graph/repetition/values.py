"""How does a tensor change if its batch were repeated M times? The possible answers, and how they
add and multiply.

Rule: what has no batch axis is multiplied by M to some power, its degree; what has one gets M times
as many rows, each multiplied so. A sum over rows raises the degree by one, a mean leaves it, a
division by the number of rows lowers it. Besides, a reduced value remembers whether it's still
linear in what each row gave: a quotient of two sums isn't, and then the mean of the workers' values
isn't the joint batch's even where the degree is that of a mean. What can't be told is Unknown, with
the node at which the trail ended.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Literal

Axes = frozenset[int] | None
"""Which axes may be the batch's: one where it's known, several where one of them is, None where it
may be any.
"""


class Depends(IntEnum):
    """What a value follows from."""

    NOTHING = 0
    COUNT = 1
    """The number of rows alone."""
    DATA = 2


class Linearity(IntEnum):
    """How a value hangs on what each row gave; of two the worse one holds."""

    LINEAR = 0
    NONLINEAR = 1
    MASKED = 2
    """Divided by something that was added up from the data."""


@dataclass(frozen=True)
class Fixed:
    """A tensor without a batch axis.

    Attributes:
        degree: M to this power multiplies it.
        why: the node that made it other than linear.
        dial: a fed scalar that multiplies it and may stand for a number of rows.
        zero: it's all zeros, of whatever degree.
    """

    degree: int = 0
    depends: Depends = Depends.NOTHING
    form: Linearity = Linearity.LINEAR
    why: str = ""
    dial: str = ""
    zero: bool = False


@dataclass(frozen=True)
class Rows:
    """A tensor with a batch axis; the other attributes as ``Fixed`` has them.

    Attributes:
        blank: its values don't follow from the data, only its shape does.
        picked: the node that picked these rows by their data, so that even their number follows
            from it.
    """

    axes: Axes
    degree: int = 0
    blank: bool = False
    picked: str = ""
    form: Linearity = Linearity.LINEAR
    why: str = ""
    dial: str = ""
    zero: bool = False


Part = int | None | Literal["rows"]


@dataclass(frozen=True)
class Dims:
    """A vector of sizes: each a known number, ``rows`` where it counts rows, None for another fixed
    one.
    """

    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Mixed:
    """Parts of different degrees, added up at a node."""

    node: str


@dataclass(frozen=True)
class Unknown:
    """What can't be told, the node at which that began, and why."""

    node: str
    why: str


Value = Fixed | Rows | Dims | Mixed | Unknown
Number = Fixed | Rows

PLAIN = Fixed()
COUNT = Fixed(1, Depends.COUNT)


def depends(value: Number) -> Depends:
    """What the values of ``value`` follow from."""
    return (
        value.depends
        if isinstance(value, Fixed)
        else Depends.COUNT
        if value.blank
        else Depends.DATA
    )


def undecided(values: tuple[Value, ...]) -> Value | None:
    """The first of ``values`` that is no number, None where all are."""
    for kind in (Unknown, Mixed, Dims):
        for value in values:
            if isinstance(value, kind):
                return value
    return None


def added(node: str, one: Number, other: Number, axes: Axes) -> Value:
    """Their sum; ``axes`` is where the result's batch axis lies if one of them has one."""
    if one.zero or other.zero:
        value = other if one.zero else one
        return (
            _spread(value, axes)
            if isinstance(value, Fixed) and (isinstance(one, Rows) or isinstance(other, Rows))
            else value
        )
    if one.degree != other.degree:
        return Mixed(node)
    dial = one.dial if one.dial == other.dial else ""
    return _together(one, other, axes, one.degree, *_worse(one, other), dial)


def multiplied(node: str, one: Number, other: Number, axes: Axes) -> Value:
    """Their product."""
    form, why = _worse(one, other)
    if _reduced(one) and _reduced(other):
        form, why = max((form, why), (Linearity.NONLINEAR, node))
    return _scaled(node, one, other, axes, one.degree + other.degree, form, why)


def divided(node: str, one: Number, other: Number, axes: Axes) -> Value:
    """Their quotient; by a sum over the data it's masked."""
    form, why = _worse(one, other)
    if _reduced(other) and (other.degree or isinstance(one, Fixed)):
        counted = Linearity.MASKED if depends(one) == Depends.DATA else Linearity.NONLINEAR
        form, why = max((form, why), (counted, node))
    return _scaled(node, one, other, axes, one.degree - other.degree, form, why)


def bent(node: str, value: Number) -> Value:
    """A function of it that isn't linear."""
    if isinstance(value, Rows):
        return (
            replace(value, dial="", zero=False)
            if value.degree == 0
            else Unknown(node, _bends(value))
        )
    if value.depends == Depends.NOTHING:
        return PLAIN
    if value.degree:
        return Unknown(node, _bends(value))
    if value.depends == Depends.COUNT:
        return Fixed(0, Depends.COUNT)
    return Fixed(0, Depends.DATA, *max((value.form, value.why), (Linearity.NONLINEAR, node)))


def _bends(value: Number) -> str:
    return f"it bends a value that is multiplied by M^{value.degree} where the batch is repeated M times"


def _reduced(value: Number) -> bool:
    return isinstance(value, Fixed) and value.depends == Depends.DATA


def _worse(one: Number, other: Number) -> tuple[Linearity, str]:
    return max((one.form, one.why), (other.form, other.why))


def _scaled(
    node: str, one: Number, other: Number, axes: Axes, degree: int, form: Linearity, why: str
) -> Value:
    for dial, scaled in ((one.dial, other), (other.dial, one)):
        if dial and isinstance(scaled, Fixed) and scaled.degree and scaled.depends == Depends.DATA:
            return Unknown(
                node, f"it scales a sum over rows by {dial}, which is fed and may be their number"
            )
    if isinstance(one, Rows) or isinstance(other, Rows):
        form, why = (
            (form, why) if form == Linearity.MASKED else (Linearity.LINEAR, "")
        )  # batch norm's statistics aren't the loss's business
    value = _together(one, other, axes, degree, form, why, one.dial or other.dial)
    return replace(value, zero=True) if one.zero or other.zero else value


def _together(
    one: Number, other: Number, axes: Axes, degree: int, form: Linearity, why: str, dial: str
) -> Number:
    if isinstance(one, Fixed) and isinstance(other, Fixed):
        return Fixed(degree, max(one.depends, other.depends), form, why, dial)
    blank = max(depends(one), depends(other)) < Depends.DATA
    picked = next(
        (value.picked for value in (one, other) if isinstance(value, Rows) and value.picked), ""
    )
    return Rows(axes, degree, blank, picked, form, why, dial)


def _spread(value: Fixed, axes: Axes) -> Rows:
    """A value without rows that was added to zeros with rows."""
    return Rows(
        axes, value.degree, value.depends < Depends.DATA, "", value.form, value.why, value.dial
    )
