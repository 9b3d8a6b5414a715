"""Which variables jumped against the last checkpoint?

Rule: a variable is as large as its root mean square and as its largest number, and it jumped where
one of the two grew by more than the stated factor, or passed what any training could mean. Growth
from nothing is no jump: numbers below a floor count as the floor, a variable whose numbers were all
equal is taken to be as its initialiser left it, and single numbers that aren't trained (counters,
powers of beta, loss scales) aren't judged. What isn't trained may grow by the factor's square, since
slots and moving averages hold squares. Shrinking is never a jump.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

FLOOR = 0.01
"""A weight below it is taken to be that large: biases and last layers start at zero or close to it,
and grow a thousandfold within the first steps.
"""
ABSURD = 1e30
"""No training comes to such numbers and goes on; a slot of squares that an overflow filled does."""


@dataclass(frozen=True)
class Size:
    """How large a float variable is.

    Attributes:
        rms: the root of the mean of its squares.
        largest: its largest absolute number.
        trained: whether gradients change it; slots and moving averages hold squares.
        single: it is one number.
        elements: how many numbers it has; 0 where they weren't counted.
        uniform: all its numbers are equal, as initialisers of constants leave them.
    """

    rms: float
    largest: float
    trained: bool = True
    single: bool = False
    uniform: bool = False
    elements: int = field(default=0, compare=False)

    @property
    def tells(self) -> bool:
        """Whether growth against it can be told."""
        if not math.isfinite(self.largest):
            return False
        if self.single:
            return self.trained and self.largest > 0
        return not self.uniform


@dataclass(frozen=True)
class Outlier:
    """A variable that jumped: its root mean square and largest number before, and now."""

    name: str
    before: Size
    now: Size

    @property
    def growth(self) -> float:
        """By how much it grew; infinite from zero."""
        pairs = ((self.now.rms, self.before.rms), (self.now.largest, self.before.largest))
        return max(now / before if before else math.inf for now, before in pairs)

    def __str__(self) -> str:
        now, before = self.now, self.before
        return f"{self.name} (largest {before.largest:.3g} to {now.largest:.3g}, root mean square {before.rms:.3g} to {now.rms:.3g})"


def outliers(
    now: Mapping[str, Size], before: Mapping[str, Size], factor: float
) -> tuple[Outlier, ...]:
    """The variables that jumped, the one that grew most first.

    Args:
        now, before: the sizes at a save and at the last checkpoint, by name; who stands in one of
            them only isn't judged.
        factor: more than 1.
    """
    found = [
        Outlier(name, before[name], size)
        for name, size in now.items()
        if name in before and _jumped(size, before[name], factor)
    ]
    return tuple(sorted(found, key=lambda item: (-item.growth, item.name)))


def _jumped(now: Size, before: Size, factor: float) -> bool:
    if now.single and not now.trained:
        return False
    if now.largest > ABSURD >= before.largest:
        return True
    if not before.tells:
        return False
    allowed, floor = (factor, FLOOR) if now.trained else (factor**2, FLOOR**2)
    pairs = ((now.rms, before.rms), (now.largest, before.largest))
    return any(after > allowed * max(earlier, floor) for after, earlier in pairs)
