"""How are hundreds of mutants played without collecting the tests for each? (A plugin of pytest.)

Rule: the tests are collected once, and everything is played in a fork of that session. The first
plays each test without a change (``learning.py``). Then each mutant has a fork that plays all tests
that come by its change, to the first that fails. A fork may use CPU_FACTOR times the time that its
tests took, and MEMORY: where it ends at one of these, that tells the mutant as a failing test does.

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

from tests.mutants import learning, verdicts
from tests.mutants.learning import Order, Planned
from tests.mutants.verdicts import ENDED, FAILED, SURVIVED, UNTOUCHED, Verdict

CPU_FACTOR = 3
"""A busy machine's caches make a test take up to twice as long; what never ends is waited for."""
CPU_MORE_S = 3
"""For tests of milliseconds, whose time is that of the first fixture that one of them makes."""
MEMORY = 4 << 30
"""A loop that appends for ever takes the machine's memory before its time is over; the quick tests
take less than one."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which mutants: a file with what is to be known of each, and the files that are changed."""
    parser.addoption("--mutants", type=Path, required=True)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Instead of running each test once."""
    if session.testsfailed:
        return None  # some weren't collected: pytest's own loop says so and ends
    where = session.config.rootpath
    plan = json.loads(session.config.getoption("mutants").read_text())
    planned = {mutant: Planned(*fields) for mutant, fields in plan["mutants"].items()}
    _never_to_the_disk()
    kept = where / "learned.json"
    if not _forked(lambda: learning.learn(session.items, plan["files"], kept)):
        raise pytest.UsageError("the tests didn't come to their end without a change")
    learned = {name: known for name, (_, known) in learning.recalled(kept).items()}
    if broken := [name for name, known in learned.items() if not known.passes]:
        print(f"left out, since they fail without a change: {', '.join(broken)}")
    _play_all(session, planned, Order(learned))
    return True


def _play_all(session: pytest.Session, planned: dict[str, Planned], order: Order) -> None:
    where = session.config.rootpath
    items = {item.nodeid: item for item in session.items}
    sum_of_tests = functools.cache(functools.partial(verdicts.sum_of_tests, where))
    for number, (mutant, each) in enumerate(planned.items(), 1):
        tests = order.of(mutant, each)
        took_s = sum(order.learned[name].took_s for name in tests)
        limit_s = int(CPU_FACTOR * took_s) + CPU_MORE_S
        said, told_by = _play(session, mutant, [items[name] for name in tests], limit_s)
        if told_by:
            order.note(mutant, told_by)
        verdicts.keep(where, Verdict(mutant, said, each.module_sum, told_by, sum_of_tests(told_by)))
        if said in (SURVIVED, UNTOUCHED):
            print(f"{number} of {len(planned)}: {said}: {mutant}", flush=True)


def _never_to_the_disk() -> None:
    """No test's files have to outlive a loss of power, and a disk that is asked to makes a play of
    the store's tests take twice as long.
    """
    os.fsync = lambda fd: None
    os.fdatasync = lambda fd: None


def _play(
    session: pytest.Session, mutant: str, items: Sequence[pytest.Item], limit_s: int
) -> tuple[str, str]:
    """What the tests say, and the name of the one that fails."""
    if not items:
        return UNTOUCHED, ""
    # Another session's fork may still be under way here, whose session was ended
    told = session.config.rootpath / f"told-{os.getpid()}.txt"
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
