"""A process that dies before its n-th write, whatever it writes to.

``Died`` is a BaseException, so that no ``except Exception`` survives it, and once dead every later
write dies too: other threads and clean-up code don't outlive a real death either.
"""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.store.objects.location import Location

FS_WRITES = {"pipe_file", "rm_file", "merge", "rm", "cp_file", "mv"}
S3_WRITES = {
    "create_multipart_upload",
    "upload_part",
    "complete_multipart_upload",
    "abort_multipart_upload",
}
"""Calls of the service itself, which the client passes on."""
OS_WRITES = ("link", "replace", "rename", "unlink", "rmdir", "fsync")


class Died(BaseException):
    """The process is gone."""


class Death:
    """Counts writes and dies before number ``at`` (from 0); None never dies."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.writes, self.happened = at, 0, False
        self._lock = threading.Lock()

    def before_write(self) -> None:
        with self._lock:
            if self.at is not None and self.writes >= self.at:
                # fsspec's loop keeps a BaseException to itself and answers None: what counts is
                # that nothing is written any more
                self.happened = True
                raise Died(f"before write {self.writes}")
            self.writes += 1


class DyingFileSystem:
    """A file system whose writes may kill the process."""

    def __init__(self, fs: Any, death: Death) -> None:
        self._fs, self._death = fs, death

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._fs, name)
        if name == "_call_s3":
            return self._of_the_service(value)
        if name == "open":
            return self._opening(value)
        if name.removeprefix("_") not in FS_WRITES:
            return value
        if name.startswith("_"):

            async def write_async(*args: Any, **kwargs: Any) -> Any:
                self._death.before_write()
                return await value(*args, **kwargs)

            return write_async

        def write(*args: Any, **kwargs: Any) -> Any:
            self._death.before_write()
            return value(*args, **kwargs)

        return write

    def _opening(self, call: Any) -> Any:
        def opened(path: str, mode: str = "rb", **kwargs: Any) -> Any:
            if "w" in mode:
                self._death.before_write()
            return call(path, mode, **kwargs)

        return opened

    def _of_the_service(self, call: Any) -> Any:
        async def write(method: str, *args: Any, **kwargs: Any) -> Any:
            if method in S3_WRITES:
                self._death.before_write()
            return await call(method, *args, **kwargs)

        return write


def dying(location: Location, death: Death, monkeypatch: pytest.MonkeyPatch) -> Location:
    """The same place, for a process that may die. On local disks the operating system's calls are
    watched instead.
    """
    if not location.is_local:
        return replace(location, fs=DyingFileSystem(location.fs, death))
    for name in OS_WRITES:
        monkeypatch.setattr(os, name, _watched(getattr(os, name), death))
    return location


def _watched(call: Any, death: Death) -> Any:
    def write(*args: Any, **kwargs: Any) -> Any:
        death.before_write()
        return call(*args, **kwargs)

    return write
