"""What does mutmut say, and what is allowed to survive?"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

SURVIVORS = Path(__file__).with_name("survivors.json")
_RESULT = re.compile(r"\s*(\S+__mutmut_\d+): (survived|no tests)\s*")


class Change(NamedTuple):
    """One change: the module, the lines that go and those that come, each as one text."""

    module: str
    was: str
    becomes: str


def names_of(results: str, rooms: tuple[str, ...]) -> list[str]:
    """The mutants of these rooms or modules that no test noticed."""
    found = [match[1] for line in results.splitlines() if (match := _RESULT.fullmatch(line))]
    return [
        name for name in found if name.startswith(tuple(f"orchestrator.{room}" for room in rooms))
    ]


def change_of(name: str, diff: str) -> Change:
    """What a mutant changes, from the unified difference that mutmut shows."""
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++", "#"))]
    was, becomes = (
        " ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+"
    )
    module = re.split(r"\.x(?:_|ǁ)", name)[0]
    return Change(module, was, becomes)


def listed() -> dict[Change, str]:
    """The changes that may survive, and why."""
    entries = json.loads(SURVIVORS.read_text())
    return {
        Change(entry["module"], entry["was"], entry["becomes"]): entry["reason"]
        for entry in entries
    }
