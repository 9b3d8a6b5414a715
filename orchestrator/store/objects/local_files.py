"""How does a whole file appear on a local disk, or not at all?

Rule: bytes go to a temporary name in the same directory, are flushed to the disk, and get their
real name in one step: by ``rename`` where replacing is wanted, by ``link`` where the name may be
taken only once. A crash leaves a temporary file, never half a real one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

TEMPORARY_PREFIX = ".tfresume-"
TEMPORARY_SUFFIX = ".tmp"
DEVICES = Path("/dev")
_SPECIAL = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def is_temporary(name: str) -> bool:
    """Whether ``name`` is one of this module's temporary files."""
    return name.startswith(TEMPORARY_PREFIX) and name.endswith(TEMPORARY_SUFFIX)


def refuse_special(path: Path) -> None:
    """Raises OSError where ``path`` is a pipe, a socket or a device: reading it waits for a writer,
    or never ends.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        kind = next((word for is_it, word in _SPECIAL if is_it(mode)), "something special")
        raise OSError(
            errno.EINVAL, f"it's {kind}, not a file: write what comes out of it into a file first"
        )


def make_directory(path: Path) -> None:
    """Makes a directory and those above it.

    Raises:
        NotADirectoryError: a file stands in its way. ``mkdir`` says FileExistsError, which here
            means that another writer was first.
        OSError: anything else.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(
            errno.ENOTDIR, "a file stands where a directory is needed", str(path)
        ) from error


def write_atomically(path: Path, data: bytes) -> None:
    """``path`` holds ``data`` afterwards, or what it held before. Creates directories. Raises
    OSError.

    A device or a pipe takes the bytes itself: a file in its place would take ``/dev/stdout`` or
    ``/dev/null`` from everyone on the machine, where it's root who asks.
    """
    if _takes_bytes_itself(path):
        with open(path, "wb") as target:
            target.write(data)
        return
    with _written_beside(path, data) as temporary:
        os.replace(temporary, path)
    flush_directory(path.parent)


def _takes_bytes_itself(path: Path) -> bool:
    if path.parent == DEVICES:
        return path.exists()  # what /dev/stdout leads to may be a regular file
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return any(is_it(mode) for is_it, _ in _SPECIAL)


def create_exclusively(path: Path, data: bytes) -> None:
    """Creates ``path`` with ``data``, whole. Creates directories.

    Raises:
        FileExistsError: the name is taken; nothing was changed.
        OSError: anything else.
    """
    with _written_beside(path, data) as temporary:
        try:
            os.link(temporary, path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            _create_in_place(path, data)
    flush_directory(path.parent)


def _create_in_place(path: Path, data: bytes) -> None:
    # File systems without hard links (some FUSE mounts): exclusive, but a crash can leave a part,
    # which no reader takes for the whole since everything that is created once is JSON with a
    # closing brace.
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """A free temporary name in the directory of ``path``; what's there at the end is deleted."""
    temporary = path.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}{TEMPORARY_SUFFIX}"
    try:
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


@contextlib.contextmanager
def _written_beside(path: Path, data: bytes) -> Iterator[Path]:
    make_directory(path.parent)
    with temporary_beside(path) as temporary:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary


def flush_directory(directory: Path) -> None:
    """Makes the new name itself survive a power failure; some network file systems refuse, and then
    it's theirs to keep.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.EBADF}:
            raise
    finally:
        os.close(descriptor)
