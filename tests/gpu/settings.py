"""On what does a part measure, and how large? On the GPU at full size, or small on the CPU so that
the script itself is tested.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from orchestrator.training.engine.options import TrainingOptions
from tests.graphs.library import CheckpointLibrary
from tests.training.ranks import RankProcess, Ranks


class NotRun(Exception):
    """This part can't be run here; the message says why."""


@dataclass(frozen=True)
class Setting:
    """Where a part runs.

    Attributes:
        device: what stands for the GPU.
        out: folder of the whole report.
        scratch: folder that is removed when the part has ended.
    """

    device: Literal["gpu", "cpu"]
    out: Path
    scratch: Path

    @property
    def gpu(self) -> bool:
        """Whether there's a card."""
        return self.device == "gpu"

    @property
    def rounds(self) -> int:
        """Repetitions of what is timed."""
        return 5 if self.gpu else 1

    @property
    def state_mb(self) -> int:
        """Size of the saved state in MiB."""
        return 1024 if self.gpu else 16

    @property
    def exchange_mb(self) -> tuple[int, ...]:
        """Sizes of what is exchanged in MiB."""
        return (20, 200) if self.gpu else (2,)

    @property
    def reforms(self) -> int:
        """How often the group is formed anew."""
        return 50 if self.gpu else 6

    def checkpoint(self, kind: str, **options: Any) -> Path:
        """A small TF1 run's prefix."""
        return CheckpointLibrary(self.scratch)(kind, **options)

    def options(self, **values: Any) -> TrainingOptions:
        """What the ranks are told."""
        return TrainingOptions(gpu=self.gpu, **values)

    def environment(self) -> dict[str, str]:
        """For a program that isn't a rank."""
        return dict(os.environ) | ({} if self.gpu else {"CUDA_VISIBLE_DEVICES": ""})

    @contextmanager
    def ranks(self, count: int) -> Iterator[Ranks]:
        """Rank processes that end afterwards, so that the card's memory is free again."""
        processes = [RankProcess(gpu=self.gpu) for _ in range(count)]
        try:
            yield Ranks(processes)
        finally:
            for process in processes:
                process.close()
