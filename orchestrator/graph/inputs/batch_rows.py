"""How many rows has a batch?

Rule: as many as all fed arrays have in common as their first dimension, scalars left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def rows_of(feeds: Mapping[str, Any]) -> int:
    """Rows of a batch; 0 where the arrays have none in common."""
    sizes = {shape[0] for value in feeds.values() if (shape := getattr(value, "shape", ()))}
    return int(sizes.pop()) if len(sizes) == 1 else 0
