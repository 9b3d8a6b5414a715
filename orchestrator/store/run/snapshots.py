"""What does the journal say, without reading it from its beginning?

Rule: beside the journal's parts lies what they say up to some part, a snapshot of its folds
(``journal.folding``); who only needs that reads the newest one and the parts after it. The journal
stays the truth: a snapshot follows from it alone, and is passed over where it is damaged, of another
version or of other folds, and where the journal has parts that it should have seen and hasn't (a
driver that woke up late adds to an earlier attempt). Then an older one counts, or the whole journal.
It also names the damaged parts that it was made of, so that they're told on; where one of them has
been mended, or is gone, it's passed over. So whoever writes one reads the journal as anybody does,
and two that write at once don't mind each other.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version

import google_crc32c

from orchestrator.errors import OrchestratorError, SourceError, StorageUnavailable
from orchestrator.journal.folding import Fold, Folds, frozen, shape, take_all, thawed
from orchestrator.store.objects.layout import CONTROL
from orchestrator.store.objects.location import FileInfo, Location
from orchestrator.store.run.journal import MERGE
from orchestrator.store.run.journal_parts import (
    DamagedPart,
    JournalPart,
    looked_again,
    parts_in,
    read_parts,
    uncovered,
)

log = logging.getLogger("tfresume")

KEPT = 2
"""Snapshots that stay: whoever listed them a moment ago may be about to read the one before."""
_SNAPSHOT = re.compile(r"a(\d{4,})-(\d{6,})\.snapshot\.json")
Covers = dict[int, int]
"""Attempt to the last of its parts."""


@dataclass(frozen=True)
class Reading:
    """What the journal says.

    Attributes:
        folds: by the names that were asked for.
        covers: what of the journal they have taken.
        parts: how many objects were read besides a snapshot.
        whole: whether no part was missing between the first and the last of any attempt: a listing
            may be incomplete, and what it lacked must not count as seen.
        damaged: the parts of which something couldn't be read.
    """

    folds: Folds
    covers: Covers
    parts: int
    whole: bool
    damaged: tuple[DamagedPart, ...] = ()


def read_folds(output: Location, kinds: Mapping[str, type[Fold]]) -> Reading:
    """What the journal says up to its last event, as far as it can be read.

    Raises:
        StorageUnavailable: the store doesn't answer.
    """
    return looked_again(lambda: _read(output, kinds))


def write_snapshot(output: Location, kinds: Mapping[str, type[Fold]]) -> None:
    """Put what the journal says beside it. A store that refuses costs later readers time, nothing
    else.
    """
    try:
        reading = read_folds(output, kinds)
    except OrchestratorError as error:
        _not_written(error)
    else:
        keep_snapshot(output, reading)


def keep_snapshot(output: Location, reading: Reading, at_least: int = 1) -> None:
    """Put a reading of at least so many parts beside the journal, and take old ones away; as
    ``write_snapshot``.
    """
    if not reading.whole or reading.parts < at_least or not reading.covers:
        return
    try:
        _keep(output, reading)
    except OrchestratorError as error:
        _not_written(error)


def _not_written(error: OrchestratorError) -> None:
    log.warning("the journal's snapshot isn't written for now: %s", error)


def _keep(output: Location, reading: Reading) -> None:
    directory = output.child(CONTROL, "journal")
    attempt = max(reading.covers)
    name = f"a{attempt:04d}-{reading.covers[attempt]:06d}.snapshot.json"
    directory.child(name).write_bytes(encoded(reading))
    for _, _, entry in _snapshots(directory.list())[KEPT:]:
        entry.location.delete()


def encoded(reading: Reading) -> bytes:
    """A snapshot's two lines: what it is, and what the journal says."""
    state = json.dumps({name: frozen(fold) for name, fold in reading.folds.items()}).encode()
    head = {
        "version": version("tfresume"),
        "shapes": {name: shape(type(fold)) for name, fold in reading.folds.items()},
        "covers": sorted(reading.covers.items()),
        "damaged": [asdict(part) for part in reading.damaged],
        "crc32c": google_crc32c.value(state),
    }
    return json.dumps(head).encode() + b"\n" + state + b"\n"


