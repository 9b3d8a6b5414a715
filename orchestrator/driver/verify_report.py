"""What does ``tfresume verify`` answer?

Rule: plain data: the verdict, each comparison with its numbers, and what makes the rest differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from orchestrator.driver.proof import Proof

Verdict = Literal["agrees", "explained", "differs"]
Name = Literal["slots", "joint", "save", "slots held still", "joint held still", "save held still"]
WHAT: Mapping[Name, str] = {
    "slots": "the group and one process with the same batches, bit for bit",
    "joint": "the group and one bare TensorFlow process",
    "save": "with and without a save and a restart in the middle, bit for bit",
    "slots held still": "the group and one process, with random numbers held still",
    "joint held still": "the group and bare TensorFlow, with random numbers held still",
    "save held still": "with and without a restart, with random numbers held still",
}


@dataclass(frozen=True)
class Comparison:
    """Two runs of the same steps.

    Attributes:
        what: in words.
        compared: how many variables.
        relative: the largest difference of any of them, relative to how far the steps moved it.
        worst: (variable, relative difference) of those over the tolerance, worst first.
        reason: why it couldn't be compared; empty where it was.
        beyond: those of ``worst`` that no known reason accounts for.
        rounded: variables that the steps moved by rounding alone: they come out otherwise with
            every order of the rows. ``relative`` and ``worst`` leave them out.
        name: which comparison this is.
    """

    what: str
    agrees: bool | None
    tolerance: float
    compared: int = 0
    relative: float = 0.0
    worst: tuple[tuple[str, float], ...] = ()
    reason: str = ""
    beyond: tuple[str, ...] = ()
    rounded: tuple[str, ...] = ()
    name: Name = "joint"


@dataclass(frozen=True)
class VerifyReport:
    """The answer of ``tfresume verify``.

    Attributes:
        verdict: ``agrees``; ``explained``: it differs as far as ``causes`` account for it, or
            couldn't be compared; ``differs``.
        moved: variables that the steps changed.
        causes: what makes a group differ from one process in this graph.
        proof: of the first step, gradient by gradient; None with one batch a step.
    """

    verdict: Verdict
    source: str
    workers: int
    steps: int
    start_step: int
    comparisons: tuple[Comparison, ...]
    moved: int
    causes: tuple[str, ...] = field(default=())
    proof: Proof | None = None

    @property
    def exit_code(self) -> int:
        """0 where it agrees or what differs is named, else 1."""
        return 1 if self.verdict == "differs" else 0

    def as_dict(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return asdict(self)
