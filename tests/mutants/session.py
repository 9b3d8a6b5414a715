"""How are hundreds of mutants played without collecting the tests for each? (A plugin of pytest.)

Rule: the tests are collected once, and everything is played in a fork of that session. The first
plays each test without a change and learns how long it takes and which functions it comes by. Then
each mutant has a fork that plays the tests that come by its function, quickest first, to the first
that fails. None is left out for its length. A fork may use CPU_FACTOR times the time that its tests
took, and MEMORY: where it ends at one of these, that tells the mutant as well as a test that fails.

A function that is called while the tests are collected isn't changed then.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from mutmut.mutation import trampoline
from mutmut.utils.format_utils import mangled_name_from_mutant_name

from tests.mutants import verdicts
from tests.mutants.verdicts import ENDED, FAILED, SURVIVED, UNTOUCHED, Verdict

CPU_FACTOR = 4
"""A busy machine's caches make a test take up to twice as long; what never ends is waited for."""
CPU_MORE_S = 3
"""For tests of milliseconds, whose time is that of the first fixture that one of them makes."""
MEMORY = 4 << 30
"""A loop that appends for ever takes the machine's memory before its time is over; the quick tests
take less than one."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which mutants: a file with their names, and the sum of each one's module."""
    parser.addoption("--mutants", type=Path, required=True)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    """Instead of running each test once."""
    where = session.config.rootpath
    planned: dict[str, str] = json.loads(session.config.getoption("mutants").read_text())
    _never_to_the_disk()
    learned = where / "learned.json"
    _forked(lambda: learned.write_text(json.dumps(_learn(session))))
    tests: dict[str, tuple[float, list[str]] | None] = json.loads(learned.read_text())
    broken = [name for name, known in tests.items() if known is None]
    if broken:
        print(f"left out, since they fail without a change: {', '.join(broken)}")
    sum_of_tests = functools.cache(functools.partial(verdicts.sum_of_tests, where))
    by_function: dict[str, list[pytest.Item]] = {}
    for item in sorted(session.items, key=lambda item: (tests[item.nodeid] or (0.0,))[0]):
        for function in (tests[item.nodeid] or (0.0, []))[1]:
            by_function.setdefault(function, []).append(item)
    for number, (mutant, module_sum) in enumerate(planned.items(), 1):
        items = by_function.get(mangled_name_from_mutant_name(mutant), [])
        limit_s = CPU_FACTOR * sum((tests[item.nodeid] or (0.0,))[0] for item in items) + CPU_MORE_S
        said, told_by = _play(session, mutant, items, int(limit_s))
        verdicts.keep(where, Verdict(mutant, said, module_sum, told_by, sum_of_tests(told_by)))
        if said in (SURVIVED, UNTOUCHED):
            print(f"{number} of {len(planned)}: {said}: {mutant}", flush=True)
    return True


def _never_to_the_disk() -> None:
    """No test's files have to outlive a loss of power, and a disk that is asked to makes a play of
    the store's tests take twice as long.
    """
    os.fsync = lambda fd: None
    os.fdatasync = lambda fd: None


def _learn(session: pytest.Session) -> dict[str, tuple[float, list[str]] | None]:
    """Of each test how long it takes and which functions it comes by; None for one that fails."""
    found: dict[str, tuple[float, list[str]] | None] = {}
    hits: set[str] = set()
    trampoline.record_trampoline_hit = lambda name, caller=None: hits.add(name)
    trampoline.set_mutant_under_test("stats")
    for item, following in zip(session.items, [*session.items[1:], None], strict=True):
        hits.clear()
        failed, before = session.testsfailed, sum(os.times()[:2])
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        took_s = sum(os.times()[:2]) - before
        found[item.nodeid] = None if session.testsfailed > failed else (took_s, sorted(hits))
    return found


def _play(
    session: pytest.Session, mutant: str, items: Sequence[pytest.Item], limit_s: int
) -> tuple[str, str]:
    """What the tests say, and the name of the one that fails."""
    if not items:
        return UNTOUCHED, ""
    told = session.config.rootpath / "told.txt"
    told.unlink(missing_ok=True)

    def play() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s + 1))
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        trampoline.set_mutant_under_test(mutant)
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed:
                told.write_text(item.nodeid)
                return

    ended_well = _forked(play)
    if told.is_file():
        return FAILED, told.read_text()
    return (SURVIVED if ended_well else ENDED), ""


def _forked(action: Callable[[], object]) -> bool:
    """Whether the action came to its end, in a process of its own that says nothing."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            action()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
