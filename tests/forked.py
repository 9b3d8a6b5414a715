"""How does a test run TensorFlow in a process of its own without importing it anew each time?

Rule: one server process has imported TensorFlow and done nothing with it; each call is a fork of
that server. So it starts in milliseconds, with no graph, session or thread pool of another's, and
what it does ends with its process. The server never imports the project, and no TensorFlow where no
test was chosen that is marked with ``tf``.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
"""Read while TensorFlow is imported, so it's the same for all calls."""
FOR_TENSORFLOW = [
    "tensorflow.compat.v1",
    "pydantic.json_schema",
    "google.protobuf.descriptor_pb2",
    "google_crc32c",
    "tensorboard.compat.proto.meta_graph_pb2",
    "tensorboard.compat.proto.saver_pb2",
]
"""And what the project imports in most of the children that use it."""
IMPORTED = ["numpy", "pytest", "hypothesis", *FOR_TENSORFLOW]
"""By the server, once. A child imports the main module and the one that its function stands in, a
module of tests: without these it would take most of a second of a processor.
"""


def leave_tensorflow_out() -> None:
    """Before the first fork, where no test needs it."""
    IMPORTED[:] = [name for name in IMPORTED if name not in FOR_TENSORFLOW]


@dataclass(frozen=True)
class Done:
    """A program that ended: its exit code and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def fork(target: Callable[..., Any], *args: Any) -> BaseProcess:
    """A started child in which TensorFlow is imported already; ``target`` is a function of a
    module.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    before = {name: os.environ.get(name) for name in QUIET}
    os.environ.update(QUIET)
    child = context.Process(target=target, args=args, daemon=True)
    child.start()
    os.environ.update({name: value for name, value in before.items() if value is not None})
    for name in (name for name, value in before.items() if value is None):
        del os.environ[name]
    return child


def spawn(target: Callable[..., Any], *args: Any) -> BaseProcess:
    """A started child that imports TensorFlow itself and sees the GPUs."""
    hidden = os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    child = multiprocessing.get_context("spawn").Process(target=target, args=args, daemon=True)
    child.start()
    if hidden is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = hidden
    return child


def run(
    program: Path | str,
    *words: object,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    within_s: float = 180,
) -> Done:
    """Runs a file, a module by its name, or lines of code, as ``python program words`` would.

    Raises:
        TimeoutError: it was killed after ``within_s``.
    """
    with tempfile.TemporaryDirectory(prefix="forked-") as scratch:
        out, err = Path(scratch, "out"), Path(scratch, "err")
        child = fork(
            _program,
            str(program),
            [str(word) for word in words],
            str(cwd),
            dict(env or {}),
            str(out),
            str(err),
        )
        child.join(within_s)
        if child.exitcode is None:
            child.kill()
            child.join()
            raise TimeoutError(
                f"{program} {words} took longer than {within_s} s:\n{err.read_text()[-4000:]}"
            )
        return Done(child.exitcode, out.read_text(), err.read_text())


def _program(
    program: str, words: list[str], cwd: str, env: Mapping[str, str], out: str, err: str
) -> None:
    for path, descriptor in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND), descriptor)
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = [program, *words]
    code = 0
    try:
        if "\n" in program:
            exec(compile(program, "<test>", "exec"), {"__name__": "__main__"})
        elif program.endswith(".py"):
            runpy.run_path(program, run_name="__main__")
        else:
            runpy.run_module(program, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does at its end
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # no handlers of the server's that this is a fork of
