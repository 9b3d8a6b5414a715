"""What has happened in this run, so that the next driver can go on from it?

Rule: the journal is a row of immutable parts, each created once, each a few lines of JSON. Only the lease holder writes, under its
attempt's number, so no two drivers write the same part; a driver that woke up late writes into its own attempt's row, where readers
that fold by attempt can tell. Events that others must be able to rely on are flushed at once; the rest wait for company.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from orchestrator.errors import OutputError
from orchestrator.redaction import redacted_data
from orchestrator.store.exclusive import create_once
from orchestrator.store.layout import CONTROL
from orchestrator.store.location import FileInfo, Location

BUFFERED_EVENTS = 64
"""Events that wait for company before they're written without being asked for."""
READERS = 16
_PART = re.compile(r"a(\d{4,})-(\d{6,})\.jsonl")
_HEADER = "journal-part"


class Journal:
    """The journal of one attempt, to be written. Methods may be called from any thread.

    Args:
        attempt: the lease's number; it goes into every event that doesn't name one.
    """

    def __init__(self, output: Location, attempt: int) -> None:
        self._directory = output.child(CONTROL, "journal")
        self._attempt = attempt
        self._writer = uuid.uuid4().hex
        self._part = 1
        self._waiting: list[str] = []
        self._sealed: bytes | None = None
        self._lock = threading.RLock()

    def append(self, event: Mapping[str, Any], *, durable: bool = False) -> None:
        """Adds an event.

        Args:
            event: flat JSON with the keys ``event`` and ``at`` (unix seconds, for people).
            durable: it's in the store when this returns; else when 64 have come together, or at the next ``flush``.

        Raises:
            OutputError, StorageUnavailable: not written yet; it stays in line for the next ``flush``.
        """
        line = json.dumps(redacted_data({"attempt": self._attempt, **event}), allow_nan=False, separators=(",", ":"))
        with self._lock:
            self._waiting.append(line)
            if durable or len(self._waiting) >= BUFFERED_EVENTS:
                self.flush()

    def flush(self) -> None:
        """Writes what waits. After a failure the same bytes are tried again, so a lost reply doubles nothing."""
        with self._lock:
            if self._sealed is not None:
                self._write()
            if self._waiting:
                header = json.dumps({"event": _HEADER, "writer": self._writer, "part": self._part})
                self._sealed, self._waiting = "\n".join([header, *self._waiting, ""]).encode(), []
                self._write()

    def _write(self) -> None:
        assert self._sealed is not None, "only a sealed part is written"
        create_once(self._directory.child(f"a{self._attempt:04d}-{self._part:06d}.jsonl"), self._sealed)
        self._sealed = None
        self._part += 1


def read_journal(output: Location) -> list[dict[str, Any]]:
    """All events of all attempts, in the order of attempts and of writing.

    Raises:
        OutputError: a part is damaged; names it.
        StorageUnavailable: the store doesn't answer.
    """
    return _read_parts(_parts(output))


def read_journal_tail(output: Location, events: int) -> list[dict[str, Any]]:
    """The last ``events`` events, reading only as many parts as that takes."""
    parts, found = _parts(output), list[dict[str, Any]]()
    while parts and len(found) < events:
        parts, last = parts[:-4], parts[-4:]
        found = _read_parts(last) + found
    return found[-events:] if events else []


def _parts(output: Location) -> list[FileInfo]:
    found = [(match, entry) for entry in output.child(CONTROL, "journal").list() if (match := _PART.fullmatch(entry.name))]
    return [entry for _, entry in sorted(found, key=lambda item: (int(item[0][1]), int(item[0][2])))]


def _read_parts(parts: Iterable[FileInfo]) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(READERS) as pool:
        texts = list(pool.map(lambda part: (part, part.location.read_bytes()), parts))
    return [event for part, text in texts for event in _events(part, text)]


def _events(part: FileInfo, text: bytes) -> list[dict[str, Any]]:
    try:
        events = [json.loads(line) for line in text.decode().splitlines()]
    except ValueError as error:
        raise OutputError(
            f"{part.location.shown} is damaged: {error}",
            remedy="Delete this one part to go on without its events; retry budgets then start afresh",
        ) from error
    return [event for event in events if isinstance(event, dict) and event.get("event") != _HEADER]
