"""Which patterns of a large table are tried this time?

Rule: a third of it, all of it by ``make soak``. Whose turn it is follows from the code under test:
the same tree tries the same third, and after a change it's another's turn.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

THIRDS = 3
CODE = Path(__file__).resolve().parents[2] / "orchestrator"


@cache
def _checksum() -> int:
    found = 0
    for path in sorted(CODE.rglob("*.py")):
        found = zlib.crc32(path.read_bytes(), found)
    return found


def of_turn(names: Iterable[str]) -> list[str]:
    """The names whose turn it is, in order."""
    return sorted(names)[_checksum() % THIRDS :: THIRDS]
