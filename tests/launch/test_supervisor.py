"""Is a killed driver started again, and is everything else passed on?"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from orchestrator.decide.driver_restarts import Death
from tests.turns import quick_in_turn

pytestmark = pytest.mark.slow  # each starts processes

ROOT = Path(__file__).resolve().parents[2]

SUPERVISOR = """
import sys
from launch.supervisor import supervise
from orchestrator.config import parse_config
config = parse_config({"source": "s", "output": "o", "address": "auto"})
driver, *sys.argv[1:] = sys.argv[1:]

def drive():
    try:
        exec(driver, {})
    except SystemExit as end:
        return end.code
    return 0

sys.exit(supervise(drive, config))
"""

DIES_ONCE = """
import os, pathlib, sys
here = pathlib.Path(sys.argv[1])
lives = len(list(here.iterdir()))
(here / str(lives)).write_text(str(os.getppid()))
os.kill(os.getpid(), 9) if lives == 0 else sys.exit(0)
"""

WAITS = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path(sys.argv[1], "saved").touch(), sys.exit(143)))
pathlib.Path(sys.argv[1], "ready").touch()
time.sleep(60)
"""


def start(driver: str, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SUPERVISOR, driver, *words], cwd=ROOT)


def wait_for(path: Path, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} didn't come"
        time.sleep(0.02)


def test_supervisor_starts_a_killed_driver_again(tmp_path: Path) -> None:
    assert start(DIES_ONCE, str(tmp_path)).wait(30) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


FAILS_ONCE = """
import pathlib, sys
here = pathlib.Path(sys.argv[1])
lives = len(list(here.iterdir()))
(here / str(lives)).touch()
if lives == 0:
    raise KeyError("a bug")
"""

LEAVES_ONCE = """
import os, pathlib, sys
here = pathlib.Path(sys.argv[1])
lives = len(list(here.iterdir()))
(here / str(lives)).touch()
if lives == 0:
    raise BaseException("as when a library ends the process")
"""


ENDED_BY_A_LIBRARY_ONCE = """
import os, pathlib, sys
here = pathlib.Path(sys.argv[1])
lives = len(list(here.iterdir()))
(here / str(lives)).touch()
if lives == 0:
    os._exit(1)  # as Ray does, when its cluster is lost
"""


@pytest.mark.parametrize(
    "driver", quick_in_turn([FAILS_ONCE, LEAVES_ONCE, ENDED_BY_A_LIBRARY_ONCE], 3)
)
def test_supervisor_starts_a_driver_again_that_met_an_error_of_its_own(
    driver: str, tmp_path: Path
) -> None:
    assert start(driver, str(tmp_path)).wait(30) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


@pytest.mark.parametrize("code", quick_in_turn([0, 1, 2, 130, 143], 5))
def test_supervisor_passes_a_chosen_exit_code_on(code: int, tmp_path: Path) -> None:
    assert start(f"import sys; sys.exit({code})").wait(30) == code


def test_supervisor_hands_a_signal_to_its_driver_and_waits_for_the_last_save(
    tmp_path: Path,
) -> None:
    process = start(WAITS, str(tmp_path))
    wait_for(tmp_path / "ready")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    assert (tmp_path / "saved").exists()


IDLE = """
import pathlib, sys, time
pathlib.Path(sys.argv[1], "ready").touch()
time.sleep(60)
"""

DRIVES_GUARDED = """
def drive():
    from launch.terminal import guarded
    return guarded(work, as_json=True)

def work():"""
GUARDED = SUPERVISOR.replace("def drive():", DRIVES_GUARDED)


def test_sigterm_before_anything_began_speaks_of_no_save_and_is_answered(tmp_path: Path) -> None:
    command = [sys.executable, "-c", GUARDED, IDLE, str(tmp_path)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(tmp_path / "ready")
    process.send_signal(signal.SIGTERM)
    answer, said = process.communicate(timeout=120)
    assert process.returncode == 143
    assert json.loads(answer)["status"] == "stopped"
    assert "while nothing was being trained" in said
    assert "save" not in said


@pytest.mark.slow
def test_supervisor_gives_a_driver_up_that_dies_at_every_start() -> None:
    began_s = time.monotonic()
    assert start("import os; os.kill(os.getpid(), 9)").wait(60) == 1
    assert time.monotonic() - began_s < 50


WAITS_FOR_EVER = """
import os, pathlib, sys, time
pathlib.Path(sys.argv[1], "pid.new").write_text(str(os.getpid()))
os.replace(sys.argv[1] + "/pid.new", sys.argv[1] + "/pid")
time.sleep(60)
"""


def test_driver_is_killed_when_its_supervisor_is(tmp_path: Path) -> None:
    process = start(WAITS_FOR_EVER, str(tmp_path))
    wait_for(tmp_path / "pid")
    driver = psutil.Process(int((tmp_path / "pid").read_text()))
    process.kill()
    process.wait(10)
    assert psutil.wait_procs([driver], timeout=60)[1] == []


TELLS_OF_ITS_PREDECESSOR = """
import os, pathlib, sys
here = pathlib.Path(sys.argv[1])
lives = len(list(here.iterdir()))
(here / str(lives)).write_text(os.environ.get("TFRESUME_DRIVER_DEATH", "nobody"))
os.kill(os.getpid(), 9) if lives == 0 else os._exit(7) if lives == 1 else sys.exit(0)
"""


def test_driver_is_told_how_the_one_before_it_ended_and_which_restart_it_is(
    tmp_path: Path,
) -> None:
    assert start(TELLS_OF_ITS_PREDECESSOR, str(tmp_path)).wait(120) == 0
    told = [path.read_text() for path in sorted(tmp_path.iterdir())]
    assert told[0] == "nobody"
    assert [Death.parse(text) for text in told[1:]] == [Death(-9, 1), Death(7, 2)]
