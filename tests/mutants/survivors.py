"""What does a mutant change, and what is allowed to survive?"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

SURVIVORS = Path(__file__).with_name("survivors.json")


class Change(NamedTuple):
    """One change: the module, the lines that go and those that come, each as one text."""

    module: str
    was: str
    becomes: str


def change_of(module: str, before: Iterable[str], after: Iterable[str]) -> Change:
    """What differs between the lines of a function and those of its mutant."""
    differing = [*difflib.unified_diff([*before], [*after], n=0, lineterm="")]
    lines = [line for line in differing if not line.startswith(("---", "+++"))]
    was, becomes = (
        " ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+"
    )
    return Change(module, was, becomes)


def listed() -> dict[Change, str]:
    """The changes that may survive, and why."""
    entries = json.loads(SURVIVORS.read_text())
    return {
        Change(entry["module"], entry["was"], entry["becomes"]): entry["reason"]
        for entry in entries
    }
