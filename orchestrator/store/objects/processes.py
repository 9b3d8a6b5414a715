"""Is the process that wrote something down still there?

Rule: a process is known by its machine (this boot of it), its number and its start in clock ticks
since boot. The ticks stand still when somebody sets the wall clock, which psutil's ``create_time``
follows: a step of a second made living drivers look dead.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

_STATE, _START = 0, 19
"""Fields of ``/proc/PID/stat`` after the command's closing parenthesis: ``state`` (3) and
``starttime`` (22) of proc(5).
"""
_ENDED = frozenset("ZXx")


def this_machine() -> str:
    """This boot of this machine or container; empty where it can't be told, and then nobody is
    called dead without waiting.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
    return f"{socket.gethostname()}/{boot}/{namespace}"


def start_ticks(pid: int) -> int | None:
    """Clock ticks from the machine's boot to the process's start; None where there is no such
    process, or only its remains.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # a command may hold blanks and parentheses
    return None if fields[_STATE] in _ENDED else int(fields[_START])


def is_gone(machine: str, pid: int, ticks: int) -> bool:
    """Whether a process of this machine has ended; False for those of other machines, of which
    nothing is known here.
    """
    if not machine or not ticks or machine != this_machine():
        return False
    return start_ticks(pid) != ticks


def this_user() -> str:
    """Whose process this is, for people to read."""
    try:
        import getpass

        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
