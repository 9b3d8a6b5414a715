"""Who starts the driver again when it dies, and who owns the local Ray?

Rule: a small parent process that imports neither Ray nor TensorFlow. It starts the driver, and, where no ``--address`` is given, a local Ray
in a process of its own beside it, so that a driver that is killed takes nothing with it: the next one finds the workers alive.

::

    supervisor ── driver (tfresume resume, TFRESUME_SUPERVISED=PID)      started again when it's killed
               └─ local Ray (launch.local_ray)                         ends with the supervisor
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from orchestrator.config import RunConfig
from orchestrator.decide.restarts import End, after_exit

log = logging.getLogger("tfresume")

SUPERVISED = "TFRESUME_SUPERVISED"
ADDRESS_FILE = "TFRESUME_ADDRESS_FILE"
RAY_END_S = 15.0
_PR_SET_PDEATHSIG = 1


def supervise(
    words: Sequence[str],
    config: RunConfig,
    *,
    command: Sequence[str] | None = None,
    gave_up: Callable[[End], None] | None = None,
) -> int:
    """Run ``tfresume resume WORDS`` until it ends by itself.

    Args:
        words: the command's own arguments.
        command: what the driver is started with, instead of ``tfresume resume``.
        gave_up: told when the end is this process's decision and not the driver's own, which then has given no answer.

    Returns:
        The driver's exit code; 1 where it died too often, 130 or 143 where it was killed while it was stopping.
    """
    driver = list(command) if command is not None else [sys.executable, "-m", "launch.cli", "resume"]
    with tempfile.TemporaryDirectory(prefix="tfresume-") as scratch:
        local = LocalRay(Path(scratch) / "address", config) if config.address is None else None
        environment = {**os.environ, SUPERVISED: str(os.getpid())} | ({ADDRESS_FILE: str(local.address_file)} if local else {})
        try:
            return _Supervisor([*driver, *words], environment, gave_up=gave_up).run()
        finally:
            if local is not None:
                local.close()


def end_with_supervisor() -> None:
    """Called by the driver: if its supervisor is killed, it's killed too.

    Ray's job server kills the process group of a job that it has lost, which the driver is not in; a driver left over would hold the run
    against the job that is submitted in its place. That one finds the workers alive. Where the kernel has no such signal, nothing is done.
    """
    supervisor = os.environ.get(SUPERVISED, "")
    if not sys.platform.startswith("linux") or not supervisor.isdigit():
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(supervisor):
        os.kill(os.getpid(), signal.SIGKILL)  # it was gone before we asked


class LocalRay:
    """A Ray of this run's own, in a process that ends when we do."""

    def __init__(self, address_file: Path, config: RunConfig) -> None:
        self.address_file = address_file
        command = [sys.executable, "-m", "launch.local_ray", str(address_file), config.workers.model_dump_json()]
        # Its stdin is how it learns of our end, however that comes about
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, process_group=0)

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
        command: list[str],
        environment: dict[str, str],
        sleep: Callable[[float], None] = time.sleep,
        gave_up: Callable[[End], None] | None = None,
    ) -> None:
        self._command, self._environment, self._sleep, self._gave_up = command, environment, sleep, gave_up
        self._driver: subprocess.Popen[bytes] | None = None
        self._stopping_code: int | None = None

    def run(self) -> int:
        before = {number: signal.signal(number, self._pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            return self._run()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _run(self) -> int:
        deaths: tuple[tuple[float, float], ...] = ()
        while True:
            began_s = time.monotonic()
            # A group of its own, so that Ctrl-C at a terminal reaches it once, through us
            self._driver = subprocess.Popen(self._command, env=self._environment, process_group=0)
            code = self._driver.wait()
            now_s = time.monotonic()
            answer = after_exit(code, now_s - began_s, self._stopping_code, deaths, now_s)
            if isinstance(answer, End):
                if answer.reason:
                    log.error("%s", answer.reason)
                    if self._gave_up is not None:
                        self._gave_up(answer)
                return answer.code
            log.warning("the driver died (%s); starting it again in %.1f s, its workers go on", code, answer.delay_s)
            deaths = answer.deaths
            self._sleep(answer.delay_s)
            if self._stopping_code is not None:
                return self._stopping_code

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        self._stopping_code = 143 if number == signal.SIGTERM else 130
        if self._driver is not None and self._driver.poll() is None:
            self._driver.send_signal(number)
