"""Does docs/problems.md explain every code that ``check`` can tell, and no other?

Rule: the codes are read from the sources. Where one isn't written down at the ``Problem`` itself, a
table here says where it comes from; an expression that isn't in the table fails the test.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from orchestrator.driver.refusals import CHECKS
from orchestrator.graph.repetition.scale_problems import CODES
from tests.docs.pages import ROOT
from tests.sources import PRODUCT, calls, tree

PAGE = ROOT / "docs" / "problems.md"
EITHER = {"error", "warning"}
_ROW = re.compile(r"^\| `([\w-]+)` \| (error|warning|error or warning) \| (.+) \| (.+) \|$", re.M)


def _calls(name: str, sources: list[Path]) -> Iterator[tuple[str, ast.Call]]:
    """Each call of ``name`` with the file that it stands in, from the root."""
    for path in sources:
        for call in calls(path, name):
            if getattr(call.func, "id", "") == name:
                yield str(path.relative_to(ROOT)), call


def _literal(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _literals(name: str, file: str) -> set[str]:
    """The first arguments of all calls of ``name`` in one file, which have to be written out."""
    found = [_literal(call.args[0]) for _, call in _calls(name, [ROOT / file])]
    assert found, f"{file} makes no {name}"
    assert None not in found, f"{file} makes a {name} whose code isn't written out"
    return {code for code in found if code is not None}


def _attribute_faults() -> set[str]:
    """The kinds of attribute faults that become problems of their own."""
    function = next(
        node
        for node in tree(ROOT / "orchestrator/graph/importing/compat.py").body
        if isinstance(node, ast.FunctionDef) and node.name == "attribute_problems"
    )
    said = next(node for node in ast.walk(function) if isinstance(node, ast.Dict))
    kinds = {_literal(key) for key in said.keys if key is not None}
    assert kinds
    return {f"{kind}-attribute" for kind in kinds}


def _computed() -> dict[tuple[str, str], set[str]]:
    """File and expression of each code that isn't written out, to the codes that it can be."""
    causes = _literals("PipelineProblem", "orchestrator/graph/inputs/diagnosis.py")
    causes |= _literals("PipelineProblem", "orchestrator/graph/inputs/runnable.py")
    return {
        ("orchestrator/driver/refusals.py", "code"): {code for code, _ in CHECKS},
        ("orchestrator/graph/importing/soundness.py", "code"): _literals(
            "WiringFault", "orchestrator/graph/importing/wiring.py"
        ),
        ("orchestrator/graph/importing/compat.py", "f'{fault.kind}-attribute'"): (
            _attribute_faults()
        ),
        ("orchestrator/graph/inputs/diagnosis.py", "cause.code"): causes,
        ("orchestrator/graph/repetition/scale_problems.py", "CODES[kind]"): set(CODES.values()),
    }


def _told() -> dict[str, set[str]]:
    """Each code that a `Problem` can have, with the severities that it can have."""
    computed = _computed()
    used: set[tuple[str, str]] = set()
    found: dict[str, set[str]] = {}
    for file, call in _calls("Problem", PRODUCT):
        written = _literal(call.args[0])
        codes = {written} if written else computed[file, ast.unparse(call.args[0])]
        if not written:
            used.add((file, ast.unparse(call.args[0])))
        severity = _literal(call.args[1])
        for code in codes:
            found.setdefault(code, set()).update({severity} if severity else EITHER)
    assert used == set(computed)
    return found


def _explained() -> list[tuple[str, set[str]]]:
    return [
        (code, set(severity.split(" or ")))
        for code, severity, _, _ in _ROW.findall(PAGE.read_text(encoding="utf-8"))
    ]


def test_every_code_that_check_can_tell_is_explained_and_no_other() -> None:
    explained = [code for code, _ in _explained()]
    assert len(explained) == len(set(explained))
    assert set(explained) == set(_told())


def test_severities_on_the_page_are_those_that_the_sources_give() -> None:
    told = _told()
    wrong = {
        code: (severities, told[code])
        for code, severities in _explained()
        if not severities <= told[code] or (len(told[code]) == 1 and severities != told[code])
    }
    assert wrong == {}


def test_forceable_problems_are_named_on_the_page() -> None:
    forceable = {
        code
        for _, call in _calls("Problem", PRODUCT)
        if any(keyword.arg == "forceable" for keyword in call.keywords)
        and (code := _literal(call.args[0]))
    }
    assert forceable
    line = next(line for line in PAGE.read_text().splitlines() if "`--force` turns" in line)
    assert set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", line)) == forceable
