"""Who starts the driver again when it dies, and who owns the local Ray?

Rule: a small parent process that imports neither Ray nor TensorFlow. The driver is a copy of it.
Where no ``--address`` is given, it starts a local Ray in a process of its own beside it, so that a
driver that is killed takes nothing with it: the next one finds the workers alive.

::

    supervisor ┬─ driver (a copy)                 started again when it's killed
               └─ local Ray (launch.local_ray)    both end with the supervisor
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn

from orchestrator.config import RunConfig
from orchestrator.decide.driver_restarts import (
    CRASHED,
    DRIVER_DEATH,
    MOST_DEATHS,
    Death,
    End,
    after_exit,
)
from orchestrator.decide.room import cpus_of_local_ray
from orchestrator.errors import Preempted
from orchestrator.exit_codes import ended_text
from orchestrator.lifetimes import end_with

log = logging.getLogger("tfresume")

ADDRESS_FILE = "TFRESUME_ADDRESS_FILE"
RAY_END_S = 15.0
"""Longest wait for the local Ray to end: it ends its workers one after the other, some seconds on a
busy machine, and is killed after that.
"""


def supervise(
    drive: Callable[[], int],
    config: RunConfig,
    *,
    gave_up: Callable[[End], None] | None = None,
) -> int:
    """Run the driver until it ends by itself.

    Args:
        drive: the driver, run in a copy of this process; returns its exit code.
        gave_up: told when the end is this process's decision and not the driver's own, which then
            has given no answer.

    Returns:
        The driver's exit code; 1 where it died too often, 130 or 143 where it was killed while it
        was stopping.
    """
    with tempfile.TemporaryDirectory(prefix="tfresume-") as scratch:
        environment: dict[str, str] = {}
        local = None
        if config.address is None:
            address, token = (
                Path(scratch) / "address",
                _own_token(Path(scratch) / "token", os.environ),
            )
            environment = token | {ADDRESS_FILE: str(address)}
            local = LocalRay(address, config, token)

        def driver() -> int:
            if local is not None:
                local.let_go()
            os.environ.update(environment)
            return drive()

        try:
            return _Supervisor(driver, gave_up=gave_up).run()
        finally:
            if local is not None:
                local.close()


def _idle_end(_number: int, _frame: FrameType | None) -> NoReturn:
    """SIGTERM while nothing is trained: a run that has begun takes the signal over, and saves."""
    raise Preempted(
        "ended by SIGTERM while nothing was being trained",
        remedy="The same command starts it, or goes on",
    )


def _own_token(file: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """What lets the driver into the local Ray, and nobody else: variables for both.

    Ray guards what ``ray.init`` starts by a token of its own making, but shows none to a server
    that is named by its address, as our driver names it. Who has chosen a mode is left alone.
    """
    if "RAY_AUTH_MODE" in environment:
        return {}
    file.touch(mode=0o600)
    file.write_text(secrets.token_hex(32))
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(file)}


class LocalRay:
    """A Ray of this run's own, in a process that ends when we do."""

    def __init__(self, address_file: Path, config: RunConfig, variables: Mapping[str, str]) -> None:
        self.address_file = address_file
        workers = config.workers
        cpus = cpus_of_local_ray(
            workers.largest + workers.standby, workers.cpus, os.cpu_count() or 1
        )
        command = [sys.executable, "-m", "launch.local_ray", str(address_file), str(cpus)]
        # Its stdin is how it learns of our end, however that comes about
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            process_group=0,
        )

    def let_go(self) -> None:
        """In a copy of this process: leave it to the original to end it."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def close(self) -> None:
        """End it. One that isn't up yet is killed: its children die with it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        if not self.address_file.exists():
            self._process.kill()
        try:
            self._process.wait(RAY_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Supervisor:
    def __init__(
        self,
        drive: Callable[[], int],
        sleep: Callable[[float], None] = time.sleep,
        gave_up: Callable[[End], None] | None = None,
    ) -> None:
        self._drive, self._sleep, self._gave_up = drive, sleep, gave_up
        self._driver: int | None = None
        self._stopping_code: int | None = None

    def run(self) -> int:
        before = {
            number: signal.signal(number, self._pass_on)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            return self._run()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _run(self) -> int:
        deaths: tuple[tuple[float, float], ...] = ()
        death: Death | None = None
        while True:
            began_s = time.monotonic()
            driver = forked(self._drive if death is None else partial(self._drive_after, death))
            self._driver = driver.process
            code, chosen = driver.wait()
            self._driver = None
            now_s = time.monotonic()
            answer = after_exit(
                code, now_s - began_s, self._stopping_code, deaths, now_s, chosen=chosen
            )
            if isinstance(answer, End):
                if answer.reason:
                    log.error("%s", answer.reason)
                    if self._gave_up is not None:
                        self._gave_up(answer)
                return answer.code
            log.warning(
                "the driver died (%s); starting it again in %.1f s (restart %d of %d within an hour), its workers go on",
                ended_text(code),
                answer.delay_s,
                len(answer.deaths),
                MOST_DEATHS,
            )
            deaths, death = answer.deaths, answer.death(code)
            self._sleep(answer.delay_s)
            if self._stopping_code is not None:
                return self._stopping_code

    def _drive_after(self, death: Death) -> int:
        os.environ[DRIVER_DEATH] = str(death)
        return self._drive()

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        self._stopping_code = 143 if number == signal.SIGTERM else 130
        if self._driver is not None:
            os.kill(self._driver, number)


@dataclass(frozen=True)
class Copy:
    """A copy of this process. ``ending``: where it says, in one byte, with which code it ends;
    silence is no choice of its own.
    """

    process: int
    ending: int

    def wait(self) -> tuple[int, bool]:
        """Its exit code, negative for a signal, and whether it chose that."""
        _, status = os.waitpid(self.process, 0)
        os.set_blocking(self.ending, False)  # a process that it left behind may hold the other end
        try:
            said = os.read(self.ending, 1)
        except BlockingIOError:
            said = b""
        finally:
            os.close(self.ending)
        return (said[0], True) if said else (os.waitstatus_to_exitcode(status), False)


def forked(drive: Callable[[], int]) -> Copy:
    """A copy of this process that runs ``drive`` and ends with its exit code, which is chosen
    unless it's ``CRASHED``.

    A copy has imported already what the command line needed, 0.4 s on the way to the first step.
    This process has one thread and neither Ray nor TensorFlow, so that there is nothing in it that
    a copy couldn't go on with.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    original = os.getpid()
    ending, say = os.pipe()
    process = os.fork()
    if process:
        os.close(say)
        return Copy(process, ending)
    code = CRASHED
    try:
        # Ray's job server kills the process group of a job that it has lost, which the driver is not
        # in; a driver left over would hold the run against the job that is submitted in its place.
        # That one finds the workers alive.
        end_with(original)
        # a group of its own, so that Ctrl-C at a terminal reaches it once, through us
        os.setpgid(0, 0)
        signal.signal(signal.SIGTERM, _idle_end)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = drive()
        sys.stdout.flush()
        if code != CRASHED:
            os.write(say, bytes([code]))
    except BaseException:
        log.exception("the driver met an error of its own")
    finally:  # whatever happens, a copy must not go on with its original's work
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
