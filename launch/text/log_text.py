"""How does a run's journal read as a log?

Rule: one line an event: when, in which attempt, what, and the rest as ``name=value`` in the
journal's own words, so that nothing is hidden and a line can be searched for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from orchestrator.redaction import redacted, secrets_in

_IN_FRONT = ("event", "at", "attempt", "t_s")


def log_line(event: Mapping[str, Any]) -> str:
    """One event as one line, redacted; times in this machine's time zone."""
    at = event.get("at")
    when = (
        datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S")
        if isinstance(at, int | float)
        else "-" * 19
    )
    attempt = event.get("attempt")
    rest = " ".join(
        f"{name}={_value(value)}"
        for name, value in event.items()
        if name not in _IN_FRONT and value not in (None, "", [], {})
    )
    line = (
        f"{when} a{attempt:04d} {event.get('event', '?')} {rest}"
        if isinstance(attempt, int)
        else f"{when} {event.get('event', '?')} {rest}"
    )
    return redacted(line.rstrip(), secrets_in(os.environ))


def log_lines(events: Iterable[Mapping[str, Any]]) -> list[str]:
    """All events as lines."""
    return [log_line(event) for event in events]


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
