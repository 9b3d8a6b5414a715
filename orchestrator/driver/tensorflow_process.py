"""How is TensorFlow asked for something by a process that never imports it?

Rule: a process of its own reads the task and writes the answer, or ``ANSWER.error`` with an error
that is raised here as if it had been met here. Whatever else ends it is told with its last words.
"""

from __future__ import annotations

import json
import pickle
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator import errors
from orchestrator.errors import FatalError, OrchestratorError


def ask_tensorflow(
    module: str, task: Mapping[str, Any], answer: Path, timeout_s: float, *more: str
) -> None:
    """Have ``python -m module TASK ANSWER MORE`` write the answer.

    Args:
        task: what is pickled for it.
        answer: in a directory of its own, where the task is written too.
        more: further words of its command.

    Raises:
        OrchestratorError: of the kind that the process told.
        FatalError: it died, or was ended after ``timeout_s``.
    """
    given = answer.with_name("task.pickle")
    given.write_bytes(pickle.dumps(dict(task)))
    command = [sys.executable, "-m", module, str(given), str(answer), *more]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as late:
        raise FatalError(
            f"the TensorFlow process took more than {timeout_s:g} s and was ended",
            remedy="Ask for fewer batches or steps, or see whether the input waits for what never comes",
        ) from late
    told = Path(f"{answer}.error")
    if told.exists():
        said = json.loads(told.read_text())
        kind: type[OrchestratorError] = getattr(errors, str(said["kind"]), OrchestratorError)
        raise kind(said["message"], remedy=said["remedy"], details=said["details"])
    if done.returncode == -signal.SIGKILL:
        raise FatalError(
            "the TensorFlow process was killed, most likely for its memory",
            remedy="Ask again on a machine with more memory, or with smaller batches",
        )
    if done.returncode or not answer.exists():
        last_words = done.stderr.strip()[-2000:] or f"exit code {done.returncode}"
        raise FatalError(
            f"the TensorFlow process failed: {last_words}",
            remedy="See whether TensorFlow works on this machine: `tfresume doctor` tries it",
        )
