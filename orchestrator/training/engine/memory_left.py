"""How much memory may this process still take?

Rule: the least that anything allows: its resource limits, what the run reserves for a worker, the
control groups that it's in (versions 1 and 2), and the machine. What the kernel would give back of
itself, the cache of files, counts as free.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import psutil

from orchestrator.decide.save_copy import MemoryLeft

CONTROL_GROUPS = Path("/sys/fs/cgroup")
FILES = {
    "2": ("memory.max", "memory.current", "inactive_file"),
    "1": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""By version: files of the limit and of what is used, and the line of ``memory.stat`` that says how
much of that is cache (https://docs.kernel.org/admin-guide/cgroup-v2.html and cgroup-v1/memory.html).
"""


def memory_left(reserved_bytes: int | None, sharers: int) -> MemoryLeft:
    """What this process and those beside it may still take.

    Args:
        reserved_bytes: what the run reserves for each worker.
        sharers: workers on this machine, this one among them.
    """
    own = [*_of_limits()]
    if reserved_bytes is not None:
        own.append(reserved_bytes - psutil.Process().memory_info().rss)
    shared = [psutil.virtual_memory().available, *of_control_groups()]
    return MemoryLeft(min(own, default=None), min(shared), sharers)


def _of_limits() -> Iterator[int]:
    pages = [int(number) for number in Path("/proc/self/statm").read_text().split()]
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    # proc(5): the first is the size of all, the sixth data and stack
    for which, used in ((resource.RLIMIT_AS, pages[0]), (resource.RLIMIT_DATA, pages[5])):
        limit = resource.getrlimit(which)[0]
        if limit != resource.RLIM_INFINITY:
            yield limit - used * page_bytes


def of_control_groups(
    root: Path = CONTROL_GROUPS, membership: Path = Path("/proc/self/cgroup")
) -> Iterator[int]:
    """What each group with a limit has left that this process is in."""
    for line in membership.read_text().splitlines() if membership.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        version, top = ("1", root / "memory") if controllers else ("2", root)
        for directory in _with_parents(top, path):
            left = _left(directory, *FILES[version])
            if left is not None:
                yield left


def _with_parents(top: Path, path: str) -> Iterator[Path]:
    """The group's directory and those above it. In a container only the last may be there: its own
    group, mounted as the top.
    """
    directory = top / path.lstrip("/")
    yield directory
    yield from (parent for parent in directory.parents if parent.is_relative_to(top))


def _left(directory: Path, limit: str, used: str, cache: str) -> int | None:
    try:
        most = (directory / limit).read_text().strip()
        taken = int((directory / used).read_text())
        stat = (directory / "memory.stat").read_text().split()
    except (OSError, ValueError):
        return None
    if most == "max":
        return None
    named = dict(zip(stat[::2], stat[1::2], strict=False))
    return int(most) - taken + int(named.get(cache, 0))
