"""How is a figure shown? One line: what, the ratio, the bar that it's held against, the medians
behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Figure:
    """A measured figure beside its bar.

    Attributes:
        name: what is compared.
        value: the figure itself, mostly a ratio.
        bar: the value that it should not pass.
        at_most: True where ``value <= bar`` is good, False where ``value >= bar`` is.
        behind: the measurements that it comes from, in words with units.
    """

    name: str
    value: float
    bar: float
    at_most: bool
    behind: str

    def line(self) -> str:
        """The figure as one line of text."""
        good = self.value <= self.bar if self.at_most else self.value >= self.bar
        sign = "<=" if self.at_most else ">="
        return f"{'ok  ' if good else 'MISS'} {self.name:<58} {self.value:8.3f}  (bar {sign} {self.bar:g}; {self.behind})"


def spread(values: Sequence[float], unit: str, scale: float = 1.0) -> str:
    """Median with least and greatest, such as ``3.1 s [2.9, 3.3]``."""
    low, middle, high = min(values) * scale, median(values) * scale, max(values) * scale
    return f"{middle:.3g} {unit} [{low:.3g}, {high:.3g}] of {len(values)}"
