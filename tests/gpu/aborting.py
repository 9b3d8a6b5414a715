"""What does TensorFlow report of an all-reduce that hangs inside NCCL until it is aborted?

Rule: a library with NCCL's name, compiled here, stands in its place (``spinning_nccl.c``). It's
preloaded, since the loader takes what has the name already. The session's own time limit cancels
the run, and that aborts the collective.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.gpu.parts import RESULT_LINE
from tests.gpu.settings import NotRun, Setting

SOURCE = Path(__file__).with_name("spinning_nccl.c")
CANCEL_AFTER_MS = 10_000
NO_COMPILER = "no compiler: gcc or cc is needed for the library that stands for NCCL"


def compile_library(directory: Path) -> Path:
    """The library that spins.

    Raises:
        NotRun: there's no compiler.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise NotRun(NO_COMPILER)
    made = directory / "libnccl.so.2"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-Wl,-soname,libnccl.so.2", "-o", made, SOURCE, "-ldl"],
        check=True,
    )
    return made


def aborted_all_reduce(setting: Setting) -> dict[str, Any]:
    """Error class, its text, and what the library saw."""
    library, log = compile_library(setting.scratch), setting.scratch / "seen"
    if not setting.gpu:
        raise NotRun("no card: TensorFlow calls NCCL for a GPU only (the library was compiled)")
    preloaded = {"LD_PRELOAD": str(library), "SPINNING_NCCL_LOG": str(log)}
    words = [sys.executable, "-m", "tests.gpu.aborting"]
    done = subprocess.run(
        words, env=os.environ | preloaded, stdout=subprocess.PIPE, text=True, check=False
    )
    seen = log.read_text().split() if log.exists() else []
    if "spinning" not in seen:
        raise RuntimeError(
            f"the library was never reached: {seen}, exit code {done.returncode}, {done.stdout[-500:]}"
        )
    told = [
        line.removeprefix(RESULT_LINE)
        for line in done.stdout.splitlines()
        if line.startswith(RESULT_LINE)
    ]
    outcome = (
        json.loads(told[-1]) if told else {"error": f"the process ended with {done.returncode}"}
    )
    return {**outcome, "seen by the library": seen}


def main() -> None:
    """In a process that has the library preloaded: reduce, and print what came out. It leaves at
    once: a stream may hang still.
    """
    import tensorflow.compat.v1 as tf

    from tests.gpu.timings import collective_session

    session, wanted = collective_session(1, gpu=True)
    try:
        session.run(wanted, options=tf.RunOptions(timeout_in_ms=CANCEL_AFTER_MS))
        outcome = {"error": "none: the aborted all-reduce was reported as done"}
    except tf.errors.OpError as error:
        outcome = {"error": type(error).__name__, "text": str(error)[:500]}
    print(RESULT_LINE + json.dumps(outcome), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
