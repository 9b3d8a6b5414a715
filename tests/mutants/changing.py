"""What are the mutants of a module, and how does its text look that holds them all?

Rule: mutmut says what is changed. Each function is there as it was and once for each change, and a
word in the process chooses which of them is called (``mutmut.mutation.trampoline``). Mutmut leaves
out functions with a decorator (properties among them), what stands outside of functions, and types.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.utils.format_utils import (
    mangled_name_from_mutant_name,
    orig_function_and_class_names_from_key,
)

from tests.mutants.survivors import Change, change_of

PACKAGE = "orchestrator"


class Mutated(NamedTuple):
    """The text with all mutants, and what each of them changes, by its full name."""

    text: str
    changes: dict[str, Change]


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
            raise SystemExit(
                f"{word}: no such module of {PACKAGE}/; write decide.budgets or decide"
            )
        found.update(file.relative_to(root) for file in files)
    return sorted(found)


def mutants_of(file: Path, text: str) -> Mutated:
    """All mutants of one module, whose file is relative to the root."""
    module = ".".join(file.with_suffix("").parts).removesuffix(".__init__")
    made = mutate_file_contents(str(file), text)
    lines, spans = made.code.splitlines(), made.line_span_by_function_name

    def function(name: str, plain: str) -> list[str]:
        span = spans[name]
        return "\n".join(lines[span.start - 1 : span.end]).replace(name, plain).strip().split("\n")

    changes: dict[str, Change] = {}
    for name in made.mutant_names:
        full = f"{module}.{name}"
        plain, _ = orig_function_and_class_names_from_key(full)
        original = f"{mangled_name_from_mutant_name(name)}__mutmut_orig"
        changes[full] = change_of(module, function(original, plain), function(name, plain))
    return Mutated(made.code, changes)
