"""Which command does a message name for whoever wants to know more?

Rule: a line that can be copied into a shell as it stands.
"""

from __future__ import annotations

import shlex


def logs_command(output: str, worker: str = "") -> str:
    """What shows everything that is known of a run, or of one of its workers.

    Args:
        output: the run's URL, as it may be shown.
    """
    return shlex.join(["tfresume", "logs", output, *(["--worker", worker] if worker else [])])
