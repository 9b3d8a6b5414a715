"""Is the memory of this machine counted where the workers will be here, and by all of them?"""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from orchestrator.config import parse_config
from orchestrator.driver.free_memory import free_memory
from orchestrator.graph.variables.memory import FreeMemory


def test_free_memory_is_shared_by_all_workers_that_may_be_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=3e9))
    here = {"source": "s", "workers": {"count": 1, "max": 4, "standby": 2}}
    assert free_memory(parse_config(here)) == FreeMemory(
        host_bytes=3_000_000_000, workers_per_node=6
    )
    assert free_memory(parse_config(here | {"address": "head:6379"})) is None
