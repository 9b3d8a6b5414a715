"""How does a worker give freed host memory back to the machine?

Rule: at moments when much was freed and nobody waits, such as the end of a session, and where there's
little to spare. What glibc's allocator keeps for later doesn't come back to a process whose next
generation allocates from other threads, so it would grow with each one.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable


@functools.cache
def _trim() -> Callable[[int], int] | None:
    """glibc's ``malloc_trim``; None where the C library has none (musl, macOS)."""
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return None
    return found


def give_back() -> bool:
    """Give freed memory back; whether there was any."""
    trim = _trim()
    return trim is not None and bool(trim(0))