def decoded(data: bytes, kinds: Mapping[str, type[Fold]]) -> Reading | None:
    """What a snapshot says; None where it's damaged, or this version reads other ones."""
    try:
        head, state, _ = data.split(b"\n")
        told = json.loads(head)
        if told["version"] != version("tfresume") or told["crc32c"] != google_crc32c.value(state):
            return None
        if any(told["shapes"].get(name) != shape(kind) for name, kind in kinds.items()):
            return None
        kept = json.loads(state)
        folds: Folds = {name: thawed(kind, kept[name]) for name, kind in kinds.items()}
        damaged = tuple(DamagedPart(**part) for part in told["damaged"])
        return Reading(folds, dict(map(tuple, told["covers"])), 0, True, damaged)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _read(output: Location, kinds: Mapping[str, type[Fold]]) -> Reading:
    listed = output.child(CONTROL, "journal").list()
    parts = parts_in(listed)
    for seen in _usable(listed, kinds):
        tail = tail_of(parts, seen.covers)
        if tail is not None:
            return _taken(seen, tail)
    nothing = Reading({name: kind() for name, kind in kinds.items()}, {}, 0, True)
    return _taken(nothing, uncovered(parts))


def _usable(listed: Sequence[FileInfo], kinds: Mapping[str, type[Fold]]) -> Iterator[Reading]:
    """The snapshots that can be read and believed, newest first."""
    lying = {(entry.name, entry.size_bytes, entry.tag) for entry in listed}
    for _, _, entry in _snapshots(listed)[:KEPT]:
        try:
            data = entry.location.read_if_exists()
        except (SourceError, StorageUnavailable) as error:
            log.debug("a snapshot of the journal is passed over: %s", error)
            continue
        found = None if data is None else decoded(data, kinds)
        if found is not None and lying.issuperset(
            (part.name, part.size_bytes, part.tag) for part in found.damaged
        ):
            yield found


def _snapshots(listed: Sequence[FileInfo]) -> list[tuple[int, int, FileInfo]]:
    """Attempt and last part of each snapshot in a listing, newest first."""
    matches = [(_SNAPSHOT.fullmatch(entry.name), entry) for entry in listed]
    found = [(int(match[1]), int(match[2]), entry) for match, entry in matches if match]
    return sorted(found, key=lambda item: item[:2], reverse=True)


def tail_of(parts: Sequence[JournalPart], covers: Covers) -> list[JournalPart] | None:
    """The parts after those that a snapshot covers, oldest first; None where it can't stand for the
    ones before.
    """
    newest = max(covers, default=0)
    after: list[JournalPart] = []
    across: list[JournalPart] = []
    for part in parts:
        seen = covers.get(part.attempt, 0)
        if part.last <= seen:
            continue
        if part.attempt < newest:
            return None  # of a driver that woke up late
        (after if part.first > seen else across).append(part)
    tail = uncovered(after)
    held = {(part.attempt, number) for part in tail for number in range(part.first, part.last + 1)}
    for part in across:
        wanted = range(covers[part.attempt] + 1, part.last + 1)
        if any((part.attempt, number) not in held for number in wanted):
            return None  # merged with what the snapshot covers, and not there alone any more
    return tail


def _taken(seen: Reading, tail: Sequence[JournalPart]) -> Reading:
    whole, covers, damaged = True, seen.covers, list(seen.damaged)
    texts = read_parts([part.entry for part in tail], damaged.append)
    for part, events in zip(tail, texts, strict=True):
        take_all(seen.folds, events)
        whole = whole and part.first == covers.get(part.attempt, 0) + 1
        covers = covers | {part.attempt: part.last}
    # What another try, or other rights, may give mustn't count as seen for good
    whole = whole and all(part.given for part in damaged)
    return Reading(seen.folds, covers, len(tail), whole, tuple(damaged))


LONG = MERGE
"""Parts after the newest snapshot that are too many to be read again by the next one: a driver that
finds so many keeps a snapshot at once, since many short lives never merge theirs.
"""
