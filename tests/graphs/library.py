"""Where does a test get a checkpoint from? Made once a session in a child process, kept by kind and
options.

Rule: tests ask for ``tf1_checkpoint("mlp", optimizer="adam")`` and get a prefix that they must not
write to.
"""

from __future__ import annotations

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
            self._made[label] = self._make(kind, self._directory / label, words)
        return self._made[label]

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
