"""``make mutants ROOM=decide.budgets``: changes of the code that the tests of its room let pass.

Rule: mutmut changes one thing at a time and runs the tests that come by it. What survives is either
listed in ``survivors.json``, with the reason why no test can or should tell, or printed here; then
the exit code is 1. A change is known by its module and its two lines, since mutmut's numbers move
with the code. Without a word all of ROOMS is changed, which takes
many hours.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.mutants.survivors import SURVIVORS, change_of, listed, names_of

ROOMS = ("decide", "store", "driver", "workers")
MUTMUT = (sys.executable, "-m", "mutmut")
COPIED = ("orchestrator", "launch", "tests", "configs", "docs")
FILES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "constraints.txt")
ONLY = '["orchestrator/decide/*"]'
TESTS = '"tests/decide"'
"""In ``[tool.mutmut]`` of pyproject.toml: which tests are run, which are another room's in its copy."""


def main(words: list[str]) -> int:
    """How many rooms have survivors that aren't listed.

    Args:
        words: modules such as ``decide.budgets``, or rooms.
    """
    rooms = sorted({word.split(".")[0] for word in words}) or ROOMS
    return sum(
        _room(room, [word for word in words if word.split(".")[0] == room]) for room in rooms
    )


def _room(room: str, words: list[str]) -> int:
    where = _copy(room)
    words = words or [room]
    patterns = [f"orchestrator.{word}*" for word in words]
    subprocess.run([*MUTMUT, "run", *patterns], check=True, cwd=where)
    survived = names_of(_told(where, "results", "--all", "true"), tuple(words))
    known = listed()
    unlisted = [
        (name, change)
        for name in survived
        if (change := change_of(name, _told(where, "show", name))) not in known
    ]
    for name, change in unlisted:
        print(f"{name}\n  - {change.was}\n  + {change.becomes}")
    print(f"{len(survived)} survived, {len(unlisted)} of them aren't in {SURVIVORS.name}")
    return 1 if unlisted else 0


def _copy(room: str) -> Path:
    """The checkout, with this room's tests to be run; what mutmut found in it before stays."""
    where = ROOT / "build" / "mutants" / room
    where.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        shutil.rmtree(where / name, ignore_errors=True)
        shutil.copytree(ROOT / name, where / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, where / name)
    settings = (ROOT / "pyproject.toml").read_text()
    assert settings.count(TESTS) == 1
    settings = settings.replace(TESTS, f'"tests/{room}"').replace(
        ONLY, f'["orchestrator/{room}/*"]'
    )
    (where / "pyproject.toml").write_text(settings)
    return where


def _told(where: Path, *words: str) -> str:
    done = subprocess.run([*MUTMUT, *words], check=True, capture_output=True, text=True, cwd=where)
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
