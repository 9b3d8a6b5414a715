"""``make mutants ROOM=decide.budgets``: changes of the code that the tests of its room let pass.

Rule: one thing is changed at a time, and the quick tests of the module's room that come by it are
run (``session.py``). What survives is either listed in ``survivors.json``, with the reason why no
test can or should tell, or printed here; then the exit code is 1. A change is known by its module
and its two lines, since mutmut's numbers move with the code. What is known of a mutant is kept
(``verdicts.py``). Without a word what has been gone through is played (``gone_through.txt``), which
`make soak` ends with: what was learned once isn't lost again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT
from tests.mutants.changing import files_of, mutants_of
from tests.mutants.learning import Planned
from tests.mutants.survivors import SURVIVORS, Change, listed
from tests.mutants.verdicts import ENDED, FAILED, SURVIVED, UNTOUCHED, Verdict, standing, sum_of

GONE_THROUGH = Path(__file__).with_name("gone_through.txt")
"""Modules and packages of which nothing survives that isn't listed."""
COPIED = ("orchestrator", "launch", "tests", "configs", "docs")
FILES = (
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile"),
    *("constraints.txt", "pyproject.toml"),
)
QUICK = "not (slow or tf or ray or http or gpu or chaos or soak or bench or browser or fuzz)"
WITHIN_S = 60
"""Of a test's waiting, of which its processor's time tells nothing: a quick one takes three at most,
here beside others."""
NOWHERE = "/proc/none"
"""Where no directory can be made: else a change of what is started may start a Ray, whose processes
stay behind.
"""


def main(words: list[str], root: Path = ROOT) -> int:
    """1 where a room has survivors that aren't listed.

    Args:
        words: modules or packages such as ``decide.budgets``, or rooms.
        root: of the checkout.
    """
    words = words or GONE_THROUGH.read_text().split()
    rooms = sorted({word.split(".")[0] for word in words})
    found = [
        _room(root, room, [word for word in words if word.split(".")[0] == room]) for room in rooms
    ]
    return int(any(found))


def _room(root: Path, room: str, words: list[str]) -> int:
    """How many survive that aren't listed."""
    with _alone(root / "build" / "mutants" / f"{room}.lock") as lock:
        return _changed(_copy(root, room), room, words, lock)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[int]:
    """Hold a lock, which whoever inherits the file holds as well: a session may outlive this."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"another run has {path.stem}: wait for it, or end it") from None
        yield file.fileno()


def _changed(where: Path, room: str, words: list[str], lock: int) -> int:
    changes: dict[str, Change] = {}
    planned: dict[str, Planned] = {}
    for file in files_of(where, words):
        module_sum = sum_of(where / file)
        text, mutants = mutants_of(file, (where / file).read_text())
        (where / file).write_text(text)
        changes |= {name: mutant.change for name, mutant in mutants.items()}
        for name, (_, function, lines) in mutants.items():
            planned[name] = Planned(module_sum, str(file), function, lines)
    sums = {name: each.module_sum for name, each in planned.items()}
    verdicts = standing(where, sums)
    left = {name: each for name, each in planned.items() if name not in verdicts}
    print(f"{room}: {len(changes)} mutants, {len(left)} of them to be played", flush=True)
    if left:
        files = sorted({each.file for each in planned.values()})
        _play(where, room, {"files": files, "mutants": left}, lock)
        verdicts = standing(where, sums)
    return _tell(changes, verdicts)


def _copy(root: Path, room: str) -> Path:
    """The checkout, in which modules are changed; what is known of mutants stays."""
    where = root / "build" / "mutants" / room
    where.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        shutil.rmtree(where / name, ignore_errors=True)
        if (root / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(root / name, where / name, ignore=ignored)
    for name in FILES:
        if (root / name).is_file():
            shutil.copy(root / name, where / name)
    return where


def _play(where: Path, room: str, plan: dict[str, object], lock: int) -> None:
    """One session of pytest, whose plugin plays them all."""
    planned = where / "plan.json"
    planned.write_text(json.dumps(plan))
    words = ("-p", "tests.mutants.session", "--mutants", str(planned), f"tests/{room}", "-m", QUICK)
    how = ("-s", "-p", "no:cacheprovider", "--tb=no", f"--timeout={WITHIN_S}")
    scratch = ("--basetemp", str(where / "scratch"))  # else each fork would leave one behind
    subprocess.run(
        [sys.executable, "-m", "pytest", *words, *how, *scratch],
        check=True,
        cwd=where,
        env=os.environ | {"PYTHONPATH": str(where), "RAY_TMPDIR": NOWHERE},
        pass_fds=[lock],
    )


def _tell(changes: dict[str, Change], verdicts: dict[str, Verdict]) -> int:
    """Print what survived, and return how many of them aren't listed."""
    known = listed()
    survived = [name for name in changes if verdicts[name].said in (SURVIVED, UNTOUCHED)]
    unlisted = [name for name in survived if changes[name] not in known]
    for name in unlisted:
        print(f"{name}: {verdicts[name].said}")
        print(f"  - {changes[name].was}\n  + {changes[name].becomes}")
    told = {changes[name] for name in changes} - {changes[name] for name in survived}
    for change in sorted(told & known.keys()):
        print(f"{SURVIVORS.name} lists what a test tells: {change.module}: {change.becomes}")
    said = Counter(verdicts[name].said for name in changes)
    print(
        f"{len(changes)} mutants: {said[FAILED]} fail a test, {said[ENDED]} come to no end, "
        f"{len(survived)} survive, {said[UNTOUCHED]} of these where no test comes by; "
        f"{len(unlisted)} of those that survive aren't in {SURVIVORS.name}"
    )
    return len(unlisted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
