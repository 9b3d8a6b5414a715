"""What tests of exports share."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Any

import pytest

from orchestrator.driver import tensorflow_process
from tests import forked


class ForkedProcesses:
    """``subprocess`` whose ``python -m MODULE WORDS`` is a fork in which TensorFlow is imported."""

    TimeoutExpired = subprocess.TimeoutExpired

    def run(
        self, command: Sequence[str], *, timeout: float, **_: Any
    ) -> subprocess.CompletedProcess[str]:
        """As ``subprocess.run``."""
        python_m, module, task, answer, *_parent = command[1:]
        assert python_m == "-m"
        # without its parent, with which it would end: a fork's is the server of forks
        done = forked.run(module, task, answer, within_s=timeout)
        return subprocess.CompletedProcess(command, done.returncode, done.stdout, done.stderr)


@pytest.fixture
def forked_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that compares graphs need not import TensorFlow each time."""
    monkeypatch.setattr(tensorflow_process, "subprocess", ForkedProcesses())
