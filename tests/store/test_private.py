"""Directories below a shared TMPDIR: whose are they, who can look in, and what stays behind?"""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import OutputError
from orchestrator.store.objects import private
from orchestrator.store.objects.private import NAMES, private_directory, scratch

HELD = "import sys; from orchestrator.store.objects.private import scratch\n"
HELD += "with scratch('save') as room: (room / 'weights').write_bytes(b'1' * 1000); print(room, flush=True); sys.stdin.read()"


@pytest.fixture(autouse=True)
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A TMPDIR of this test's own."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_private_directory_is_the_same_each_time_and_closed_to_others(shared: Path) -> None:
    before = os.umask(0)
    try:
        path = private_directory("tfresume-cache")
    finally:
        os.umask(before)
    assert path == private_directory("tfresume-cache") == shared / f"tfresume-cache-{os.geteuid()}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_private_directory_that_is_a_symbolic_link_is_not_followed(shared: Path) -> None:
    elsewhere = shared / "elsewhere"
    elsewhere.mkdir(0o700)
    planted = shared / f"tfresume-cache-{os.geteuid()}"
    planted.symlink_to(elsewhere)
    path = private_directory("tfresume-cache")
    assert path != planted
    assert path.resolve() != elsewhere.resolve()
    assert private_directory("tfresume-cache") == path


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o755, 0o701])
def test_private_directory_that_others_can_enter_is_not_used(shared: Path, mode: int) -> None:
    planted = shared / f"tfresume-cache-{os.geteuid()}"
    planted.mkdir()
    planted.chmod(mode)
    assert private_directory("tfresume-cache") == shared / f"{planted.name}.1"


def test_private_directory_of_another_user_is_not_used(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = shared / "tfresume-cache-54321"
    planted.mkdir(0o700)  # ours, where 54321 asks
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(OutputError, match=r"tfresume-cache-54321 that aren't this user's alone"):
        # what this process makes isn't 54321's either, so no name is left
        private_directory("tfresume-cache")
    assert planted.lstat().st_uid != 54321


def test_private_directory_kept_from_us_by_files_everywhere_is_refused(shared: Path) -> None:
    name = f"tfresume-cache-{os.geteuid()}"
    for number in range(NAMES):
        (shared / (f"{name}.{number}" if number else name)).touch()
    with pytest.raises(OutputError) as told:
        private_directory("tfresume-cache")
    assert told.value.message == (
        f"{shared} holds {NAMES} entries named {name} that aren't this user's alone"
    )
    assert told.value.remedy.startswith("Find out who made them, or point TMPDIR at")
    (shared / f"{name}.{NAMES - 1}").unlink()
    assert private_directory("tfresume-cache") == shared / f"{name}.{NAMES - 1}"


def test_private_directory_that_cannot_be_made_is_told_with_what_to_do(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(shared / "nothing"))
    with pytest.raises(OutputError, match=f"{shared}/nothing/cache-.* can't be made: .*") as told:
        private_directory("cache")
    assert "No such file or directory" in told.value.message
    assert told.value.remedy == "Point TMPDIR at a directory to write to"
    assert isinstance(told.value.__cause__, FileNotFoundError)


def test_scratch_is_gone_afterwards_and_parallel_ones_leave_each_other_alone(shared: Path) -> None:
    with scratch("save") as first:
        (first / "weights").touch()
        with scratch("infer") as second:
            assert (first / "weights").exists()
        assert not second.exists()
        assert (first / "weights").exists()
    assert [path.name for path in private_directory("tfresume-scratch").iterdir()] == [".lock"]


def test_scratch_of_a_killed_process_is_swept_by_the_next(shared: Path) -> None:
    command = [sys.executable, "-c", HELD]
    child = subprocess.Popen(
        command,
        env={**os.environ, "TMPDIR": str(shared)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        left = Path(child.stdout.readline().strip()) / "weights"
        with scratch("save"):
            assert left.exists()  # its process lives
        child.kill()
        child.wait(10)
    assert left.exists()
    with scratch("save"):
        assert not left.parent.exists()


def left_behind(room: Path, count: int) -> list[Path]:
    """What killed processes leave; one of them was killed before it had made its directory."""
    locks = [room / f"save-{number}.lock" for number in range(count)]
    for number, lock in enumerate(locks):
        lock.touch()
        if number:
            lock.with_suffix("").mkdir()
            (lock.with_suffix("") / "weights").touch()
    return locks


@pytest.mark.parametrize("first", ["is held", "has gone", "goes now"])
def test_all_that_is_left_behind_is_swept_whatever_the_first_one_does(
    shared: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """The owner of the first may live, or end while it's looked at."""
    room = private_directory("tfresume-scratch")
    locks = left_behind(room, 5)
    met: list[str] = []
    real_open, real_flock = os.open, fcntl.flock

    def opened(path: Any, *given: Any, **named: Any) -> int:
        if str(path).endswith(".lock"):
            met.append(str(path))
            if first == "has gone" and len(met) == 2:  # the room's own lock is the first one
                raise FileNotFoundError(path)
        return real_open(path, *given, **named)

    def locked(descriptor: int, how: int) -> None:
        if how & fcntl.LOCK_NB and len(met) == 2:
            if first == "is held":
                raise BlockingIOError
            Path(met[-1]).unlink()
        real_flock(descriptor, how)

    monkeypatch.setattr(private.os, "open", opened)  # type: ignore[attr-defined]
    monkeypatch.setattr(private.fcntl, "flock", locked)  # type: ignore[attr-defined]
    with scratch("save") as mine:
        stay = [Path(met[1])] if first in ("is held", "has gone") else []
        assert {path for path in locks if path.exists()} == {*stay}
        gone = {lock.with_suffix("") for lock in locks} - {lock.with_suffix("") for lock in stay}
        assert not [path for path in gone if path.exists()]
        assert mine.is_dir()


def test_locks_of_scratch_are_this_users_alone(shared: Path) -> None:
    before = os.umask(0)
    try:
        with scratch("save") as path:
            for lock in (path.with_suffix(".lock"), path.parent / ".lock"):
                assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    finally:
        os.umask(before)
