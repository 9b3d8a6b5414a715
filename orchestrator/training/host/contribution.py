"""What does a rank bring to one round of an exchange, and what comes of it?

Rule: the dense seams' values are added up as far as the tree of ``group.summation`` lets them be,
so that a rank with many slots holds one sum for each level of the tree and not one gradient for
each slot; rows are kept by slot.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from orchestrator.errors import GroupDisagrees
from orchestrator.training.engine.tensorflow import tf
from orchestrator.training.group.summation import Accumulator, ShapesDiffer
from orchestrator.training.host.phases import Computed
from orchestrator.training.host.rows import Rows
from orchestrator.training.host.seams import Level, Opening
from orchestrator.training.host.weighing import wired

SAME_ROWS = "Give every batch the same number of rows where a gradient's shape follows from it"
SHOWN = 3
"""Tensors named in one message; the details have them all."""


@dataclass
class Contribution:
    """What this rank has computed of one round.

    Attributes:
        sums: the dense seams' sums, and behind them what is shown, as far as the tree lets them be
            added.
        slots: whose batches they come from.
        rows: slot to the rows of each sparse seam.
        like: what one batch gave, for types and shapes; also where it isn't contributed.
    """

    sums: Accumulator
    slots: set[int] = field(default_factory=set)
    rows: dict[int, tuple[Rows, ...]] = field(default_factory=dict)
    like: Computed | None = None

    def add(self, slot: int, computed: Computed) -> None:
        """Contribute what the slot's batch gave."""
        try:
            self.sums.add(slot, arrays_of(computed))
        except ShapesDiffer as error:
            known = error.place < len(computed.names)
            name = computed.names[error.place] if known else "what is shown"
            raise GroupDisagrees(
                f"two batches of one step don't give the same shapes of {name}: {error}",
                remedy=f"{SAME_ROWS}, or use --batches-per-step 1",
                details={"tensors": [name]},
            ) from error
        self.rows[slot] = computed.rows
        self.slots.add(slot)


def arrays_of(computed: Computed) -> list[np.ndarray]:
    """What is summed: the dense seams in their wire types, behind them what is shown as one vector,
    and last the batch's weight.
    """
    shown = [np.array(list(computed.watched.values()), np.float64)] if computed.watched else []
    weight = [] if computed.weight is None else [np.array([computed.weight], np.float64)]
    return [*map(wired, computed.dense), *shown, *weight]


def named(error: GroupDisagrees, level: Level, like: Computed, rank: int) -> GroupDisagrees:
    """An error of ranks that mean different sums, with the tensors and the shapes that this one's
    batches gave them; those alone whose shape a batch can change, where there are some.
    """
    free = [opening.fetch for opening in level.dense if not opening.fixed]
    shapes = {
        name: f"{array.dtype}{list(array.shape)}"
        for name, array in zip(like.names, like.dense, strict=True)
        if name in free or not free
    }
    told = ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:SHOWN])
    more = f" and {len(shapes) - SHOWN} more" if len(shapes) > SHOWN else ""
    return GroupDisagrees(
        f"the batches of one step don't give the same shapes: rank {rank} has {told}{more}, and {error.message}",
        remedy=f"{SAME_ROWS}, or use one worker and --batches-per-step 1",
        details={**error.details, "tensors": list(shapes)},
    )


def fitted(mean: np.ndarray, opening: Opening) -> np.ndarray:
    """A mean as the placeholder wants it; a copy where the graph may keep it, since the exchange
    uses its memory again.
    """
    dtype = tf.as_dtype(opening.dtype).as_numpy_dtype
    return np.array(mean, dtype) if opening.kept or mean.dtype != dtype else mean
