"""An object store in memory, behind fsspec, whose requests take simulated time and may fail.

What it can do wrong: answer late, refuse (5xx), do what was asked and lose the reply, list what was
written a moment ago not yet, and ignore the condition of an exclusive create.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fsspec
from fsspec.spec import AbstractFileSystem

from tests.driver_simulation.schedule import UNIX_S, Schedule


@dataclass(frozen=True)
class StoreFaults:
    """Probabilities for each request, and seconds.

    Attributes:
        slow: that it takes ``slow_s``.
        refuses: that it fails before anything is done.
        loses_reply: that it fails after everything is done.
        lists_late_s: a listing may leave out what was written so recently.
        exclusive: whether an exclusive create is one.
    """

    latency_s: float = 0.02
    slow: float = 0.0
    slow_s: float = 4.0
    refuses: float = 0.0
    loses_reply: float = 0.0
    lists_late_s: float = 0.0
    exclusive: bool = True


class Objects(dict[str, tuple[bytes, float]]):
    """By path, what was written and when. Knows their order."""

    def __init__(self) -> None:
        self._names: list[str] | None = None

    def __setitem__(self, path: str, item: tuple[bytes, float]) -> None:
        if path not in self:
            self._names = None
        super().__setitem__(path, item)

    def __delitem__(self, path: str) -> None:
        self._names = None
        super().__delitem__(path)

    def beginning(self, prefix: str) -> list[str]:
        """The paths that begin so, in their order."""
        if self._names is None or len(self._names) != len(self):
            self._names = sorted(self)
        first = bisect_left(self._names, prefix)
        return self._names[first : bisect_left(self._names, f"{prefix}\U0010ffff", first)]


class Bucket:
    """The objects, for all who use the store. ``write`` and ``delete`` take no time."""

    def __init__(self, schedule: Schedule, faults: StoreFaults) -> None:
        self.schedule, self.faults = schedule, faults
        self.objects = Objects()
        self.down_until_s = 0.0
        self.requests = 0
        self.fired: set[str] = set()
        self.watch: Callable[[str, str, bytes], None] = lambda what, path, data: None

    def write(self, path: str, data: bytes) -> None:
        self.watch("write", path, data)
        self.objects[path] = (data, self.schedule.now_s)

    def delete(self, path: str) -> None:
        self.watch("delete", path, self.objects[path][0])
        del self.objects[path]

    def request(self, effect: Callable[[], Any]) -> Any:
        """One request of the present task; without a task (the world looks) it takes no time."""
        if self.schedule.task is None:
            return effect()
        self.requests += 1
        random, faults = self.schedule.random, self.faults
        total_s = faults.latency_s * (0.5 + random.random())
        if random.random() < faults.slow:
            self.fired.add("slow")
            total_s += faults.slow_s * random.random()
        self.schedule.sleep(total_s / 2)
        if self.schedule.now_s < self.down_until_s or random.random() < faults.refuses:
            self.fired.add("refuses")
            raise ConnectionResetError("503 Service Unavailable")
        answer = effect()
        self.schedule.sleep(total_s / 2)
        if random.random() < faults.loses_reply:
            self.fired.add("loses_reply")
            raise TimeoutError("the reply was lost")
        return answer

    def listed(self, path: str) -> bool:
        """Whether a listing shows an object by now."""
        age_s = self.schedule.now_s - self.objects[path][1]
        if self.schedule.task is None or age_s >= self.faults.lists_late_s:
            return True
        late = self.schedule.random.random() < 0.5
        if late:
            self.fired.add("lists_late_s")
        return not late


class SimFileSystem(AbstractFileSystem):
    """What fsspec's callers see of the present bucket."""

    # As one of those that create exclusively
    protocol = ("az", "sim")
    cachable = False
    bucket: Bucket

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        def effect() -> bytes:
            if path not in self.bucket.objects:
                raise FileNotFoundError(path)
            return self.bucket.objects[path][0][start:end]

        data: bytes = self.bucket.request(effect)
        return data

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        def effect() -> None:
            if mode == "create" and path in self.bucket.objects:
                if self.bucket.faults.exclusive:
                    raise FileExistsError(path)
                self.bucket.fired.add("exclusive")
            self.bucket.write(path, bytes(value))

        self.bucket.request(effect)

    def rm_file(self, path: str) -> None:
        def effect() -> None:
            if path not in self.bucket.objects:
                raise FileNotFoundError(path)
            self.bucket.delete(path)

        self.bucket.request(effect)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        def effect() -> dict[str, Any]:
            if path in self.bucket.objects:
                return self._entry(path)
            if self.bucket.objects.beginning(path + "/"):
                return {"name": path, "size": 0, "type": "directory"}
            raise FileNotFoundError(path)

        found: dict[str, Any] = self.bucket.request(effect)
        return found

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        def effect() -> list[Any]:
            before = path.rstrip("/") + "/"
            found: dict[str, dict[str, Any]] = {}
            for name in self.bucket.objects.beginning(before):
                if not self.bucket.listed(name):
                    continue
                head, slash, _ = name[len(before) :].partition("/")
                if not slash:
                    found[head] = self._entry(name)
                elif head not in found:
                    found[head] = {"name": before + head, "size": 0, "type": "directory"}
            if not found:
                raise FileNotFoundError(path)
            return list(found.values())

        return list(self.bucket.request(effect))

    def _entry(self, path: str) -> dict[str, Any]:
        data, written_s = self.bucket.objects[path]
        return {"name": path, "size": len(data), "type": "file", "mtime": UNIX_S + written_s}


fsspec.register_implementation("sim", SimFileSystem, clobber=True)
