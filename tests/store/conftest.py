"""What do the store's tests share?"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.bundles import model, write_checkpoint, write_pointer
from tests.store.damage import STEPS


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Three good checkpoints of one model and their state file."""
    path = tmp_path / "train dir ü"
    for step in STEPS:
        write_checkpoint(path, f"m-{step}", model(step))
    write_pointer(path, "m-300")
    return path
