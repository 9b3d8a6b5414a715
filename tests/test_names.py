"""Does each name of a class mean one class?

Rule: two public classes of the product never share a name. Those that still do are listed, so that
no further one joins them and none stays in the list once it's mended.
"""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STILL_SHARED = {
    "Attempt",
    "Body",
    "Candidate",
    "Cause",
    "Form",
    "Found",
    "Held",
    "Origin",
    "Origins",
    "Place",
    "Plan",
    "Report",
    "Room",
    "Share",
    "Stage",
    "Stranger",
    "Stretch",
    "Task",
}


def _shared() -> set[str]:
    counts = Counter(
        node.name
        for room in ("orchestrator", "launch")
        for path in (ROOT / room).rglob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert len(counts) > 100
    return {name for name, count in counts.items() if count > 1}


def test_no_further_classes_share_a_name() -> None:
    assert sorted(_shared() - STILL_SHARED) == []


def test_names_that_are_listed_as_shared_are() -> None:
    assert sorted(STILL_SHARED - _shared()) == []
