"""Where on this node's disk do weights and batches lie that no other user may read or plant?

Rule: in directories below TMPDIR that carry the user's number, belong to that user, are no symbolic
links and are open to nobody else. TMPDIR is usually shared: whoever made a directory of that name
first can't keep us out (the next name is taken) and is never believed. Scratch directories are
locked by their process; what a killed one left is swept by the next that needs one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from orchestrator.errors import OutputError

NAMES = 16
"""Names to try for one directory: so many that somebody has to mean it."""
_LOCK = ".lock"


def private_directory(name: str) -> Path:
    """This user's own directory ``NAME-UID`` below TMPDIR, made where it isn't there; the same for
    all processes of the user.

    Raises:
        OutputError: TMPDIR can't be written, or every name is taken by what isn't ours alone.
    """
    parent = Path(tempfile.gettempdir())
    for number in range(NAMES):
        path = parent / f"{name}-{os.geteuid()}{f'.{number}' if number else ''}"
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            pass  # whoever made it; looked at next
        except OSError as error:
            raise OutputError.from_cause(
                f"{path} can't be made", error, remedy="Point TMPDIR at a directory to write to"
            ) from error
        if _is_ours_alone(path):
            return path
    raise OutputError(
        f"{parent} holds {NAMES} entries named {name}-{os.geteuid()} that aren't this user's alone",
        remedy="Find out who made them, or point TMPDIR at a directory of your own",
    )


def _is_ours_alone(path: Path) -> bool:
    found = path.lstat()
    return (
        stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    )


@contextlib.contextmanager
def scratch(purpose: str) -> Iterator[Path]:
    """A directory for this process's use, deleted at the end; after a kill by the next process that
    wants one.

    Raises:
        OutputError: as ``private_directory``.
    """
    room = private_directory("tfresume-scratch")
    with _exclusively(room):
        _sweep(room)
        path = room / f"{purpose}-{uuid.uuid4().hex}"
        lock = _opened(path.with_suffix(_LOCK))
        fcntl.flock(lock, fcntl.LOCK_EX)
        path.mkdir(mode=0o700)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        path.with_suffix(_LOCK).unlink(missing_ok=True)
        os.close(lock)


@contextlib.contextmanager
def _exclusively(room: Path) -> Iterator[None]:
    """Nobody sweeps between the making of a lock file and its locking."""
    descriptor = _opened(room / _LOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sweep(room: Path) -> None:
    """Deletes what processes left that are gone: the system let go of their locks."""
    for lock in room.glob(f"?*{_LOCK}"):
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue  # its owner has just ended
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
