"""Which parts has a journal, and what can be read of each?

Rule: a part that is damaged hides nothing but what is damaged: the lines that can be read count, the
other parts too, and whoever reads is told which part it is and what is wrong with it. Damage is what
another try can't mend: bytes that aren't JSON, a file that is cut off or empty, an object that the
store doesn't give although it gives others. A part that is gone was merged away meanwhile, so that
the listing is old: it's looked at anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from orchestrator.errors import OutputError, SourceError, StorageUnavailable
from orchestrator.store.objects.client_errors import is_transient
from orchestrator.store.objects.location import FileInfo

READERS = 16
"""Parts read side by side: most of the time is the store's answering time."""
LOOKS = 5
"""Times that a reader lists anew when a part was merged away under its hands: a merge between each
of five listings and its reading isn't chance.
"""
HEADER = "journal-part"
"""What the first line of a part calls itself; it says how many events follow."""
_PART = re.compile(r"a(\d{4,})-(\d{6,})(?:-(\d{6,}))?\.jsonl")
Answer = TypeVar("Answer")
Item = TypeVar("Item")


class JournalPart(NamedTuple):
    """A part of the journal, or several in one: numbers ``first`` to ``last`` of an attempt."""

    attempt: int
    first: int
    last: int
    entry: FileInfo


@dataclass(frozen=True)
class DamagedPart:
    """A part of which something, or all, can't be read.

    Attributes:
        name: the object's, below the journal's directory.
        size_bytes, tag: by which a part that was mended is told from this one.
        message, remedy: what is wrong with it, and what to do, as an error says it.
        given: the store gave its bytes; else it's they that can't be read.
        passing: another try may give them.
    """

    name: str
    size_bytes: int
    tag: str
    message: str
    remedy: str
    given: bool = True
    passing: bool = False

    def __str__(self) -> str:
        return f"{self.message}. {self.remedy}"


Tell = Callable[[DamagedPart], None]


def refuse(damaged: DamagedPart) -> None:
    """For readers that can't do with less than everything. Raises OutputError, StorageUnavailable."""
    if damaged.passing:
        raise StorageUnavailable(damaged.message, remedy=damaged.remedy)
    raise OutputError(damaged.message, remedy=damaged.remedy)


def looked_again(look: Callable[[], Answer]) -> Answer:
    """What ``look`` returns, which lists the journal and reads parts of it: again where a part was
    merged away in between.
    """
    for number in range(LOOKS):
        try:
            return look()
        except SourceError as error:
            if not error.details.get("missing") or number == LOOKS - 1:
                raise
    raise AssertionError("unreachable: the last look returns or raises")


def parts_in(listed: Iterable[FileInfo]) -> list[JournalPart]:
    """All parts that a listing of the journal's directory names."""
    found = []
    for entry in listed:
        match = _PART.fullmatch(entry.name)
        if match is not None:
            first = int(match[2])
            found.append(JournalPart(int(match[1]), first, int(match[3] or first), entry))
    return found


def uncovered(parts: Iterable[JournalPart]) -> list[JournalPart]:
    """Those that no longer one covers, oldest first."""
    # The longest of those that begin at the same number comes first: it's the merged one, and its
    # parts may not have been deleted yet
    covered: dict[int, int] = {}
    kept = []
    for part in sorted(parts, key=lambda part: (part.attempt, part.first, -part.last)):
        if part.last > covered.get(part.attempt, 0):
            covered[part.attempt] = part.last
            kept.append(part)
    return kept


def read_parts(parts: Sequence[FileInfo], tell: Tell) -> Iterator[list[dict[str, Any]]]:
    """The events of each part, a few parts being read ahead; ``tell`` hears of those that are
    damaged.

    Raises:
        SourceError: a part is gone (``looked_again``).
        StorageUnavailable: the store gives none of several parts.
    """
    with ThreadPoolExecutor(READERS) as pool:
        for some in batched(parts, 2 * READERS):
            texts = list(pool.map(_bytes_of, some))
            failed = [text for text in texts if isinstance(text, StorageUnavailable)]
            if failed and len(failed) == len(texts):
                raise failed[0]
            for part, text in zip(some, texts, strict=True):
                if isinstance(text, bytes):
                    yield _events(part, text, tell)
                else:
                    tell(_not_given(part, text))
                    yield []


def batched(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """``items`` in rows of ``size``."""
    for first in range(0, len(items), size):
        yield items[first : first + size]


def _bytes_of(part: FileInfo) -> bytes | SourceError | StorageUnavailable:
    try:
        return part.location.read_bytes()
    except SourceError as error:
        if error.details.get("missing"):
            raise
        return error
    except StorageUnavailable as error:
        # What no client knows is asked for once; it says nothing of the store
        if error.__cause__ is not None and not is_transient(error.__cause__):
            return SourceError(error.message, remedy=error.remedy)
        return error


def _not_given(part: FileInfo, error: SourceError | StorageUnavailable) -> DamagedPart:
    return DamagedPart(
        part.name,
        part.size_bytes,
        part.tag,
        f"a part of the journal can't be read, and what it tells is missing here: {error.message}",
        error.remedy,
        given=False,
        passing=isinstance(error, StorageUnavailable),
    )


def _events(part: FileInfo, text: bytes, tell: Tell) -> list[dict[str, Any]]:
    """The events of a part's lines that can be read."""
    lines = [line for line in text.split(b"\n") if line.strip()]
    records: list[dict[str, Any]] = []
    wrong: list[tuple[int, str]] = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(_record(line))
        except (ValueError, RecursionError) as error:
            wrong.append((number, _why(error)))
    heads = [record for record in records if record.get("event") == HEADER]
    events = [record for record in records if record.get("event") != HEADER]
    why = _why_damaged(lines, wrong, heads, len(events))
    if why:
        tell(
            DamagedPart(
                part.name,
                part.size_bytes,
                part.tag,
                f"{part.location.shown} is damaged: {why}; what was lost of this part of the journal is missing here",
                "Restore this one file from a backup; without one nothing has to be done: the run goes on without those events",
            )
        )
    return events


def _why(error: Exception) -> str:
    match error:
        case UnicodeDecodeError():
            return "it isn't text"
        case json.JSONDecodeError():
            return f"it isn't JSON from its character {error.pos + 1} on"
        case RecursionError():
            return "it's nested without end"
        case _:
            return "it's no event"


def _record(line: bytes) -> dict[str, Any]:
    found = json.loads(line.decode())
    if not isinstance(found, dict):
        raise ValueError("not an event")
    return found


def _why_damaged(
    lines: Sequence[bytes],
    wrong: Sequence[tuple[int, str]],
    heads: Sequence[dict[str, Any]],
    events: int,
) -> str:
    """What is wrong with a part, empty where nothing is."""
    if not lines:
        return "it's empty"
    if wrong:
        number, reason = wrong[0]
        return (
            f"{len(wrong)} of its {len(lines)} lines can't be read, line {number} first: {reason}"
        )
    told = [head.get("events") for head in heads]
    promised = sum(count for count in told if isinstance(count, int))
    return f"it holds {events} of {promised} events" if events < promised else ""
