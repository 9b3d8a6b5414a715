"""Which process ends with another one?

Rule: whoever works for a process alone is killed with it, however that one ends. Where the kernel
has no such signal, nothing is done.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
"""From Linux's ``linux/prctl.h``; Python has no name for it. See prctl(2)."""


def end_with(parent: int) -> None:
    """From now on this process is killed when ``parent``, which started it, or the thread there that
    did, ends.

    Source: prctl(2), PR_SET_PDEATHSIG.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)  # it was gone before we asked
