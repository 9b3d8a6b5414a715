"""What a worker imports first that may have little memory (``--import-modules``): from here on it may
take ``LIMIT_BYTES`` more, and the kernel holds it to that.
"""

from __future__ import annotations

import re
import resource
from pathlib import Path

import numpy as np

from tests.chaos.larger_tables import LIMIT_BYTES


def limit() -> int:
    """Set the limit; raises where it isn't held."""
    found = re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    most = int(found[1]) * 1024 + LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    try:
        # An eighth more: a thread that ends meanwhile gives the stack back that was counted
        np.ones(LIMIT_BYTES * 9 // 8, np.uint8)
    except MemoryError:
        return most
    raise RuntimeError("more memory than the limit could be taken")


MOST_BYTES = limit()
