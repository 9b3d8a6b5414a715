"""Does each name of a class mean one class?

Rule: two public classes of the product never share a name.
"""

from __future__ import annotations

import ast
from collections import Counter

from tests.sources import PRODUCT, tree


def _shared() -> set[str]:
    counts = Counter(
        node.name
        for path in PRODUCT
        for node in tree(path).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert len(counts) > 100
    return {name for name, count in counts.items() if count > 1}


def test_no_two_classes_share_a_name() -> None:
    assert sorted(_shared()) == []
