"""Which kinds of event are there, and what does a journal's record say?

Rule: any JSON object can be read. A kind that isn't known becomes an ``UnknownEvent``; a field that
is missing, or of a type that it never has, is ``absent``: journals may be of other versions, or
mended by hand, and a reader that refuses them helps nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.journal import group_events, run_events, save_events, worker_events
from orchestrator.journal.event import (
    STAMP,
    Field,
    JournalEvent,
    UnknownEvent,
    fields_of,
    is_number,
    is_whole,
)

MODULES = (run_events, group_events, worker_events, save_events)


def _kinds() -> dict[str, type[JournalEvent]]:
    found: dict[str, type[JournalEvent]] = {}
    for module in MODULES:
        for item in vars(module).values():
            if isinstance(item, type) and issubclass(item, JournalEvent) and item.WORD:
                assert item.WORD not in found, f"two kinds are called {item.WORD}"
                found[item.WORD] = item
    return found


KINDS: Mapping[str, type[JournalEvent]] = _kinds()
"""Every kind of event by its word, in the order of the modules."""


def parse(record: Mapping[str, Any]) -> JournalEvent:
    """The event that a record of the journal tells. Never raises."""
    word = record.get("event")
    kind = KINDS.get(word) if isinstance(word, str) else None
    values: dict[str, Any] = dict.fromkeys(STAMP)
    absent = set()
    used = {"event"} if isinstance(word, str) and word else set()
    for name in STAMP:
        if name in record and _stamp_fits(name, record[name]):
            values[name] = record[name]
            used.add(name)
    for item in fields_of(kind) if kind is not None else ():
        name = item.name
        if name in record and item.fits(record[name]):
            values[name] = value = _read(item, record[name])
            if not (item.left_out and value == item.default):
                used.add(name)
        else:
            values[name] = item.default
            if name in record or not item.left_out:
                absent.add(name)
    if kind is None:
        values["unknown_word"] = word if isinstance(word, str) else ""
    other = {name: record[name] for name in record.keys() - used} if len(used) < len(record) else {}
    values |= {"absent": frozenset(absent), "other": other}
    return JournalEvent.of(kind or UnknownEvent, values)


def parse_all(records: Iterable[Mapping[str, Any]]) -> tuple[JournalEvent, ...]:
    """The events of ``store.run.journal.read_journal``."""
    return tuple(parse(record) for record in records)


def _stamp_fits(name: str, value: Any) -> bool:
    if name == "attempt":
        return is_whole(value)
    return is_number(value)


def _read(item: Field, value: Any) -> Any:
    return tuple(value) if item.type is tuple else value
