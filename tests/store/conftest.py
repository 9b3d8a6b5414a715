"""What do the store's tests share?"""

from __future__ import annotations

import random
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import tenacity
import tenacity.nap

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


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds waited between tries, the least there may be, each over at once: the clock by which tries
    end moves by them.
    """
    waited_s: list[float] = []
    clock = SimpleNamespace(
        sleep=waited_s.append, monotonic=lambda: time.monotonic() + sum(waited_s)
    )
    monkeypatch.setattr(random, "uniform", min)
    monkeypatch.setattr(tenacity.nap, "time", clock)
    monkeypatch.setattr(tenacity, "time", clock)
    return waited_s
