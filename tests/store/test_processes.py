"""Is a process that has ended told from one that lives, from another of its number, and from those of
which nothing is known here?
"""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path

import pytest

from orchestrator.store.objects import processes
from orchestrator.store.objects.processes import is_gone, start_ticks, this_machine, this_user

FIELDS = "1 1 1 0 -1 4194560 3 0 0 0 1 2 0 0 20 0 1 0 4242 999 9"


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc of this test's own."""
    monkeypatch.setattr(processes, "Path", lambda path: tmp_path / path.lstrip("/"))
    return tmp_path / "proc"


def stat(proc: Path, content: bytes) -> None:
    (proc / "77").mkdir(parents=True)
    (proc / "77" / "stat").write_bytes(content)


@pytest.mark.parametrize(
    ("command", "state", "ticks"),
    [
        (b"python", "S", 4242),
        (b"a b", "R", 4242),
        (b"(x) Z 1", "S", 4242),
        (b") S 2 (", "Z", None),
        (b"\xff\xfe", "S", 4242),
        (b"python", "X", None),
    ],
)
def test_start_is_read_whatever_the_command_is_called(
    proc: Path, command: bytes, state: str, ticks: int | None
) -> None:
    stat(proc, b"77 (%s) %s" % (command, f"{state} {FIELDS}".encode()))
    assert start_ticks(77) == ticks
    assert start_ticks(78) is None


def test_start_of_this_process_stays_what_it_is() -> None:
    assert start_ticks(os.getpid()) == start_ticks(os.getpid()) is not None


def test_machine_is_this_boot_of_this_container(proc: Path) -> None:
    (proc / "sys/kernel/random").mkdir(parents=True)
    (proc / "sys/kernel/random/boot_id").write_text("boot\n")
    namespace = os.readlink("/proc/self/ns/pid")
    assert this_machine() == f"{socket.gethostname()}/boot/{namespace}"


def test_machine_that_cannot_be_told_is_none_of_those_that_are_known(proc: Path) -> None:
    assert this_machine() == ""
    assert not is_gone("", 78, 4242)


@pytest.mark.parametrize(
    ("machine", "pid", "ticks", "gone"),
    [
        ("here", 77, 4242, False),
        ("here", 77, 4243, True),  # another process has its number now
        ("here", 78, 4242, True),
        ("here", 78, 0, False),  # it couldn't tell its own start
        ("elsewhere", 78, 4242, False),
        ("", 78, 4242, False),
        ("", 78, 0, False),
    ],
)
def test_process_is_gone_only_where_that_is_known(
    proc: Path, monkeypatch: pytest.MonkeyPatch, machine: str, pid: int, ticks: int, gone: bool
) -> None:
    stat(proc, f"77 (python) S {FIELDS}".encode())
    monkeypatch.setattr(processes, "this_machine", lambda: "here")
    assert is_gone(machine, pid, ticks) is gone


@pytest.mark.parametrize("error", [OSError, KeyError])
def test_user_without_a_name_is_unknown(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    assert this_user() == getpass.getuser()

    def nameless() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", nameless)
    assert this_user() == "unknown"
