"""What can be wrong with a graph, and what is its owner told?

Rule: a problem is made where the fact is found, and collected by ``check`` and ``plan``. Each code
is explained in ``docs/problems.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Problem:
    """One reason why a graph wouldn't resume, or one thing that its owner should know.

    Attributes:
        code: stable kebab-case identifier, such as ``no-train-op`` or ``unfed-placeholder``.
        severity: ``error`` refuses the run, ``warning`` is shown.
        message: what, and why.
        remedy: what to do about it, naming flags.
        nodes: node or tensor names concerned.
        modes: the modes it speaks of: ``group``, ``one`` or both.
        forceable: ``--force`` can mean something here.
    """

    code: str
    severity: Literal["error", "warning"]
    message: str
    remedy: str = ""
    nodes: tuple[str, ...] = ()
    modes: tuple[Literal["group", "one"], ...] = ("group", "one")
    forceable: bool = False
