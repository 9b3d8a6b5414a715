"""Does every error say what to do next, in the form that ``OrchestratorError`` asks for?

Rule: read off the product's syntax, so that an error that no test meets is held to it too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from orchestrator import errors
from tests.sources import PRODUCT, ROOT, text, tree

KINDS = {
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, errors.OrchestratorError)
}
NO_FAULT = {"EndOfData"}
"""The end of the input isn't a fault: there is nothing to be done."""
REASONS = {"orchestrator/training/proof/joining.py", "orchestrator/training/proof/measuring.py"}
"""What is raised there ends as the reason of a proof that couldn't be tried, which has ways on of
its own (``driver.proof``).
"""


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    """All that make one of our errors, by its name or its ``from_cause``."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        made = node.func
        if isinstance(made, ast.Attribute) and made.attr == "from_cause":
            made = made.value
        if isinstance(made, ast.Name) and made.id in KINDS - NO_FAULT:
            yield node


def remedy_of(call: ast.Call) -> ast.expr | None:
    """The expression of its remedy, None where it has none."""
    return next((word.value for word in call.keywords if word.arg == "remedy"), None)


def ends(text: ast.expr) -> tuple[str, str]:
    """The first and last characters that are written in the code; empty where they're computed."""
    parts = text.values if isinstance(text, ast.JoinedStr) else [text]
    written = [
        part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else ""
        for part in parts
    ]
    return written[0][:1], written[-1][-1:]


def faults(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(Line, what is wrong) of each error that isn't told as it should be."""
    for call in calls(tree):
        remedy = remedy_of(call)
        if remedy is None or (isinstance(remedy, ast.Constant) and not remedy.value):
            yield call.lineno, "says nothing of what to do next"
            continue
        first, last = ends(remedy)
        if first and not (first.isupper() or first in "`-"):
            yield call.lineno, "its remedy doesn't begin as a sentence does"
        if last == "." or (call.args and ends(call.args[0])[1] == "."):
            yield call.lineno, "ends in a period, which whoever shows it adds"


def test_every_error_says_what_to_do_next() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line} {what}"
        for path in PRODUCT
        if str(path.relative_to(ROOT)) not in REASONS and any(kind in text(path) for kind in KINDS)
        for line, what in faults(tree(path))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("ConfigError('a is b')", "says nothing"),
        ("ConfigError('a is b', remedy='')", "says nothing"),
        ("FatalError.from_cause('a is b', error)", "says nothing"),
        ("ConfigError('a is b', remedy='give c')", "doesn't begin"),
        ("ConfigError('a is b.', remedy='Give c')", "ends in a period"),
        ("ConfigError(f'{a} is b', remedy=f'Give {c}.')", "ends in a period"),
        ("ConfigError(f'{a} is b', remedy=f'Give {c}')", ""),
        ("ConfigError('a is b', remedy=told)", ""),
        ("EndOfData('no more')", ""),
        ("ValueError('not ours')", ""),
    ],
)
def test_error_is_told_as_it_should_be(code: str, wrong: str) -> None:
    found = [what for _, what in faults(ast.parse(code))]
    assert len(found) == bool(wrong)
    assert all(wrong in what for what in found)
