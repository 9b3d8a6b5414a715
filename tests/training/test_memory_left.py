"""Is what a process may still take the least of what its limits, its groups and its machine leave?"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from orchestrator.training.engine.memory_left import memory_left, of_control_groups

MIB = 1 << 20


def group(directory: Path, version: int, limit: str, used: int, cache: int = 0) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    of = ("memory.max", "memory.current", "inactive_file")
    if version == 1:
        of = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    (directory / of[0]).write_text(f"{limit}\n")
    (directory / of[1]).write_text(f"{used}\n")
    (directory / "memory.stat").write_text(f"cache 7\n{of[2]} {cache}\n")


def member(tmp_path: Path, *lines: str) -> Path:
    file = tmp_path / "membership"
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def test_group_of_version_two_and_all_above_it_are_asked(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    group(root, 2, "max", 0)
    group(root / "pods", 2, str(900 * MIB), 500 * MIB, cache=100 * MIB)
    group(root / "pods" / "worker", 2, str(700 * MIB), 300 * MIB)
    of = member(tmp_path, "0::/pods/worker")

    assert sorted(of_control_groups(root, of)) == [400 * MIB, 500 * MIB]


def test_group_of_version_one_is_asked_for_memory_alone(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    group(root / "memory" / "here", 1, str(700 * MIB), 600 * MIB, cache=50 * MIB)
    group(root / "cpu" / "here", 1, str(1), 0)
    of = member(tmp_path, "4:memory:/here", "3:cpu,cpuacct:/here", "0::/")

    assert list(of_control_groups(root, of)) == [150 * MIB]


def test_group_that_a_container_shows_as_its_top_is_found(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    group(root, 2, str(700 * MIB), 300 * MIB)
    of = member(tmp_path, "0::/not/visible/here")

    assert list(of_control_groups(root, of)) == [400 * MIB]
    assert list(of_control_groups(root, tmp_path / "nowhere")) == []


def test_what_a_run_reserves_is_what_a_worker_keeps_within() -> None:
    rss = psutil.Process().memory_info().rss
    found = memory_left(rss + 10 * MIB, 3)

    assert found.own_bytes is not None
    assert abs(found.own_bytes - 10 * MIB) < 5 * MIB
    assert found.sharers == 3
    assert memory_left(None, 1).own_bytes is None or resource.getrlimit(resource.RLIMIT_DATA)[0] > 0


LIMITED = """
import re, resource, sys
from orchestrator.training.engine.memory_left import memory_left
data, = re.findall(r"VmData:\\s+(\\d+) kB", open("/proc/self/status").read())
limit = int(data) * 1024 + (200 << 20)
resource.setrlimit(getattr(resource, sys.argv[1]), (limit, limit))
before = memory_left(None, 1).own_bytes
kept = bytearray(50 << 20)
print(before, memory_left(None, 1).own_bytes)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="proc(5)")
def test_limit_of_a_process_counts_what_it_has_taken_of_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "RLIMIT_DATA"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    before, after = map(int, done.stdout.split())

    assert 190 * MIB < before <= 200 * MIB
    assert 49 * MIB < before - after < 60 * MIB
