"""Workers die in every phase of their work, again and again in one run: the same final bytes, no
step lost, and nothing that grows?
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.chaos.conftest import assert_same_bytes, undisturbed_phased
from tests.chaos.runs import Watcher, config_for, play, variables_of
from tests.chaos.script import Round, Script, Shot

pytestmark = [
    pytest.mark.ray,
    pytest.mark.tf,
    pytest.mark.chaos,
    pytest.mark.turns(32, "whole runs"),
]


def cycle(rank: int) -> list[Round]:
    """Eleven deaths (one in each phase of a step and of a save, two while a group forms anew after
    another), and a connection that is cut.
    """
    other = 1 - rank
    return [
        (Shot("feed", rank),),
        (Shot("forward", rank),),
        (Shot("on the way back", rank),),
        (Shot("adding up", rank),),
        (Shot("between exchange and apply", rank),),
        (Shot("cut off", rank),),
        (Shot("snapshot", other),),
        (Shot("upload", 0),),
        (Shot("feed", other), Shot("re-form", rank)),
        (Shot("forward", rank), Shot("first step", other)),
    ]


LAST: Round = (Shot("applied elsewhere", 1), Shot("handing over", 0))
"""Rank 0 alone has taken a step, and dies when it's asked for its state: the step is taken again
from rank 1's.
"""


@dataclass(frozen=True)
class Size:
    """What a process uses: bytes, threads, open descriptors."""

    rss: int
    threads: int
    descriptors: int

    @classmethod
    def of(cls, process: psutil.Process) -> Size:
        return cls(process.memory_info().rss, process.num_threads(), process.num_fds())


class Scales:
    """Weighs the driver and the largest member at the start of each round."""

    def __init__(self) -> None:
        self.driver: list[Size] = []
        self.members: list[Size] = []

    def __call__(self, watcher: Watcher) -> None:
        self.driver.append(Size.of(psutil.Process()))
        sizes = [Size.of(psutil.Process(watcher.pids[worker])) for worker in watcher.ranks]
        self.members.append(max(sizes, key=lambda size: size.rss))


def assert_flat(sizes: list[Size], settled: int) -> None:
    """After ``settled`` rounds nothing is larger by more than a fifth than it has been until then
    (a fixed bit for what is small).
    """
    first, rest = sizes[:settled], sizes[settled:]
    for field, slack in (("rss", 30e6), ("threads", 20), ("descriptors", 20)):
        before, after = (
            max(getattr(size, field) for size in first),
            max(getattr(size, field) for size in rest),
        )
        assert after <= before * 1.2 + slack, (
            f"{field} grows: {[getattr(size, field) for size in sizes]}"
        )


@pytest.mark.parametrize(
    ("cycles", "until"),
    [
        pytest.param(1, 350, marks=pytest.mark.timeout(600)),
        pytest.param(20, 8000, marks=[pytest.mark.soak, pytest.mark.timeout(7000)]),
    ],
)
def test_deaths_in_every_phase_of_one_run_lose_no_step_and_let_nothing_grow(
    cycles: int, until: int, cluster: str, tf1_checkpoint: Any, tmp_path: Path
) -> None:
    scales = Scales()
    rounds = [*itertools.chain.from_iterable(cycle(number % 2) for number in range(cycles)), LAST]
    script = Script(tmp_path, rounds, look=scales)
    config = config_for(
        tf1_checkpoint("phased"),
        tmp_path / "out",
        until_step=until,
        save_steps=15,
        max_losses_per_hour=1000,
        workers={"count": 2, "standby": 2},
        deterministic=False,
        **script.config,
    )
    result, watcher = play(config, script)
    assert result.status == "done", result
    assert script.over, f"the run ended before its {len(rounds)} rounds were over: {script.hits}"
    assert script.hits == [shot.place for shots in rounds for shot in shots], (
        "a shot missed its phase"
    )
    *others, last = result.incidents
    assert [incident["steps_redone"] for incident in others] == [0] * len(others)
    assert last["steps_redone"] == 1, (
        "the step that died with the survivor ahead is done again, and the incident says so"
    )
    behind = [event for event in watcher.named("generation") if event["catching_up"]]
    assert len(behind) >= cycles, "a rank that lacked only a result took the whole state"
    assert not watcher.named("finding_checkpoint"), (
        "storage was asked for a state that somebody had"
    )
    assert_same_bytes(
        undisturbed_phased(tf1_checkpoint, tmp_path, until),
        variables_of(Path(str(result.checkpoint))),
    )
    assert_flat(scales.driver, len(rounds) // 2)
    assert_flat(scales.members, len(rounds) // 2)
