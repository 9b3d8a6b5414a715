"""What did earlier drivers of this run leave in its journal?

Rule: folds over the events, each one question; nothing is remembered anywhere else.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.decide import budgets
from orchestrator.decide.aftermath import LeftBehind, left_behind, rolled_back
from orchestrator.decide.machine import Report
from orchestrator.workers.places import known_places


class Past:
    """The journal of the attempts before this one."""

    def __init__(self, events: Sequence[Mapping[str, Any]]) -> None:
        self.events = events

    def trained_s(self) -> float:
        """Seconds that earlier attempts took."""
        last: dict[Any, float] = {}
        for event in self.events:
            last[event.get("attempt")] = float(event.get("t_s", 0.0))
        return sum(last.values())

    def newest_label(self) -> str | None:
        """The newest committed checkpoint."""
        return next(
            (
                str(event["checkpoint"])
                for event in reversed(self.events)
                if event.get("event") == "save_committed"
            ),
            None,
        )

    def newest_step(self) -> int | None:
        """Its step."""
        return next(
            (
                int(event["step"])
                for event in reversed(self.events)
                if event.get("event") == "save_committed"
            ),
            None,
        )

    def budgets(self, limit: int) -> budgets.Budgets:
        """What is left of the retry budgets, on this process's clock."""
        return budgets.from_journal(self.events, limit, time.monotonic(), time.time())

    def last_generation(self) -> int:
        """The highest generation number that was ever used in this output."""
        return max(
            (
                int(event["generation"])
                for event in self.events
                if event.get("event") == "generation"
            ),
            default=0,
        )

    def rolled_back(self) -> tuple[int | None, int]:
        """What was rolled back from: ``decide.searching.rolled_back``."""
        return rolled_back(self.events)

    def left_behind(self) -> LeftBehind | None:
        """What the driver before had going when it died: ``decide.aftermath.left_behind``."""
        return left_behind(self.events, time.time())

    def last_config(self) -> Mapping[str, Any]:
        """The configuration of the driver before, without secrets; empty where it wrote none."""
        found = (
            event.get("config")
            for event in reversed(self.events)
            if event.get("event") == "attempt"
        )
        return next((config for config in found if isinstance(config, Mapping)), {})

    def known_places(self) -> Mapping[str, tuple[str, tuple[str, ...]]]:
        """Place to node and GPUs: ``workers.places.known_places``."""
        return known_places(self.events)

    def next_worker(self, reports: Sequence[Report]) -> int:
        """The first worker number that was never used."""
        started = [
            str(event["worker"]) for event in self.events if event.get("event") == "worker_start"
        ]
        return (
            max(
                (int(ident[1:]) for ident in [*started, *(report.worker for report in reports)]),
                default=0,
            )
            + 1
        )
