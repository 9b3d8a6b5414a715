"""How does ``docs/journal.md`` follow from the classes of ``orchestrator.journal``?

Rule: everything on the page that names a kind, a field or a type is made here; write it anew with
``python -m tests.docs.journal_page``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from orchestrator.journal import group_events, run_events, save_events, worker_events
from orchestrator.journal.event import Field, JournalEvent, fields_of
from orchestrator.journal.parsing import KINDS
from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "journal.md"
CHAPTERS: Mapping[str, ModuleType] = {
    "The run and its drivers": run_events,
    "The group": group_events,
    "Workers": worker_events,
    "Saves": save_events,
}
TYPES: Mapping[Any, str] = {
    int: "whole number",
    float: "number",
    str: "text",
    bool: "true or false",
    tuple: "list of texts",
    Mapping: "object",
}
COMMON: Mapping[str, str] = {
    "checkpoint": "a checkpoint's label below the output",
    "generation": "the group's number, from 1, never used twice",
    "node": "the node's identity in Ray",
    "pid": "the worker's process",
    "rank": "the worker's rank, from 0; null where it has none",
    "reason": "why, in words for people",
    "step": "the last global step that all workers have finished",
    "worker": "the worker's identity, never used twice",
    "workers": "workers' identities",
    "world_size": "workers in the group",
}
"""What fields mean that have the same meaning wherever they stand."""
TOP = """# The journal

Every run writes down what happens to it and what its driver decides, below its output in
`_tfresume/journal/`. `tfresume logs RUN` shows it; `status`, `report`, goodput, retry budgets and the
next driver are folds over it. This page is made from the classes in `orchestrator/journal/`
(`python -m tests.docs.journal_page`), and a test holds the two equal.

The journal is a row of immutable files. The first line of each names its writer,
`{"event": "journal-part", "writer": …, "events": …}`; each line after it is one event, a JSON object with these
fields and those of its kind:

| field | type | meaning |
| --- | --- | --- |
| `attempt` | whole number | the driver that wrote it, from 1: one life of the driver is one attempt |
| `at` | number | unix seconds by that driver's clock |
| `t_s` | number | seconds since that driver's loop began, by its monotonic clock |
| `event` | text | the kind of event, one of those below |

Kinds marked "at once" are in the store before the driver goes on to what follows from them, as far
as the store answers; the others follow with the next heartbeat. All durations are in seconds and all
sizes in bytes. NaN and infinities are written as text, since JSON has none. Readers take what they
know: an unknown kind, an unknown field or a value of another type is passed over.
"""


def page() -> str:
    """The whole page."""
    lines = [TOP]
    for title, module in CHAPTERS.items():
        lines.append(f"## {title}\n")
        for kind in KINDS.values():
            if kind.__module__ == module.__name__:
                lines += _section(kind)
    return "\n".join(lines)


def meanings(kind: type[JournalEvent]) -> dict[str, str]:
    """What the class says of its fields: the ``Attributes`` of its docstring."""
    _, _, told = (inspect.getdoc(kind) or "").partition("Attributes:")
    joined = re.sub(r"\n {8,}", " ", told)
    return dict(re.findall(r"^ {4}(\w+): (.+)$", joined, re.MULTILINE))


def _section(kind: type[JournalEvent]) -> list[str]:
    summary = " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())
    own = meanings(kind)
    when = " At once." if kind.AT_ONCE else ""
    rows = [
        f"| `{item.name}` | {_type(item)} | {(own.get(item.name) or COMMON[item.name]).rstrip('.')} |"
        for item in fields_of(kind)
    ]
    head = [f"### `{kind.WORD}`\n", f"{summary}{when}\n"]
    return [*head, "| field | type | meaning |", "| --- | --- | --- |", *rows, ""]


def _type(item: Field) -> str:
    told = TYPES[item.type]
    if item.left_out:
        return f"{told}; may be missing"
    return f"{told} or null" if item.nullable else told


if __name__ == "__main__":
    PAGE.write_text(page())
