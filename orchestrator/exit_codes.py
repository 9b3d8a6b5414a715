"""How does a process's exit code read?

Rule: a code is an ``int`` as ``subprocess`` has it, negative for a signal; people read the signal's
name.
"""

from __future__ import annotations

import signal


def ended_text(code: int) -> str:
    """``killed by SIGKILL``, or ``exit code 3``."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal, say
        return f"killed by signal {-code}"
