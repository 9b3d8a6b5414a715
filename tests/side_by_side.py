"""How are thousands of quick tests run on all cores and yet collected once? (A plugin of pytest.)

Rule: with ``--processes N`` the session collects as ever and then forks N times. Each fork takes
file after file, so that what a module's tests share is made once, and tells the session its
reports. pytest-xdist starts processes that each import and collect everything, which the quick
tests took a quarter longer with; what takes seconds stays with it, since it keeps the order of
files (decision 43).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from itertools import groupby
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any

import pytest

ENDS = (signal.SIGINT, signal.SIGTERM)
FORK = multiprocessing.get_context("fork")


def pytest_addoption(parser: pytest.Parser) -> None:
    """How many."""
    parser.addoption("--processes", type=int, default=0, help="forks that run the tests")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Instead of running one test after the other."""
    count = session.config.getoption("processes")
    if not count or session.testsfailed or session.config.getoption("collectonly"):
        return None  # pytest's own loop says what couldn't be collected
    files = [list(items) for _, items in groupby(session.items, key=lambda item: item.path)]
    following = FORK.Value("i", 0)
    # One for all: each fork has a directory below it, as each process of pytest-xdist has
    session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    forks: dict[Connection, ForkProcess] = {}
    try:
        for number in range(count):
            reader, writer = FORK.Pipe(duplex=False)
            forks[reader] = FORK.Process(
                target=_play, args=(session, number, files, following, writer), daemon=False
            )
            forks[reader].start()
            writer.close()
        _hear(session, dict(forks))
    finally:
        for fork in forks.values():
            fork.terminate()
            fork.join()
    return True


def _hear(session: pytest.Session, forks: dict[Connection, ForkProcess]) -> None:
    """Hand on what the forks tell, until the last has ended. Raises Session.Failed."""
    hook, config = session.config.hook, session.config
    begun: dict[Connection, str] = {}
    while forks:
        for reader in wait(list(forks)):
            assert isinstance(reader, Connection)
            try:
                told = reader.recv()
            except EOFError:
                fork = forks.pop(reader)
                fork.join()
                if fork.exitcode == 0:
                    continue
                report = _of_a_death(begun.get(reader, ""), fork.exitcode)
            else:
                if isinstance(told, str):
                    begun[reader] = told
                    continue
                report = hook.pytest_report_from_serializable(config=config, data=told)
            hook.pytest_runtest_logreport(report=report)
            if session.shouldfail:
                raise session.Failed(session.shouldfail)


def _of_a_death(test: str, code: int | None) -> pytest.TestReport:
    """What is left of that file's tests isn't run: the run has failed."""
    said = f"the process that ran it ended with {code}, and what it had still to run wasn't run"
    return pytest.TestReport(test, (test, None, test), {}, "failed", said, "call")


def _play(
    session: pytest.Session,
    number: int,
    files: Sequence[Sequence[pytest.Item]],
    following: Any,
    writer: Connection,
) -> None:
    """In a fork: run what it takes, and tell of it."""
    os.environ["PYTEST_XDIST_WORKER"] = f"gw{number}"
    for each in ENDS:
        signal.signal(each, _interrupted)
    config = session.config
    config.pluginmanager.unregister(name="terminalreporter")
    config.pluginmanager.register(_Teller(config, writer))
    temporary = config._tmp_path_factory  # type: ignore[attr-defined]
    temporary._basetemp = temporary.mktemp(f"gw{number}", numbered=False)
    try:
        for number in _taken(len(files), following):
            items = files[number]
            # After a file's last test what all files share is kept, which None would unmake
            for item, after in zip(items, [*items[1:], session], strict=True):
                config.hook.pytest_runtest_protocol(item=item, nextitem=after)
    except KeyboardInterrupt:
        pass  # the session says so: it has it too, or has sent it
    finally:
        session._setupstate.teardown_exact(None)
        writer.close()


def _interrupted(number: int, frame: object) -> None:
    """End the test, once: what it has started is ended with its fixtures."""
    for each in ENDS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _taken(count: int, following: Any) -> Iterator[int]:
    """The numbers of the files that this fork takes, each when it's done with the one before."""
    while True:
        with following.get_lock():
            number = following.value
            following.value += 1
        if number >= count:
            return
        yield number


class _Teller:
    """Sends what the session counts, and which test has begun: its process may end with it."""

    def __init__(self, config: pytest.Config, writer: Connection) -> None:
        self._config, self._writer = config, writer

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._writer.send(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            data = self._config.hook.pytest_report_to_serializable(
                config=self._config, report=report
            )
            self._writer.send(data)
