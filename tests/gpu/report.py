"""What does whoever reads the results see? One table of figures, with the card and the versions
that they belong to.

Rule: everything in the report comes from the result files and from what the machine says of itself.
Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.gpu.parts import PARTS, Result


def rows(results: Mapping[str, Result]) -> list[tuple[str, str, str, str]]:
    """Part, status, figure's name and value of each figure; one row for a part without figures."""
    found = []
    for part in PARTS:
        result = results.get(part.name)
        if result is None:
            found.append((part.name, "not run", "", "not chosen so far"))
            continue
        status = f"{result.status} ({result.device})"
        if result.reason:
            found.append((part.name, status, "", result.reason))
        found += [(part.name, status, name, shown(value)) for name, value in result.figures.items()]
    return found


def shown(value: Any) -> str:
    """A figure as text: numbers to four digits, lists as their entries."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(shown, value))
    return str(value)


def markdown(machine: Mapping[str, str], results: Mapping[str, Result]) -> str:
    """The report as a page."""
    lines = [
        "# tfresume on this machine",
        "",
        *(f"- {name}: {value}" for name, value in machine.items()),
        "",
    ]
    lines += ["| part | status | figure | value |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in rows(results)]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def write_report(out: Path, machine: Mapping[str, str], results: Mapping[str, Result]) -> None:
    """Write ``report.json`` and ``report.md``."""
    whole = {
        "machine": dict(machine),
        "parts": {name: asdict(result) for name, result in results.items()},
    }
    (out / "report.json").write_text(json.dumps(whole, indent=1) + "\n")
    (out / "report.md").write_text(markdown(machine, results))
