"""How do the end-to-end tests use the product? As a user: the command in a process of its own, its
exit code, its JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests import forked

ROOT = Path(__file__).resolve().parents[2]
PLAIN = Path(__file__).with_name("plain_tf1.py")
TIMEOUT_S = 180


@dataclass(frozen=True)
class Ended:
    """A command that ended: exit code, standard output and error, and the JSON object that standard
    output is.
    """

    code: int
    stdout: str
    stderr: str
    json: dict[str, Any] = field(default_factory=dict)


def tfresume(
    *words: str | Path, env: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S
) -> Ended:
    """Runs ``tfresume WORDS`` to its end, without what the tests set for a Ray of their own:
    nobody's shell says how Ray is guarded.
    """
    own = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
    settings = own | {"PYTHONPATH": str(ROOT), "COLUMNS": "160"} | dict(env or {})
    command = [sys.executable, "-m", "launch.cli", *map(str, words)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=settings,
        timeout=timeout_s,
        check=False,
        cwd=ROOT,
    )
    parsed = json.loads(done.stdout) if "--json" in words and done.stdout.strip() else {}
    return Ended(done.returncode, done.stdout, done.stderr, parsed)


def resumed(
    *words: str | Path, env: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S
) -> dict[str, Any]:
    """The result of a ``tfresume resume`` that has to end well."""
    ended = tfresume("resume", *words, "--json", env=env, timeout_s=timeout_s)
    assert ended.code == 0, (
        f"exit code {ended.code}\n{ended.stdout[-2000:]}\n{ended.stderr[-6000:]}"
    )
    return ended.json


def plain_variables(
    prefix: str | Path, scratch: Path, batches: Sequence[Mapping[str, np.ndarray]] = ()
) -> dict[str, np.ndarray]:
    """Every global variable after plain TensorFlow restored ``prefix`` and trained on ``batches``,
    by name.
    """
    target, feeds = scratch / "variables.npz", scratch / "feeds.npz"
    np.savez(
        feeds,
        **{  # type: ignore[arg-type]
            f"{step}|{name}": value
            for step, each in enumerate(batches)
            for name, value in each.items()
        },
    )
    mode = "train" if batches else "dump"
    done = forked.run(PLAIN, mode, prefix, target, feeds, cwd=scratch)
    assert done.returncode == 0, f"plain TensorFlow failed:\n{done.stderr[-4000:]}"
    with np.load(target) as arrays:
        return {name: arrays[name] for name in arrays.files}


def assert_close(
    ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], relative: float = 1e-6
) -> None:
    """Every variable equal to ``relative`` of its own largest value."""
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        wanted = np.asarray(theirs[name])
        scale = float(np.max(np.abs(wanted))) if wanted.size else 0.0
        np.testing.assert_allclose(
            value, wanted, rtol=0, atol=relative * max(scale, 1e-12), err_msg=name
        )
