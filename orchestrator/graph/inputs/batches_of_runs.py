"""Which of a step's batches does each run of its cycle take?

Rule: one of its own, as each ``session.run`` of a training script has its own ``feed_dict``: five
runs of a critic see five batches, and gradients added up in four runs are those of four. A run that
needs no rows (what applies gradients that others have added up) takes none; of what it needs
besides, such as a learning rate, it gets the value of the run before. Where no run needs rows each
counts as one, so that random numbers differ between them.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Literal

from orchestrator.graph.worker_graph import InputPort, TrainTarget

CycleBatches = Literal["own", "same"]


def batches_of_runs(
    targets: Sequence[TrainTarget],
    ports: Sequence[InputPort],
    given: Set[str],
    how: CycleBatches = "own",
) -> tuple[int, ...]:
    """For each run of a cycle, which of the step's batches of a slot it takes, counted from 0.

    Args:
        given: names of the tensors that hold one value for the whole run.
        how: ``same`` gives all runs of a cycle one batch.
    """
    runs = [number for number, target in enumerate(targets) for _ in range(target.ratio)]
    if how == "same":
        return (0,) * len(runs)
    takers = {number for port in ports if _brings_rows(port, given) for number in port.targets}
    taken, found = 0, []
    for target in runs:
        takes = target in takers or not takers
        taken += takes
        found.append(max(0, taken - 1))
    return tuple(found)


def _brings_rows(port: InputPort, given: Set[str]) -> bool:
    return port.shape != () and port.name not in given and port.tensor not in given
