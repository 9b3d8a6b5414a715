"""Which tests come by a mutant, and how long do they take?

Rule: a test comes by a mutant that runs one of the lines that are changed. Where none of a
function's lines was seen though it was called, in a thread of greenlets for instance, any test that
calls it comes by. What was learned of a test holds while its file and the changed modules do.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest
from mutmut.mutation import trampoline
from mutmut.utils.format_utils import mangled_name_from_mutant_name

from tests.mutants.verdicts import sum_of


class Planned(NamedTuple):
    """What a session has to know of a mutant."""

    module_sum: str
    file: str
    function: tuple[int, int]
    lines: tuple[int, ...]


class Learned(NamedTuple):
    """What one test does without a change."""

    passes: bool
    took_s: float
    """Of the processor, with its lines watched."""
    functions: list[str]
    lines: dict[str, list[int]]

    def comes_by(self, mutant: str, planned: Planned) -> bool:
        """Whether the change can make a difference to it."""
        if not self.passes or mangled_name_from_mutant_name(mutant) not in self.functions:
            return False
        first, last = planned.function
        seen = [line for line in self.lines.get(planned.file, ()) if first <= line <= last]
        return not seen or any(line in planned.lines for line in seen)


def learn(items: Iterable[pytest.Item], files: Iterable[str], kept: Path) -> None:
    """Play the tests whose files have changed, and keep what is learned of all."""
    before = recalled(kept) if kept.is_file() else {}
    now = str(sum_of(*(Path(file) for file in sorted(files))))
    found: dict[str, tuple[str, Learned]] = {}
    left: list[pytest.Item] = []
    for item in items:
        known = before.get(item.nodeid)
        if known is not None and known[0] == _sum(item, now):
            found[item.nodeid] = known
        else:
            left.append(item)
    watch = _Watch({str(Path(file).resolve()): file for file in files})
    for item, following in zip(left, [*left[1:], None], strict=False):
        found[item.nodeid] = (_sum(item, now), watch.play(item, following))
    kept.write_text(json.dumps(found))


def recalled(kept: Path) -> dict[str, tuple[str, Learned]]:
    """What was learned, by test."""
    return {
        name: (known, Learned(*fields))
        for name, (known, fields) in json.loads(kept.read_text()).items()
    }


def _sum(item: pytest.Item, modules: str) -> str:
    return f"{modules} {sum_of(item.path)}"


class _Watch:
    """Plays tests and sees which lines of the changed files they run."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self.files = files
        self.lines: set[tuple[str, int]] = set()
        self.functions: set[str] = set()
        trampoline.record_trampoline_hit = lambda name, caller=None: self.functions.add(name)
        trampoline.set_mutant_under_test("stats")

    def play(self, item: pytest.Item, following: pytest.Item | None) -> Learned:
        self.lines.clear()
        self.functions.clear()
        failed, began_s = item.session.testsfailed, time.process_time()
        threading.settrace(self._call)
        sys.settrace(self._call)
        try:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        finally:
            sys.settrace(None)
            threading.settrace(None)
        lines: dict[str, list[int]] = {}
        for file, line in sorted(self.lines):
            lines.setdefault(self.files[file], []).append(line)
        passes = item.session.testsfailed == failed
        return Learned(passes, time.process_time() - began_s, sorted(self.functions), lines)

    def _call(self, frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code.co_filename not in self.files:
            return None
        return self._line(frame, event, arg)

    def _line(self, frame: FrameType, event: str, arg: Any) -> Any:
        self.lines.add((frame.f_code.co_filename, frame.f_lineno))
        return self._line


class Order:
    """Which tests to play first: those that told another mutant of the same function, most often
    first, then those named like the module, and then the quickest.
    """

    def __init__(self, learned: Mapping[str, Learned]) -> None:
        self.learned = learned
        self.told: dict[str, Counter[str]] = {}

    def of(self, mutant: str, planned: Planned) -> list[str]:
        """All tests that come by it."""
        told = self.told.get(mangled_name_from_mutant_name(mutant), Counter())
        named = f"/test_{Path(planned.file).stem}"
        tests = [name for name, each in self.learned.items() if each.comes_by(mutant, planned)]
        return sorted(
            tests, key=lambda name: (-told[name], named not in name, self.learned[name].took_s)
        )

    def note(self, mutant: str, test: str) -> None:
        """This one told it."""
        self.told.setdefault(mangled_name_from_mutant_name(mutant), Counter())[test] += 1
