"""Where does a trial of a group's first step run, and how does its answer come back?

Rule: in a process of its own, since the driver never imports TensorFlow: on this machine where the
workers will be here, else in a Ray actor with a worker's resources. Whatever ends it becomes an
answer too, with the reason.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.config import RunConfig
from orchestrator.store.objects.private import private_directory, scratch

MODULE = "orchestrator.training.proof.measuring"
WITHIN_S = 600.0
"""Longest time for a trial, staging and import included: it tries a few steps. Beyond it the run
begins unproved and says so, rather than not at all.
"""


class Asker:
    """The actor that tries it where the workers will be."""

    def ask(self, task: bytes) -> dict[str, Any]:
        """What ``ask`` gives."""
        return ask(task)


def asked_of_ray(task: Mapping[str, Any], config: RunConfig) -> dict[str, Any]:
    """The answer of an actor that has a worker's resources.

    An actor, since it can be ended at any moment. To cancel a task that is done, or nearly, aborts
    the driver: Ray fails the task and then gets its reply ("Tried to complete task that was not
    pending", ``core_worker/task_manager.cc`` of Ray 2.60).
    """
    import ray

    needs = {"num_cpus": config.workers.cpus, "num_gpus": config.workers.gpus}
    asker = ray.remote(**needs, max_restarts=0)(Asker).remote()
    try:
        found: dict[str, Any] = ray.get(
            asker.ask.remote(pickle.dumps(dict(task))), timeout=WITHIN_S
        )
    except ray.exceptions.RayError as error:
        return {"how": "none", "reason": f"the actor that tried it failed: {error}"}
    finally:
        ray.kill(asker, no_restart=True)
    return found


def ask(task: bytes, begun: Any = None) -> dict[str, Any]:
    """The trial's answer, from a process that may import TensorFlow.

    Args:
        task: the pickled fields of ``TrialTask``, but for ``cache``, which is this machine's.
        begun: told the process.
    """
    with scratch("proof") as room:
        given, answer = room / "task.pickle", room / "answer.json"
        fields = pickle.loads(task) | {"cache": private_directory("tfresume-cache")}
        given.write_bytes(pickle.dumps(fields))
        command = [sys.executable, "-m", MODULE, str(given), str(answer), str(os.getpid())]
        # A Ray actor finds the user's modules where its driver does, which its environment doesn't say
        found = os.pathsep.join(entry for entry in sys.path if entry)
        child = subprocess.Popen(
            command,
            env=os.environ | {"PYTHONPATH": found},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if begun is not None:
            begun(child)
        try:
            _, errors = child.communicate(timeout=WITHIN_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            return {"how": "none", "reason": f"it took more than {WITHIN_S:.0f} s"}
        return _answer(answer, child.returncode, errors)


def _answer(answer: Path, code: int, errors: str) -> dict[str, Any]:
    if code == -signal.SIGKILL:
        return {
            "how": "none",
            "reason": "the process that tried it was killed, most likely for its memory",
        }
    if code or not answer.exists():
        lines = errors.strip().splitlines()
        said = lines[-1] if lines else "without a word"
        return {"how": "none", "reason": f"the process that tried it died with code {code}: {said}"}
    found: dict[str, Any] = json.loads(answer.read_text())
    return found
