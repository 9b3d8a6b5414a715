"""However often workers die: the same final bytes, no step lost, and nothing that grows?"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.chaos.conftest import assert_same_bytes
from tests.chaos.runs import INPUTS, Watcher, config_for, play, variables_of

pytestmark = [pytest.mark.ray, pytest.mark.tf, pytest.mark.chaos]


class Killer:
    """Kills a member drawn by seed whenever the run has stepped on since the last kill and a standby is warm."""

    def __init__(self, seed: int, kills: int) -> None:
        self.random, self.left = random.Random(seed), kills
        self.after = 5
        self.sizes: list[tuple[int, int]] = []

    def __call__(self, watcher: Watcher, kind: str, event: Mapping[str, Any]) -> None:
        if kind != "step" or self.left == 0 or event["step"] < self.after or not watcher.standbys():
            return
        victim = self.random.choice(watcher.ranks)
        survivors = [psutil.Process(watcher.pids[worker]) for worker in watcher.ranks if worker != victim]
        self.sizes.append((max(item.memory_info().rss for item in survivors), max(item.num_threads() for item in survivors)))
        os.kill(watcher.pids[victim], signal.SIGKILL)
        watcher.fired.append(victim)
        self.left -= 1
        self.after = event["step"] + 3


@pytest.mark.parametrize(
    ("kills", "until"),
    [
        pytest.param(20, 1200, marks=pytest.mark.timeout(600)),
        pytest.param(200, 20_000, marks=[pytest.mark.soak, pytest.mark.timeout(7000)]),
    ],
)
def test_many_kills_in_one_run_lose_no_step_and_let_nothing_grow(
    kills: int, until: int, cluster: str, tf1_checkpoint: Any, tmp_path: Path
) -> None:
    source = tf1_checkpoint("mlp")
    calm = config_for(source, tmp_path / "calm", until_step=until, workers=2, input=f"{INPUTS}:fast_batches")
    undisturbed, _ = play(calm)
    config = config_for(
        source, tmp_path / "out", until_step=until, input=f"{INPUTS}:slow_batches", reforms_per_process=8, max_losses_per_hour=1000,
        workers={"count": 2, "standby": 2},
    )  # fmt: skip
    killer = Killer(7, kills)
    result, watcher = play(config, killer)
    assert result.status == "done", result
    assert len(watcher.fired) >= min(kills, 15), f"the run was over after {len(watcher.fired)} kills"
    assert sum(incident["steps_redone"] for incident in result.incidents) == 0
    assert not watcher.named("finding_checkpoint")
    assert_same_bytes(variables_of(Path(str(undisturbed.checkpoint))), variables_of(Path(str(result.checkpoint))))
    (first_rss, _), (last_rss, last_threads) = killer.sizes[0], killer.sizes[-1]
    assert last_rss < first_rss * 1.5 + 8 * 60e6
    assert last_threads < 2000
