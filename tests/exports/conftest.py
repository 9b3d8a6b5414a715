"""What tests of exports share."""

from __future__ import annotations

import os
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
        python_m, module, *words = command[1:]
        assert python_m == "-m"
        # A fork is the server's child: it can't end with this process, and does with the server
        asker = str(os.getpid())
        words = [word for word in words if word != asker]
        done = forked.run(module, *words, within_s=timeout)
        return subprocess.CompletedProcess(command, done.returncode, done.stdout, done.stderr)


@pytest.fixture
def forked_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that compares graphs need not import TensorFlow each time."""
    monkeypatch.setattr(tensorflow_process, "subprocess", ForkedProcesses())
