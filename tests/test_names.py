"""Does each name of a class mean one class?

Rule: two public classes of the product never share a name.
"""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


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


def test_no_two_classes_share_a_name() -> None:
    assert sorted(_shared()) == []
