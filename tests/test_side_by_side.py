"""Is every test run once and told, whatever becomes of the process that runs it?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT
from tests.training.deaths import wait_until

pytestmark = pytest.mark.slow

FILE = """
import os, time
from pathlib import Path
import pytest

LOG = Path({log!r})

def note(text):
    with LOG.open("a") as file:
        file.write(f"{{text}} {{os.getpid()}}\\n")

@pytest.fixture(scope="module")
def shared():
    note("made {name}")
    yield
    note("unmade {name}")

"""
FOR_ALL = """
import os
from pathlib import Path
import pytest

@pytest.fixture(scope="session", autouse=True)
def for_all():
    with Path({log!r}).open("a") as file:
        file.write(f"for all {{os.getpid()}}\\n")
    yield
    with Path({log!r}).open("a") as file:
        file.write(f"over {{os.getpid()}}\\n")
"""
Told = Callable[[], list[list[str]]]


@pytest.fixture
def told(tmp_path: Path) -> Told:
    """What the tests noted, each with the process that it ran in."""
    return lambda: [line.split() for line in (tmp_path / "log").read_text().splitlines()]


def written(directory: Path, name: str, tests: str) -> None:
    """A file of tests, which ``note`` what they do, in a package of its own."""
    head = FILE.format(log=str(directory / "log"), name=name)
    (directory / name).mkdir()
    (directory / name / "__init__.py").touch()
    (directory / name / f"test_{name}.py").write_text(head + tests)


def started(directory: Path, *words: str) -> subprocess.Popen[str]:
    """A run of these files by two forks, in a session of its own."""
    (directory / "log").touch()
    (directory / "pytest.ini").write_text("[pytest]\n")
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "pytest", "-p", "tests.side_by_side", "-p", "no:cacheprovider"),
            *("-q", "--processes", "2", *words, str(directory)),
        ],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def output(run: subprocess.Popen[str]) -> str:
    return run.communicate(timeout=120)[0]


BOTH = """
def test_at_the_same_time(shared):
    note("{name}")
    deadline = time.monotonic() + 60
    while "\\n{other} " not in "\\n" + LOG.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)

def test_that_ends(tmp_path):
    note("end of {name}")
    (tmp_path / "file").touch()
"""


def test_each_test_is_run_once_by_two_processes_and_told(tmp_path: Path, told: Told) -> None:
    written(tmp_path, "a", BOTH.format(name="a", other="b"))
    written(tmp_path, "b", BOTH.format(name="b", other="a"))
    written(tmp_path, "c", "def test_that_fails(shared):\n    note('c')\n    assert 3 == 4\n")
    written(tmp_path, "d", "def test_that_skips(shared):\n    pytest.skip('why it does')\n")
    (tmp_path / "conftest.py").write_text(FOR_ALL.format(log=str(tmp_path / "log")))
    run = started(tmp_path, "-rs")
    text = output(run)
    assert run.returncode == 1
    assert "assert 3 == 4" in text
    assert "why it does" in text
    assert "1 failed, 4 passed, 1 skipped" in text
    noted = [(" ".join(words), pid) for *words, pid in told()]
    assert len(noted) == len(set(noted)), "each once, and what all files share once a process"
    of = dict(noted)
    pids = {pid for _, pid in noted}
    assert pids == {pid for text, pid in noted if text == "for all"}
    assert pids == {pid for text, pid in noted if text == "over"}
    assert len(pids) == 2
    assert of.keys() >= {"a", "b", "c", "end of a", "end of b", "made a", "unmade d"}
    assert of["a"] != of["b"]
    assert all(of[f"made {name}"] == of[f"unmade {name}"] for name in "abcd")
    assert of["made a"] == of["a"] == of["end of a"], "a file's tests stay together"


def test_process_that_dies_is_told_by_the_test_that_it_ran(tmp_path: Path, told: Told) -> None:
    written(tmp_path, "a", "def test_that_dies():\n    os._exit(7)\n")
    written(tmp_path, "b", "def test_of_another_file():\n    note('b')\n")
    run = started(tmp_path)
    text = output(run)
    assert run.returncode == 1
    assert "test_a.py::test_that_dies" in text
    assert "the process that ran it ended with 7" in text
    assert [words[0] for words in told()] == ["b"]


FAILS_BESIDE = """
def test_that_fails_while_the_other_runs():
    deadline = time.monotonic() + 60
    while "\\na " not in LOG.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert 3 == 4
"""


def test_run_that_is_to_end_with_the_first_failure_ends(tmp_path: Path, told: Told) -> None:
    written(
        tmp_path,
        "a",
        "def test_that_takes_long(shared):\n    note('a')\n    time.sleep(90)\n    note('end')\n",
    )
    written(tmp_path, "b", FAILS_BESIDE)
    run = started(tmp_path, "-x")
    text = output(run)
    assert run.returncode == 1
    assert "stopping after 1 failures" in text
    assert [" ".join(words) for *words, _ in told()] == ["made a", "a", "unmade a"]


def test_file_that_cannot_be_collected_ends_the_run(tmp_path: Path, told: Told) -> None:
    written(tmp_path, "a", "import nothing_of_the_kind\n")
    written(tmp_path, "b", "def test_of_another_file():\n    note('b')\n")
    run = started(tmp_path)
    assert "nothing_of_the_kind" in output(run)
    assert (run.returncode, told()) == (2, [])


def test_run_that_is_interrupted_leaves_no_process(tmp_path: Path, told: Told) -> None:
    for name in "ab":
        written(
            tmp_path, name, "def test_of_a_minute(shared):\n    note('begun')\n    time.sleep(90)\n"
        )
    run = started(tmp_path)
    wait_until(lambda: [words[0] for words in told()].count("begun") == 2, within_s=60.0)
    os.killpg(run.pid, signal.SIGINT)
    text = output(run)
    assert "KeyboardInterrupt" in text
    assert "Traceback" not in text
    assert run.returncode == 2
    assert {" ".join(words) for *words, _ in told()} >= {"unmade a", "unmade b"}
    assert not any(psutil.pid_exists(int(words[-1])) for words in told())
