"""What counts as a counter among a checkpoint's numbers?

Rule: one whole number, of an integer type or as float (older programs count their steps in
float32).
"""

from __future__ import annotations

import numpy as np

COUNTERS = ("int64", "int32", "float32", "float64")
"""Types in which programs count their steps."""


def whole_number(content: bytes, dtype: str) -> int | None:
    """The number that a scalar's little-endian bytes hold; None where it isn't whole.

    Args:
        dtype: one of ``COUNTERS``.
    """
    value = np.frombuffer(content, np.dtype(dtype).newbyteorder("<"))[0]
    return int(value) if float(value).is_integer() else None
