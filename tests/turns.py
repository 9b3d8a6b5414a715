"""Which of many examples of one kind are run this time?

Rule: of tests marked ``turns(N)`` an Nth part, file by file (with ``turns(N, KIND)`` over all files
that name this kind), and all of them with ``--every-turn`` (``make check``). Whose turn it is
follows from the code under test: the same tree runs the same part, so that what passed before a
change lands is what its landing runs, and after a change it's another's turn. What is quick is run
each time, marked or not. Of very many quick examples ``quick_in_turn`` leaves an Nth part to `make
check-fast`; `make test` runs the others as well, with what takes seconds.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pytest

T = TypeVar("T")
DEAR = ("slow", "tf", "ray", "http", "chaos")
ROOT = Path(__file__).resolve().parents[1]
CODE = ("orchestrator", "launch")


@cache
def checksum_of_the_code() -> int:
    """Of all modules under test."""
    found = 0
    for path in sorted(path for room in CODE for path in (ROOT / room).rglob("*.py")):
        found = zlib.crc32(path.read_bytes(), found)
    return found


def in_turn(examples: Sequence[T], parts: int, checksum: int) -> list[T]:
    """Every ``parts``-th example, from one that the checksum chooses; at least one where there are
    any. Over all checksums each has its turn.
    """
    parts = min(parts, len(examples))
    return list(examples[checksum % parts :: parts]) if parts else []


def quick_in_turn(examples: Iterable[T], parts: int) -> list[Any]:
    """All of the examples, as parameters of which all but every ``parts``-th are marked as slow."""
    every = list(examples)
    quick = set(in_turn(range(len(every)), parts, checksum_of_the_code()))
    return [
        pytest.param(
            *(example if isinstance(example, tuple) else (example,)),
            marks=[] if number in quick else [pytest.mark.slow],
        )
        for number, example in enumerate(every)
    ]


def chosen(words: Iterable[str], *options: object) -> bool:
    """Whether somebody asks for tests of their choice: a file, a test in it, or one of the options
    (``-k``, ``--lf``). Then it's nobody's turn, and all of these are run.
    """
    return any(options) or any(word.partition("::")[0].endswith(".py") for word in words)


def not_in_turn(items: Iterable[pytest.Item], checksum: int) -> set[pytest.Item]:
    """The marked tests that take seconds and whose turn it isn't."""
    kinds: dict[tuple[Path | str, int], list[pytest.Item]] = {}
    for item in items:
        mark = item.get_closest_marker("turns")
        if mark is not None and any(item.get_closest_marker(name) for name in DEAR):
            parts, kind = (*mark.args, item.path)[:2]
            kinds.setdefault((kind, parts), []).append(item)
    return {
        item
        for (_, parts), examples in kinds.items()
        for item in set(examples) - set(in_turn(examples, parts, checksum))
    }


def marks_left_out(expression: str) -> frozenset[str]:
    """The marks that ``-m`` leaves out where it says ``not (A or B …)`` and nothing else: then a
    test is left out for a mark that it's known to have, whatever other marks it may have.
    """
    found = re.fullmatch(r"not \((\w+(?: or \w+)*)\)", expression)
    return frozenset(found[1].split(" or ")) if found else frozenset()


def marks_of_a_file(source: str) -> frozenset[str]:
    """The names of the marks that a module of tests gives to all that is in it, read off its text."""
    found = re.search(r"^pytestmark = (\[.*\n(?:    .*\n)*\]|.+)", source, re.MULTILINE)
    return frozenset(re.findall(r"\bpytest\.mark\.(\w+)", found[1])) if found else frozenset()


def part_of(examples: Sequence[T], part: str) -> list[T]:
    """Those of part N of M, for ``N/M``: every M-th from the N-th on, so that the parts are as long
    as each other and have nothing in common.

    Raises:
        pytest.UsageError: it isn't such a part.
    """
    number, slash, parts = part.partition("/")
    if not (slash and number.isdigit() and parts.isdigit() and 1 <= int(number) <= int(parts)):
        raise pytest.UsageError(f"--part {part}: write N/M with N from 1 to M, such as 3/20")
    return list(examples[int(number) - 1 :: int(parts)])
