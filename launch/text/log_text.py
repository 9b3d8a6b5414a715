"""How does a run's journal read as a log?

Rule: one line an event: when, in which attempt, what, and the rest as ``name=value`` in the
journal's own words, so that nothing is hidden and a line can be searched for.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from orchestrator.journal.event import STAMP, JournalEvent
from orchestrator.journal.parsing import parse_all
from orchestrator.redaction import redacted, secrets_in

_IN_FRONT = ("event", *STAMP)


def log_line(event: JournalEvent) -> str:
    """One event as one line, redacted; times in this machine's time zone."""
    when = (
        datetime.fromtimestamp(event.at).strftime("%Y-%m-%d %H:%M:%S")
        if event.at is not None
        else "-" * 19
    )
    who = "" if event.attempt is None else f" a{event.attempt:04d}"
    rest = " ".join(
        f"{name}={_value(value)}"
        for name, value in event.record().items()
        if name not in _IN_FRONT and value not in (None, "", [], {})
    )
    line = f"{when}{who} {event.word or '?'} {rest}"
    return redacted(line.rstrip(), secrets_in(os.environ))


def about(records: Iterable[Mapping[str, Any]], worker: str) -> list[dict[str, Any]]:
    """The records that name a worker, in whatever field."""
    return [dict(record) for record in records if _names(record, worker)]


def _names(value: Any, worker: str) -> bool:
    if isinstance(value, Mapping):
        return any(_names(item, worker) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_names(item, worker) for item in value)
    return isinstance(value, str) and worker in re.split(r"\W+", value)


def log_lines(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """A journal (``store.run.journal.read_journal``) as lines."""
    return [log_line(event) for event in parse_all(records)]


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        return (
            value
            if value and not any(letter.isspace() for letter in value)
            else json.dumps(value, ensure_ascii=False)
        )
    return json.dumps(value, ensure_ascii=False, default=str)
