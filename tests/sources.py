"""What does the product's code say, for the tests that hold laws over all of it?

Rule: each module is read and parsed once in a process of tests, when the first of them asks; none
is at import, since every process that collects the tests would pay for it.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = sorted([*(ROOT / "orchestrator").rglob("*.py"), *(ROOT / "launch").rglob("*.py")])
"""Every module of the product."""


@functools.cache
def text(path: Path) -> str:
    """A module's source."""
    return path.read_text(encoding="utf-8")


@functools.cache
def tree(path: Path) -> ast.Module:
    """A module's syntax; not to be changed."""
    return ast.parse(text(path))


def calls(path: Path, *names: str) -> tuple[ast.Call, ...]:
    """What a module calls by one of these names, or as a method with one. One that says none of
    them isn't parsed.
    """
    if not any(f"{name}(" in text(path) for name in names):
        return ()
    return tuple(
        call
        for call in _calls(path)
        if getattr(call.func, "attr", getattr(call.func, "id", "")) in names
    )


@functools.cache
def _calls(path: Path) -> tuple[ast.Call, ...]:
    return tuple(node for node in ast.walk(tree(path)) if isinstance(node, ast.Call))
