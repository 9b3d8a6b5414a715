"""What is looked at on a GPU machine, in which order, and what becomes of a part that fails or
hangs?

Rule: each part is a process group of its own with a deadline; its result is a file that is written
when it has ended, so that a second run goes on where the first stopped. Only a part that is done on
the same device is left out; what failed or wasn't run is tried again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.gpu.wheels import ROOT

Status = Literal["done", "failed", "not run"]
Device = Literal["gpu", "cpu"]
RESULT_LINE = "result: "
"""A part's process prints its figures on a line that begins so."""


@dataclass(frozen=True)
class Part:
    """One thing to look at.

    Attributes:
        name: as ``--only`` takes it.
        question: what it tells.
        deadline_s: its process group is killed after so long.
    """

    name: str
    question: str
    deadline_s: float


PARTS = (
    Part("tests", "do the tests that need a GPU pass", 900),
    Part("placement", "are operations saved on /job:ps and /gpu:3 placed on the GPU", 180),
    Part(
        "sharing",
        "do two workers on one GPU stay equal, and how long after a loss is the next step done",
        300,
    ),
    Part("saving", "how long does a save of the state hold up training, against Saver.save", 400),
    Part("exchange", "how long do the host's exchange and nccl in a group of one take", 400),
    Part("reforming", "does memory grow over 50 re-forms", 300),
    Part("abort", "what does an all-reduce report that is aborted inside NCCL", 180),
)


@dataclass(frozen=True)
class Result:
    """What became of a part: figures where it's done, else the reason."""

    name: str
    device: str
    status: Status
    reason: str = ""
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)


def chosen(
    only: Sequence[str], kept: Mapping[str, Result], device: Device, *, again: bool
) -> list[Part]:
    """The parts to run now, in order.

    Raises:
        ValueError: a name that no part has.
    """
    known = {part.name for part in PARTS}
    if unknown := [name for name in only if name not in known]:
        raise ValueError(
            f"no part is called {', '.join(unknown)}: choose from {', '.join(part.name for part in PARTS)}"
        )
    wanted = [part for part in PARTS if not only or part.name in only]
    return [part for part in wanted if again or not _is_done(kept.get(part.name), device)]


def _is_done(result: Result | None, device: Device) -> bool:
    return result is not None and result.status == "done" and result.device == device


def read_results(out: Path) -> dict[str, Result]:
    """Results of earlier runs by part, in the order of the parts."""
    files = {part.name: out / "results" / f"{part.name}.json" for part in PARTS}
    return {
        name: Result(**json.loads(file.read_text()))
        for name, file in files.items()
        if file.exists()
    }


def write_result(out: Path, result: Result) -> None:
    """Keep a result; a run that is stopped while it writes leaves none."""
    folder = out / "results"
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{result.name}.draft"
    draft.write_text(json.dumps(asdict(result), indent=1))
    draft.replace(folder / f"{result.name}.json")


def run_part(part: Part, device: Device, out: Path, environment: Mapping[str, str]) -> Result:
    """Run a part to its end or its deadline; its output is in ``logs/NAME.log``."""
    words = [sys.executable, "-m", "tests.gpu.measure", part.name, device, str(out)]
    log = out / "logs" / f"{part.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    code = run_within(words, part.deadline_s, log, environment)
    seconds = round(time.monotonic() - began, 1)
    text = log.read_text(errors="replace")
    if code is None:
        return Result(part.name, device, "failed", f"not over after {part.deadline_s:g} s", seconds)
    return result_of(part.name, device, code, text, seconds)


def result_of(name: str, device: Device, code: int, text: str, seconds: float) -> Result:
    """What a process that ended by itself with this code and output says."""
    told = [
        line.removeprefix(RESULT_LINE) for line in text.splitlines() if line.startswith(RESULT_LINE)
    ]
    if not told:
        last = next((line for line in reversed(text.splitlines()) if line.strip()), "no output")
        return Result(name, device, "failed", f"ended with {code}: {last.strip()[:300]}", seconds)
    said = json.loads(told[-1])
    status: Status = "failed" if code else said["status"]
    return Result(name, device, status, said["reason"], seconds, said["figures"])


def run_within(
    words: Sequence[str], deadline_s: float, log: Path, environment: Mapping[str, str]
) -> int | None:
    """Exit code, or None where the deadline came first; either way nothing of its process group is
    left.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            words,
            cwd=ROOT,
            env=dict(environment),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        return process.wait(deadline_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _end_group(process.pid)
        process.wait()


def _end_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return  # all of it has ended
