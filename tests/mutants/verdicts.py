"""What is known of a mutant from an earlier run, and for how long does that hold?

Rule: one line of JSON for each verdict, written when it's known, so that a run that is cut off goes
on where it was. A mutant that a test told stays told while its module and the lines of that test
are as they were; that none told holds while the module and all tests are. What else has changed,
such as another module that the tests go through, isn't looked at: remove ``verdicts.jsonl`` then.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

KEPT = "verdicts.jsonl"
UNTOUCHED = "no test comes by"
SURVIVED = "all tests pass"
FAILED = "a test fails"
ENDED = "its tests come to no end"
"""They ran into their limit of time or memory, or brought pytest itself down."""


class Verdict(NamedTuple):
    """What the tests said to one mutant, and the sums of what they said it of and with."""

    mutant: str
    said: str
    module_sum: str
    told_by: str
    """The test that failed, as pytest names it; empty where it's all of them."""
    tests_sum: str


def sum_of(*files: Path) -> str:
    """Of what these files hold; a file that is gone holds nothing."""
    found = hashlib.sha256()
    for file in files:
        found.update(file.read_bytes() if file.is_file() else b"")
        found.update(b"\0")
    return found.hexdigest()[:16]


def sum_of_tests(root: Path, told_by: str) -> str:
    """Of the lines of one test, or of all tests."""
    if not told_by:
        return sum_of(*sorted((root / "tests").rglob("*.py")))
    file, *_, name = told_by.partition("[")[0].split("::")
    text = (root / file).read_text() if (root / file).is_file() else ""
    return hashlib.sha256(_functions(text).get(name, "").encode()).hexdigest()[:16]


@functools.cache
def _functions(text: str) -> dict[str, str]:
    """Each function of a module, with its decorators, without its comments."""
    return {
        node.name: ast.unparse(node)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef)
    }


def keep(where: Path, verdict: Verdict) -> None:
    """One line more."""
    with (where / KEPT).open("a") as file:
        file.write(json.dumps(verdict) + "\n")


def standing(where: Path, module_sums: dict[str, str]) -> dict[str, Verdict]:
    """The verdicts that hold still, by mutant.

    Args:
        where: the copy of the checkout; its tests are those of now.
        module_sums: the sum of each mutant's module.
    """
    if not (where / KEPT).is_file():
        return {}
    lines = (where / KEPT).read_text().splitlines()
    latest = {verdict.mutant: verdict for verdict in (Verdict(*json.loads(line)) for line in lines)}
    sum_now = functools.cache(functools.partial(sum_of_tests, where))
    return {
        mutant: verdict
        for mutant, verdict in latest.items()
        if module_sums.get(mutant) == verdict.module_sum
        and sum_now(verdict.told_by) == verdict.tests_sum
    }
