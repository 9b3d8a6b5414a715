"""Where does a test get a checkpoint from? Made once a session in a child process, kept by kind and options.

Rule: tests ask for ``tf1_checkpoint("mlp", optimizer="adam")`` and get a prefix that they must not write to.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class CheckpointLibrary:
    """Checkpoints made by ``tests.graphs.makers``, each kind and set of options once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made: dict[str, Path] = {}

    def __call__(self, kind: str, **options: Any) -> Path:
        """The prefix (``…/model.ckpt-3``) of a run of this kind; ``steps=N`` and ``name=…`` as ``makers.make`` has them."""
        words = [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in sorted(options.items())]
        label = "-".join([kind, *words]).replace("/", "_")
        if label not in self._made:
            self._made[label] = self._make(kind, self._directory / label, words)
        return self._made[label]

    def copy(self, target: Path, kind: str, **options: Any) -> Path:
        """A copy of that run's directory that the test may spoil; its prefix."""
        prefix = self(kind, **options)
        shutil.copytree(prefix.parent, target, dirs_exist_ok=True)
        return target / prefix.name

    @staticmethod
    def _make(kind: str, directory: Path, words: list[str]) -> Path:
        command = [sys.executable, "-m", "tests.graphs.makers", kind, str(directory), *words]
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
        return Path(done.stdout.strip().splitlines()[-1])
