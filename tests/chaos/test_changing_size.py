"""Does a whole run whose group shrinks and grows through SIGKILLs end with the bytes of a run on
one worker?
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.conftest import assert_same_bytes
from tests.chaos.runs import INPUTS, Watcher, config_for, play, variables_of

pytestmark = [
    pytest.mark.ray,
    pytest.mark.tf,
    pytest.mark.chaos,
    pytest.mark.timeout(240),
    pytest.mark.turns(8, "losses"),
]

SLOTS = 3


class Reaper:
    """An observer: kills a rank of the full group, some steps after it has formed, as often as
    there are numbers left.
    """

    def __init__(self, seed: int, kills: int) -> None:
        draw = random.Random(seed)
        self.plan = [(draw.randrange(SLOTS), draw.randint(2, 6)) for _ in range(kills)]
        self.killed: list[int] = []

    def __call__(self, watcher: Watcher, kind: str, event: Mapping[str, Any]) -> None:
        if kind != "step" or not self.plan or len(watcher.ranks) < SLOTS:
            return
        rank, steps = self.plan[0]
        if event["step"] >= watcher.named("generation")[-1]["step"] + steps:
            self.plan.pop(0)
            self.killed.append(rank)
            os.kill(watcher.pids[watcher.ranks[rank]], signal.SIGKILL)


@pytest.mark.parametrize("kind", ["dropout", "ema"])
def test_run_that_shrinks_and_grows_through_kills_ends_with_the_bytes_of_one_worker(
    kind: str, cluster: str, tf1_checkpoint: Any, tmp_path: Path
) -> None:
    reaper = Reaper(seed=len(kind), kills=2)
    same = {"until_step": 250, "batches_per_step": SLOTS}
    source = tf1_checkpoint(kind)
    changing = config_for(
        source,
        tmp_path / "out",
        workers={"count": SLOTS, "min": 1, "max": SLOTS, "standby": 0},
        input=f"{INPUTS}:slow_batches",
        **same,
    )
    result, watcher = play(changing, reaper)
    assert result.status == "done", result
    assert len(reaper.killed) == 2
    sizes = [event["world_size"] for event in watcher.named("generation")]
    assert sizes[:3] == [SLOTS, SLOTS - 1, SLOTS], sizes
    assert [incident["steps_redone"] for incident in result.incidents] == [0, 0]
    alone = config_for(
        source,
        tmp_path / "alone",
        workers={"count": 1, "standby": 0},
        input=f"{INPUTS}:fast_batches",
        **same,
    )
    one, _ = play(alone)
    assert one.status == "done", one
    assert_same_bytes(
        variables_of(Path(str(one.checkpoint))), variables_of(Path(str(result.checkpoint)))
    )
