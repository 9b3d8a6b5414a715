"""What has happened in this run, so that the next driver can go on from it?

Rule: the journal is a row of immutable parts, each created once, each a few lines of JSON. Only the
lease holder writes, under its attempt's number, so no two drivers write the same part; a driver
that woke up late writes into its own attempt's row, where readers that fold by attempt can tell.
Events that others must be able to rely on are flushed at once; the rest wait for company. When
MERGE parts have come together their writer puts them into one and deletes them, and as many of those
into one again, so that a month's journal is some hundred objects; a part that a merged one covers is
ignored, whether it's deleted already or not. Who needs only what the journal says, not its events,
reads its end alone (``snapshots``); what can be read of a damaged part stands in ``journal_parts``.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import google_crc32c

from orchestrator.errors import OrchestratorError
from orchestrator.redaction import redacted_data
from orchestrator.store.objects.exclusive import create_once
from orchestrator.store.objects.layout import CONTROL
from orchestrator.store.objects.location import FileInfo, Location
from orchestrator.store.run.journal_parts import (
    HEADER,
    READERS,
    DamagedPart,
    Tell,
    looked_again,
    parts_in,
    read_parts,
    refuse,
    uncovered,
)

log = logging.getLogger("tfresume")

BUFFERED_EVENTS = 64
"""Events that wait for company before they're written without being asked for. A heartbeat asks
anyhow, every few seconds; this bounds what a storm of events between two of them can lose.
"""
MERGE = 64
"""Parts that are put into one, and merged ones that are put into one again. A month's progress alone
is half a million parts: a reader asks for some hundred objects then, and each line was written three
times.
"""
LARGEST_BYTES = 32 * 2**20
"""Merged parts that are larger together than this stay apart: they're read whole, and are few for
what they hold.
"""
_IN_A_LINE = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


class _Block(NamedTuple):
    """A merged part as it was written."""

    first: int
    last: int
    size_bytes: int
    crc32c: int


class Journal:
    """The journal of one attempt, to be written. Methods may be called from any thread.

    Args:
        attempt: the lease's number; it goes into every event that doesn't name one.
        merged: called when parts were put into one and are still there themselves, so that at no
            moment a reader finds neither them nor what takes their place.
    """

    def __init__(
        self, output: Location, attempt: int, merged: Callable[[], None] = lambda: None
    ) -> None:
        self._directory = output.child(CONTROL, "journal")
        self._attempt, self._merged = attempt, merged
        self._writer = uuid.uuid4().hex
        self._part = 1
        self._waiting: list[str] = []
        self._sealed: list[str] | None = None
        self._unmerged: list[list[str]] = []
        self._blocks: list[_Block] = []
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
        line = _IN_A_LINE.encode(_plain(redacted_data({"attempt": self._attempt, **event})))
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
                    if len(self._blocks) >= MERGE:
                        self._merge_blocks()
                except OrchestratorError as error:
                    # The events are safe where they are; the next flush tries again
                    log.warning("the journal's parts stay apart for now: %s", error)

    def _write(self, lines: list[str]) -> None:
        create_once(self._directory.child(self._name(self._part)), self._text(lines))
        self._sealed = None
        self._unmerged.append(lines)
        self._part += 1

    def _text(self, lines: Sequence[str]) -> bytes:
        header = json.dumps({"event": HEADER, "writer": self._writer, "events": len(lines)})
        return "\n".join([header, *lines, ""]).encode()

    def _merge(self) -> None:
        first, last = self._part - len(self._unmerged), self._part - 1
        text = self._text([line for lines in self._unmerged for line in lines])
        create_once(self._directory.child(self._name(first, last)), text)
        self._unmerged = []
        self._blocks.append(_Block(first, last, len(text), google_crc32c.value(text)))
        self._merged()
        self._delete(self._name(part) for part in range(first, last + 1))

    def _merge_blocks(self) -> None:
        """Put merged parts into one; they're read again, so that nothing of a day is kept in
        memory. Where one of them was damaged meanwhile they stay apart: what is left of a file is
        for people to mend.
        """
        blocks = self._blocks
        if sum(block.size_bytes for block in blocks) <= LARGEST_BYTES:
            names = [self._name(block.first, block.last) for block in blocks]
            with ThreadPoolExecutor(READERS) as pool:
                texts = list(pool.map(lambda name: self._directory.child(name).read_bytes(), names))
            if [google_crc32c.value(text) for text in texts] == [block.crc32c for block in blocks]:
                lines = [line for text in texts for line in text.decode().split("\n")[1:-1]]
                whole = self._name(blocks[0].first, blocks[-1].last)
                create_once(self._directory.child(whole), self._text(lines))
                self._delete(names)
        self._blocks = []

    def _delete(self, names: Iterable[str]) -> None:
        with ThreadPoolExecutor(READERS) as pool:
            list(pool.map(lambda name: self._directory.child(name).delete(), names))

    def _name(self, first: int, last: int | None = None) -> str:
        to = "" if last is None else f"-{last:06d}"
        return f"a{self._attempt:04d}-{first:06d}{to}.jsonl"


def _plain(data: Any) -> Any:
    if data is None or isinstance(data, (str, int)):
        return data  # most are; whether something is a Mapping takes ten times as long to ask
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(value) for value in data]
    if hasattr(data, "item"):  # NumPy's scalars
        data = data.item()
    if isinstance(data, float) and not math.isfinite(data):
        return str(data)
    return data if isinstance(data, str | int | float | bool) or data is None else str(data)


def read_journal(output: Location, tell: Tell = refuse) -> list[dict[str, Any]]:
    """All events of all attempts, in the order of attempts and of writing.

    Args:
        tell: hears of each part of which something can't be read; the rest is given. By default
            that is an error.

    Raises:
        OutputError: a part is damaged; names it.
        StorageUnavailable: the store doesn't answer.
    """
    return _read(output, None, tell)


def read_journal_tail(output: Location, events: int, tell: Tell = refuse) -> list[dict[str, Any]]:
    """The last ``events`` events, reading only as many parts as that takes. Raises what
    ``read_journal`` does.
    """
    return _read(output, events, tell)[-events:] if events else []


def _read(output: Location, enough: int | None, tell: Tell) -> list[dict[str, Any]]:
    damaged: list[DamagedPart] = []

    def look() -> list[dict[str, Any]]:
        damaged.clear()
        return _read_once(_parts(output), enough, damaged.append)

    found = looked_again(look)
    for part in damaged:
        tell(part)
    return found


def _read_once(parts: list[FileInfo], enough: int | None, tell: Tell) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while parts and (enough is None or len(found) < enough):
        # From the end on, a few at a time: most parts hold many events, the newest often one
        step = len(parts) if enough is None else 4
        parts, last = parts[:-step], parts[-step:]
        found = [event for events in read_parts(last, tell) for event in events] + found
    return found


def _parts(output: Location) -> list[FileInfo]:
    """The parts to read, oldest first: merged ones, and single ones that none of them covers."""
    listed = output.child(CONTROL, "journal").list()
    return [part.entry for part in uncovered(parts_in(listed))]
