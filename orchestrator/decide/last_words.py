"""When was a run's last step done, before it waited for its last save?

Rule: the save of that step is agreed on a little before the step is reached, so it's reckoned from
the last known rate; it was reached no later than progress told it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from orchestrator.decide.timeline import Moment
from orchestrator.journal.run_events import ProgressMade, RunEnded
from orchestrator.journal.save_events import SaveAgreed


@dataclass
class LastStep:
    """What an attempt's events say of the steps that it may end with.

    Attributes:
        attempt: whose events.
        agreed: (step, seconds) of the newest save that was agreed on; ``told``: of the newest step
            that was told, when it was told first. Empty before the first.
        rated: (step, seconds, steps per second) of the newest progress with a rate, and before it
            the newest of another step.
    """

    attempt: int | None = None
    agreed: list[Any] = field(default_factory=list)
    told: list[Any] = field(default_factory=list)
    rated: list[list[Any]] = field(default_factory=list)

    def take(self, moment: Moment) -> None:
        """One more event."""
        event = moment.event
        if moment.attempt != self.attempt:
            self.attempt, self.agreed, self.told, self.rated = moment.attempt, [], [], []
        if isinstance(event, SaveAgreed):
            self.agreed = [event.step, moment.at_s]
        elif isinstance(event, ProgressMade):
            if self.told[:1] != [event.step]:
                self.told = [event.step, moment.at_s]
            if event.steps_per_s > 0:
                before = [item for item in self.rated if item[0] != event.step][-1:]
                self.rated = [*before, [event.step, moment.at_s, event.steps_per_s]]

    def reached_s(self, ended: RunEnded, finish_s: float) -> float:
        """When the last step was done; ``finish_s`` where nothing tells."""
        last = -1 if ended.step is None else ended.step
        told = self.told[1] if self.told[:1] == [last] else finish_s
        if self.agreed[:1] != [last]:
            return float(told)
        agreed = self.agreed[1]
        reckoned = [at_s + (last - step) / rate for step, at_s, rate in self.rated if step != last]
        return float(min(told, max(agreed, reckoned[-1] if reckoned else agreed)))
