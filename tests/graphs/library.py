"""Where does a test get a checkpoint from? Made once a session in a child process, kept by kind and
options.

Rule: tests ask for ``tf1_checkpoint("mlp", optimizer="adam")`` and get a prefix that they must not
write to. Test processes that are given one directory make each checkpoint once among them: who asks
first makes it, and the others wait for it.
"""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path
from typing import Any

from tests import forked


class CheckpointLibrary:
    """Checkpoints made by ``tests.graphs.makers``, each kind and set of options once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made: dict[str, Path] = {}

    def __call__(self, kind: str, **options: Any) -> Path:
        """The prefix (``…/model.ckpt-3``) of a run of this kind; ``steps=N`` and ``name=…`` as
        ``makers.make`` has them.
        """
        words = [
            f"{key}={str(value).lower() if isinstance(value, bool) else value}"
            for key, value in sorted(options.items())
        ]
        label = "-".join([kind, *words]).replace("/", "_")
        if label not in self._made:
            self._made[label] = self._made_by_anybody(label, kind, words)
        return self._made[label]

    def _made_by_anybody(self, label: str, kind: str, words: list[str]) -> Path:
        told = self._directory / f"{label}.prefix"
        with (self._directory / f"{label}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not told.exists():
                # What a maker that failed or was killed has left isn't built upon
                shutil.rmtree(self._directory / label, ignore_errors=True)
                told.write_text(str(self._make(kind, self._directory / label, words)))
            return Path(told.read_text())

    def copy(self, target: Path, kind: str, **options: Any) -> Path:
        """A copy of that run's directory that the test may spoil; its prefix."""
        prefix = self(kind, **options)
        shutil.copytree(prefix.parent, target, dirs_exist_ok=True)
        return target / prefix.name

    @staticmethod
    def _make(kind: str, directory: Path, words: list[str]) -> Path:
        done = forked.run("tests.graphs.makers", kind, directory, *words)
        if done.returncode:
            raise RuntimeError(f"{kind} {words} wasn't made:\n{done.stderr[-4000:]}")
        return Path(done.stdout.strip().splitlines()[-1])
