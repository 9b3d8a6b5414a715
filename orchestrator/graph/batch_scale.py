"""How does a gradient follow from the number of rows of its batch?

Rule: these are the answers that there are; ``repetition`` finds which one holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ScaleKind = Literal["mean", "sum", "masked", "nonlinear", "mixed", "unknown"]


@dataclass(frozen=True)
class BatchScale:
    """How a gradient follows from the number of rows of its batch.

    Attributes:
        kind: of a ``mean`` over rows; of a ``sum``; ``masked``: of a mean over as many rows as the
            data says; ``nonlinear``: of another function of what the rows give together; ``mixed``:
            of a sum and of what doesn't grow with the rows; ``unknown``.
        why: what keeps it from being a plain mean or sum, about ``node``.
        losses: names of the tensors that it's the gradient of.
        variables: what the optimizer updates with it, as far as that can be seen.
    """

    kind: ScaleKind = "unknown"
    why: str = ""
    node: str = ""
    losses: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()


NOT_ASKED = BatchScale("unknown", "it wasn't asked")
