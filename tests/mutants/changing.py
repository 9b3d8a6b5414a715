"""What are the mutants of a module, and how does its text look that holds them all?

Rule: mutmut says what is changed. Each function is there as it was and once for each change, and a
word in the process chooses which of them is called (``mutmut.mutation.trampoline``). Mutmut leaves
out functions with a decorator (properties among them), what stands outside of functions, and types.
"""

from __future__ import annotations

import ast
import difflib
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.utils.format_utils import (
    mangled_name_from_mutant_name,
    orig_function_and_class_names_from_key,
)

from tests.mutants.survivors import Change, change_of

PACKAGE = "orchestrator"


class Mutant(NamedTuple):
    """One change, and where in the text with all mutants its function stands as it was."""

    change: Change
    function: tuple[int, int]
    """The first line and the last one."""
    lines: tuple[int, ...]
    """Those of the statements that are changed: a test that runs none of them can't tell."""


class Mutated(NamedTuple):
    """The text with all mutants, and each of them by its full name."""

    text: str
    mutants: dict[str, Mutant]


def files_of(root: Path, words: Iterable[str]) -> list[Path]:
    """The files of modules and packages such as ``decide.budgets``, relative to the root.

    Raises:
        SystemExit: there's no such module.
    """
    found: set[Path] = set()
    for word in words:
        place = root.joinpath(PACKAGE, *word.split("."))
        files = [*place.rglob("*.py")] or [place.with_suffix(".py")]
        if not files[0].is_file():
            raise SystemExit(f"{word}: no such module of {PACKAGE}; write decide.budgets or decide")
        found.update(file.relative_to(root) for file in files)
    return sorted(found)


def mutants_of(file: Path, text: str) -> Mutated:
    """All mutants of one module, whose file is relative to the root."""
    module = ".".join(file.with_suffix("").parts).removesuffix(".__init__")
    made = mutate_file_contents(str(file), text)
    lines, spans = made.code.splitlines(), made.line_span_by_function_name

    def function(name: str, plain: str) -> list[str]:
        span = spans[name]
        return "\n".join(lines[span.start - 1 : span.end]).replace(name, plain).split("\n")

    found: dict[str, Mutant] = {}
    for name in made.mutant_names:
        full = f"{module}.{name}"
        plain, _ = orig_function_and_class_names_from_key(full)
        original = f"{mangled_name_from_mutant_name(name)}__mutmut_orig"
        before, after = function(original, plain), function(name, plain)
        span = spans[original]
        found[full] = Mutant(
            change_of(module, before, after),
            (span.start, span.end),
            tuple(span.start + number for number in _statements(before, after)),
        )
    return Mutated(made.code, found)


def _statements(before: Sequence[str], after: Sequence[str]) -> list[int]:
    """Which lines the statements take that differ, the first line being 0. Of a statement that holds
    others (``if``, ``def``) it's those before the first of these.
    """
    changes = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    touched = {
        number
        for kind, first, end, _, _ in changes
        if kind != "equal"
        for number in range(min(first, end - 1), end)
    }
    found: set[int] = set()
    for first, last in _ranges("\n".join(before)):
        if touched & {*range(first, last + 1)}:
            found |= {*range(first, last + 1)}
    return sorted(found)


def _ranges(function: str) -> Iterator[tuple[int, int]]:
    for node in ast.walk(ast.parse(textwrap.dedent(function))):
        if isinstance(node, ast.stmt | ast.ExceptHandler):
            first = node.lineno
        elif isinstance(node, ast.match_case):
            first = node.pattern.lineno
        else:
            continue
        last = getattr(node, "end_lineno", None) or first
        inside = getattr(node, "body", None) or getattr(node, "cases", None)
        if inside:
            begins = getattr(inside[0], "lineno", None) or inside[0].pattern.lineno
            last = max(first, begins - 1)
        yield first - 1, last - 1
