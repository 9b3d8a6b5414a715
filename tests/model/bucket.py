"""An object store in memory whose every request waits until a trace of the model comes to it.

What the model tells of as one request may be several here: what comes after the first of them, and
isn't told of, is done at once.
"""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import fsspec

from tests.driver_simulation.store import Bucket, SimFileSystem, StoreFaults
from tests.fakes.dying import Died

PATH = "out"
LEASE = re.compile(r"/_tfresume/lease/(\d+)\.(json|heartbeat|released)$")
RECORD = re.compile(r"/_tfresume/lineage/a(\d+)-g0001\.json$")
MANIFEST = re.compile(r"^out/a(\d+)-g0001/m-(\d+)\.manifest\.json$")
NOTE = re.compile(r"/_tfresume/deleting/a(\d+)-g0001\.m-(\d+)\.json$")


class Player(threading.Thread):
    """One life of a driver, in a thread that goes on only when it's told to."""

    def __init__(self, number: int, live: Callable[[Player], None]) -> None:
        super().__init__(daemon=True, name=f"driver {number}")
        self.number, self._live = number, live
        self.mine = 0
        self.dead = False
        self.stands_at: tuple[Any, ...] | None = None
        """What it's about to do, or has to say; None once it has ended."""
        self.error: BaseException | None = None
        self._checked = False
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)

    def run(self) -> None:
        self._go.acquire()
        try:
            self._live(self)
        except Died:
            pass
        except BaseException as error:  # noqa: BLE001 - told to whoever plays the trace
            self.error = error
        self.stands_at = None
        self._stopped.release()

    # -- for whoever plays the trace

    def go_on(self) -> None:
        """Until it stands at something that the model tells of, or has ended."""
        self._go.release()
        self._stopped.acquire()
        if self.error is not None:
            raise self.error

    def die(self) -> None:
        self.dead = True
        if self.is_alive():
            self.go_on()
            self.join()

    # -- for the life itself

    def says(self, *word: Any) -> None:
        """Something that the model tells of and that is no request."""
        self.stands_at = word
        self._stopped.release()
        self._go.acquire()
        if self.dead:
            raise Died("the trace says so")

    def asks(self, method: str, path: str) -> None:
        """It's about to send a request."""
        told = self._told(method, path)
        if told:
            self.says(*told)

    def _told(self, method: str, path: str) -> tuple[Any, ...]:
        if method == "list":
            names = {f"{PATH}/_tfresume/lease": "observe", f"{PATH}/_tfresume/lineage": "lineage"}
            names[PATH] = "scan"
            return (names[path],) if path in names else ()
        if found := LEASE.search(path):
            return self._of_lease(method, int(found[1]), found[2])
        if method == "create" and (found := RECORD.search(path)):
            return "takeover", int(found[1])
        if method == "create" and (found := MANIFEST.search(path)):
            return "manifest", int(found[1]), int(found[2])
        if method == "create" and (found := NOTE.search(path)):
            return "delete", int(found[1]), int(found[2])
        # The text is compared with what is there, and written in the same moment of the model
        return ("point",) if path == f"{PATH}/checkpoint" and method == "read" else ()

    def _of_lease(self, method: str, number: int, kind: str) -> tuple[Any, ...]:
        if kind == "heartbeat":
            return ("beat", number) if method == "write" else ()
        if kind == "released":
            return ("release", number) if method == "create" else ()
        if method == "create":
            return "lease", number
        if not self.mine:
            return ()
        # A look for others reads the next lease, then one's own; giving up reads one's own alone
        first, self._checked = not self._checked, number == self.mine + 1
        if number == self.mine + 1:
            return ("check",)
        return ("rival",) if first else ()


class TracedBucket(Bucket):
    """``listed_names`` of None lists everything."""

    def __init__(self, exclusive: bool, late: bool) -> None:
        schedule: Any = SimpleNamespace(now_s=0.0, task=None, random=random.Random(0))
        super().__init__(schedule, StoreFaults(exclusive=exclusive))
        self.late = late
        self.shown: set[str] = set()
        self.asked: tuple[str, str] = ("", "")

    def request(self, effect: Callable[[], Any]) -> Any:
        player = threading.current_thread()
        if isinstance(player, Player):
            player.asks(*self.asked)
        return effect()

    def listed(self, path: str) -> bool:
        in_model = path.endswith(".json") and (
            LEASE.search(path) or RECORD.search(path) or MANIFEST.search(path)
        )
        return not self.late or not in_model or path in self.shown


class TracedFileSystem(SimFileSystem):
    """Tells the bucket what each request is about."""

    protocol = ("az", "model")
    bucket: Any

    def cat_file(self, path: str, *arguments: Any, **others: Any) -> bytes:
        self.bucket.asked = ("read", path)
        return super().cat_file(path, *arguments, **others)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **others: Any) -> None:
        self.bucket.asked = ("create" if mode == "create" else "write", path)
        super().pipe_file(path, value, mode, **others)
        player = threading.current_thread()
        if isinstance(player, Player) and mode == "create" and (found := LEASE.search(path)):
            player.mine = int(found[1])

    def rm_file(self, path: str) -> None:
        self.bucket.asked = ("delete", path)
        super().rm_file(path)

    def info(self, path: str, **others: Any) -> dict[str, Any]:
        self.bucket.asked = ("info", path)
        return super().info(path, **others)

    def ls(self, path: str, detail: bool = True, **others: Any) -> list[Any]:
        self.bucket.asked = ("list", path)
        return super().ls(path, detail, **others)


fsspec.register_implementation("model", TracedFileSystem, clobber=True)
