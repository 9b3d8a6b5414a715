"""What has happened in this run, so that the next driver can go on from it?

Rule: the journal is a row of immutable parts, each created once, each a few lines of JSON. Only the
lease holder writes, under its attempt's number, so no two drivers write the same part; a driver
that woke up late writes into its own attempt's row, where readers that fold by attempt can tell.
Events that others must be able to rely on are flushed at once; the rest wait for company. When
MERGE parts have come together their writer puts them into one and deletes them, so that a month's
journal is still read in a moment; a part that a merged one covers is ignored, whether it's deleted
already or not.
"""

from __future__ import annotations

import json
import logging
import math
import re
import threading
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from orchestrator.errors import OrchestratorError, OutputError, SourceError
from orchestrator.redaction import redacted_data
from orchestrator.store.objects.exclusive import create_once
from orchestrator.store.objects.layout import CONTROL
from orchestrator.store.objects.location import FileInfo, Location

log = logging.getLogger("tfresume")

BUFFERED_EVENTS = 64
"""Events that wait for company before they're written without being asked for. A heartbeat asks
anyhow, every few seconds; this bounds what a storm of events between two of them can lose.
"""
MERGE = 64
"""Parts that are put into one. A day's progress alone is some thousands of parts: a reader asks for
dozens of objects then, and each line was written twice.
"""
READERS = 16
"""Parts read side by side: most of the time is the store's answering time."""
LOOKS = 5
"""Times that a reader lists anew when a part was merged away under its hands: a merge between each
of five listings and its reading isn't chance.
"""
_PART = re.compile(r"a(\d{4,})-(\d{6,})(?:-(\d{6,}))?\.jsonl")
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
        self._sealed: list[str] | None = None
        self._unmerged: list[list[str]] = []
        self._lock = threading.RLock()

    def append(self, event: Mapping[str, Any], *, durable: bool = False) -> None:
        """Adds an event.

        Args:
            event: flat JSON with the keys ``event`` and ``at`` (unix seconds, for people). NaN and
                infinity become text.
            durable: it's in the store when this returns; else when 64 have come together, or at the
                next ``flush``.

        Raises:
            OutputError, StorageUnavailable: not written yet; it stays in line for the next
                ``flush``.
        """
        line = json.dumps(
            _plain(redacted_data({"attempt": self._attempt, **event})),
            allow_nan=False,
            separators=(",", ":"),
        )
        with self._lock:
            self._waiting.append(line)
            if durable or len(self._waiting) >= BUFFERED_EVENTS:
                self.flush()

    def flush(self) -> None:
        """Writes what waits. After a failure the same bytes are tried again, so a lost reply
        doubles nothing.
        """
        with self._lock:
            if self._sealed is not None:
                self._write(self._sealed)
            if self._waiting:
                self._sealed, self._waiting = self._waiting, []
                self._write(self._sealed)
            if len(self._unmerged) >= MERGE:
                try:
                    self._merge()
                except OrchestratorError as error:
                    # The events are safe where they are; the next flush tries again
                    log.warning("the journal's parts stay apart for now: %s", error)

    def _write(self, lines: list[str]) -> None:
        create_once(
            self._directory.child(f"a{self._attempt:04d}-{self._part:06d}.jsonl"), self._text(lines)
        )
        self._sealed = None
        self._unmerged.append(lines)
        self._part += 1

    def _text(self, lines: Iterable[str]) -> bytes:
        header = json.dumps({"event": _HEADER, "writer": self._writer})
        return "\n".join([header, *lines, ""]).encode()

    def _merge(self) -> None:
        first = self._part - len(self._unmerged)
        name = f"a{self._attempt:04d}-{first:06d}-{self._part - 1:06d}.jsonl"
        create_once(
            self._directory.child(name),
            self._text(line for lines in self._unmerged for line in lines),
        )
        self._unmerged = []
        with ThreadPoolExecutor(READERS) as pool:
            numbers = range(first, self._part)
            list(
                pool.map(
                    lambda part: self._directory.child(
                        f"a{self._attempt:04d}-{part:06d}.jsonl"
                    ).delete(),
                    numbers,
                )
            )


def _plain(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(value) for value in data]
    if hasattr(data, "item") and not isinstance(data, str | bytes):  # NumPy's scalars
        data = data.item()
    if isinstance(data, float) and not math.isfinite(data):
        return str(data)
    return data if isinstance(data, str | int | float | bool) or data is None else str(data)


def read_journal(output: Location) -> list[dict[str, Any]]:
    """All events of all attempts, in the order of attempts and of writing.

    Raises:
        OutputError: a part is damaged; names it.
        StorageUnavailable: the store doesn't answer.
    """
    return _read(output, None)


def read_journal_tail(output: Location, events: int) -> list[dict[str, Any]]:
    """The last ``events`` events, reading only as many parts as that takes."""
    return _read(output, events)[-events:] if events else []


def _read(output: Location, enough: int | None) -> list[dict[str, Any]]:
    for look in range(LOOKS):
        try:
            return _read_once(_parts(output), enough)
        except SourceError as error:
            if not error.details.get("missing") or look == LOOKS - 1:
                raise
    raise AssertionError("unreachable: the last look returns or raises")


def _read_once(parts: list[FileInfo], enough: int | None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while parts and (enough is None or len(found) < enough):
        # From the end on, a few at a time: most parts hold many events, the newest often one
        step = len(parts) if enough is None else 4
        parts, last = parts[:-step], parts[-step:]
        with ThreadPoolExecutor(READERS) as pool:
            texts = list(pool.map(lambda part: (part, part.location.read_bytes()), last))
        found = [event for part, text in texts for event in _events(part, text)] + found
    return found


def _parts(output: Location) -> list[FileInfo]:
    """The parts to read, oldest first: merged ones, and single ones that none of them covers."""
    spans: list[tuple[int, int, int, FileInfo]] = []
    for entry in output.child(CONTROL, "journal").list():
        match = _PART.fullmatch(entry.name)
        if match is not None:
            first = int(match[2])
            spans.append((int(match[1]), first, int(match[3] or first), entry))
    # The longest of those that begin at the same number comes first: it's the merged one, and its
    # parts may not have been deleted yet
    covered: dict[int, int] = {}
    kept = []
    for attempt, _, last, entry in sorted(spans, key=lambda span: (span[0], span[1], -span[2])):
        if last > covered.get(attempt, 0):
            covered[attempt] = last
            kept.append(entry)
    return kept


def _events(part: FileInfo, text: bytes) -> list[dict[str, Any]]:
    try:
        events = [json.loads(line) for line in text.decode().splitlines()]
    except ValueError as error:
        raise OutputError(
            f"{part.location.shown} is damaged: {error}",
            remedy="Delete this one part to go on without its events; retry budgets then start afresh",
        ) from error
    return [event for event in events if isinstance(event, dict) and event.get("event") != _HEADER]
