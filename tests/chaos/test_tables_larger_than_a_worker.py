"""Does a run whose tables are four times what one of its workers may have train on six of them, lose
two at once, and end with the bytes of a run that nothing happened to?

Rule: the limit is the kernel's (RLIMIT_DATA), set in each worker before it reads the graph, and looked
at from outside. Nothing of a worker is told how to save: it finds out that a copy has no room.
"""

from __future__ import annotations

import hashlib
import os
import re
import resource
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import parse_config
from orchestrator.store.bundle.stored_index import stored_index
from orchestrator.store.bundle.values import Values
from orchestrator.store.checkpoints.source import resolve_source
from tests.chaos import larger_tables
from tests.chaos.larger_tables import LIMIT_BYTES, ROWS, WORKERS
from tests.chaos.runs import Watcher, play
from tests.training.tall_tables import ROW_BYTES, tall_checkpoint

pytestmark = [
    pytest.mark.tf,
    pytest.mark.ray,
    pytest.mark.chaos,
    pytest.mark.slow,
    pytest.mark.turns(32, "whole runs"),
]

STEPS, SAVE_STEPS = 24, 8
LOST = (1, 4)
STACK_BYTES = 2 << 20
UNLIMITED = "unlimited"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A cluster of its own. What this limit counts though nobody touches it is kept small in its
    workers: oneDNN's allocator takes twice what it needs, a thread 8 MB for its stack.
    """
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    stack = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (STACK_BYTES, stack[1]))
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": WORKERS + 2,
            "include_dashboard": False,
            "dashboard_port": 0,
            "object_store_memory": 100 << 20,
        },
    )
    try:
        resource.setrlimit(resource.RLIMIT_STACK, stack)
        ray.init(address=cluster.address, log_to_driver=False, ignore_reinit_error=True)
        yield cluster.address
    finally:
        ray.shutdown()
        cluster.shutdown()


def config_for(prefix: Path, output: Path, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "source": f"{prefix}.meta",
        "output": str(output),
        "until_step": STEPS,
        "save_steps": SAVE_STEPS,
        "max_to_keep": 1,
        "batches_per_step": WORKERS,
        "workers": {"count": WORKERS, "standby": 0},
        "on_loss": "wait",
        "input": f"{larger_tables.__file__}:batches",
        "import_modules": ["tests.chaos.limited_worker"],
        "deterministic": True,
        "tensorboard": False,
        "prove": False,
        "shard_tables": ["table"],
    }
    return parse_config({**values, **changes})


def limit_of(pid: int) -> str:
    found = re.search(r"Max data size\s+(\S+)", Path(f"/proc/{pid}/limits").read_text())
    assert found is not None
    return found[1]


class Losses:
    """Ends two workers at once, after a save and some steps, and looks at everybody's limit."""

    def __init__(self) -> None:
        self.limits: dict[str, str] = {}

    def __call__(self, watcher: Watcher, kind: str, event: Mapping[str, Any]) -> None:
        if kind == "worker_warm":
            self.limits[event["worker"]] = limit_of(event["pid"])
        saved = [each["step"] for each in watcher.named("save_committed")]
        if kind == "step" and saved and not watcher.fired and event["step"] > saved[0] + 2:
            for rank in LOST:
                os.kill(watcher.pids[watcher.ranks[rank]], signal.SIGKILL)
            watcher.fired += [f"rank {rank} at {event['step']}" for rank in LOST]


def digests(prefix: str) -> dict[str, str]:
    """Of each tensor's bytes, put together from all ranks' slices, and compared with its checksums."""
    files = tuple(resolve_source(f"{prefix}.meta").files)
    index, found = stored_index(files), {}
    for key in index.entries:
        found[key] = hashlib.sha256()
        for chunk in Values(index, files).chunks(key):
            found[key].update(chunk)
    return {key: digest.hexdigest() for key, digest in found.items()}


def test_run_at_four_times_a_workers_memory_loses_two_and_ends_with_an_undisturbed_ones_bytes(
    cluster: str, tmp_path: Path
) -> None:
    prefix = tall_checkpoint(tmp_path, ROWS)
    assert ROWS * ROW_BYTES == 4 * LIMIT_BYTES
    losses = Losses()
    result, watcher = play(config_for(prefix, tmp_path / "out"), losses)

    assert len(watcher.fired) == 2
    assert result.status == "done", result
    assert result.final_step == STEPS
    # All were held to their limit, those too that came in the place of the lost ones
    assert len(losses.limits) == WORKERS + 2
    assert UNLIMITED not in losses.limits.values()
    again = watcher.named("generation")[-1]
    assert (again["state_from"], again["world_size"]) == ("checkpoint", WORKERS)
    assert again["step"] >= SAVE_STEPS
    assert sum(incident["steps_redone"] for incident in result.incidents) > 0

    plain, undisturbed = play(
        config_for(prefix, tmp_path / "plain", import_modules=[], workers={"count": 2})
    )
    assert plain.status == "done", plain
    assert not plain.incidents
    assert not undisturbed.named("save_failed")
    ours, theirs = digests(str(result.checkpoint)), digests(str(plain.checkpoint))
    assert ours.keys() == theirs.keys() >= {"table", "table/Adagrad", "global_step"}
    assert [key for key in ours if ours[key] != theirs[key]] == []
    assert digests(str(prefix))["table"] != ours["table"]
