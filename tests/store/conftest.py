"""What do the store's tests share?"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import stamina
import tenacity
import tenacity.nap

from orchestrator.store.transfer import download as downloading
from tests.fakes.bundles import model, write_checkpoint, write_pointer
from tests.store.damage import STEPS
from tests.store.downloads import Direct, direct_way


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


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Where a download is to go."""
    return tmp_path / "copy"


@pytest.fixture
def no_waits_of_downloads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Between the tries of a range, and between looks at the streams."""
    monkeypatch.setattr(downloading, "TICK_S", 0.001)
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> Direct:
    """The direct way to the bytes of ``downloads``."""
    return direct_way(monkeypatch)
