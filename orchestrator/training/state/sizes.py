"""How large are the variables of a state?

Rule: one pass over every float array in portions, in double precision; the state is only read. It
runs beside the training, so it's one thread's work: BLAS (``np.dot``) would take all cores for it,
and took ten times the time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from orchestrator.decide.outliers import Size
from orchestrator.graph.worker_graph import Variable
from orchestrator.training.state.session_rows import Rows, flat_portions
from orchestrator.training.state.state import State, is_float

PORTION = 64 * 1024
"""Numbers looked at together: half a megabyte in double precision, which a core's own cache holds."""


def sizes(state: State, variables: Iterable[Variable]) -> Mapping[str, Size]:
    """The sizes of the float variables, by name.

    Args:
        variables: the graph's. Local ones, which aren't restored, are left out, and so are empty
            ones and the saver's other entries.
    """
    values = state.values
    return {
        variable.name: size_of(array, trained=variable.trainable)
        for variable in variables
        if not variable.local
        and (array := values.get(variable.name)) is not None
        and array.size
        and is_float(array)
    }


def size_of(array: Rows, *, trained: bool) -> Size:
    """The size of one float array of any shape, not empty; NaN counts as infinite."""
    first = None
    squares, largest, uniform = 0.0, 0.0, True
    with np.errstate(over="ignore"):
        for portion in _portions(array):
            first = portion[0] if first is None else first
            uniform = uniform and bool((portion == first).all())
            numbers = np.abs(portion) if portion.dtype.kind == "c" else portion
            numbers = numbers.astype(np.float64)
            squares += float(np.einsum("i,i->", numbers, numbers))
            greatest = np.maximum(numbers.max(), -numbers.min())  # NaN where there is one
            largest = max(largest, float(np.nan_to_num(greatest, nan=np.inf, posinf=np.inf)))
    count = int(array.size)
    rms = float(np.sqrt(squares / count)) if np.isfinite(largest) else np.inf
    return Size(rms, largest, trained, single=count == 1, uniform=uniform, elements=count)


def _portions(array: Rows) -> Iterator[np.ndarray]:
    for values in flat_portions(array):
        for start in range(0, values.size, PORTION):
            yield values[start : start + PORTION]
