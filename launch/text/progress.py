"""What does a person see while a run goes on?

Rule: one line that changes on a terminal, plain log lines elsewhere; both on standard error. Each
incident, save and change of the group is a line that stays. Nothing is shown more often than it can
be read.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from launch.text.log_text import log_line
from launch.text.quantities import bytes_text, count_text, cut_text, rate_text, seconds_text
from launch.text.status_text import incident_line
from orchestrator.journal.event import JournalEvent
from orchestrator.journal.group_events import (
    CounterStands,
    GenerationFormed,
    RowsMoved,
    WaitingForWorkers,
)
from orchestrator.journal.parsing import parse
from orchestrator.journal.run_events import (
    AttemptBegan,
    IncidentOver,
    RunEnded,
    Stopping,
    Warned,
)
from orchestrator.journal.save_events import SaveCommitted, SaveFailure
from orchestrator.redaction import redacted, secrets_in

if TYPE_CHECKING:
    from orchestrator.driver.observer import RunProgress

log = logging.getLogger("tfresume")

LOG_EVERY_S = 10.0
"""Lines of progress in a log that nobody watches: enough to see that it goes on, few enough to find
anything else.
"""
BAR_CELLS = 20
"""A step of five per cent; the line fits 80 columns with its numbers."""
WATCHED_SHOWN = 3
"""Watched values beside the loss that fit into the line."""
LOSS_NAME = 32
"""Letters of the loss's name beside it."""
_STATE_FROM = {"donor": ", live state", "checkpoint": ", state from the checkpoint"}
_STYLES: Mapping[type[JournalEvent], str] = {
    IncidentOver: "yellow",
    Warned: "yellow",
    SaveFailure: "red",
    CounterStands: "yellow",
}


def progress_text(progress: RunProgress, start_step: int | None = None) -> str:
    """Step, loss, rate, last checkpoint and the time that is left, as far as they're known."""
    parts = [f"step {count_text(progress.step)} of {count_text(progress.until)}"]
    if progress.loss is not None:
        name = next(iter(progress.values), "")
        parts.append(
            f"loss {progress.loss:.6g}" + (f" ({cut_text(name, LOSS_NAME)})" if name else "")
        )
    others = {name: value for name, value in progress.values.items() if value != progress.loss}
    parts += [f"{name} {value:.6g}" for name, value in list(others.items())[:WATCHED_SHOWN]]
    if progress.steps_per_s > 0:
        parts.append(rate_text(progress.steps_per_s))
        parts.append(
            f"{seconds_text(max(0, progress.until - progress.step) / progress.steps_per_s)} left"
        )
    parts.append(f"{progress.world_size} worker{'s' if progress.world_size != 1 else ''}")
    parts.append(
        f"saved {progress.checkpoint.rpartition('/')[2]}"
        if progress.checkpoint
        else "nothing saved yet"
    )
    bar = (
        ""
        if start_step is None
        else _bar(progress.step - start_step, progress.until - start_step) + " "
    )
    return bar + " · ".join(parts)


def _bar(done: int, whole: int) -> str:
    filled = round(BAR_CELLS * min(1.0, max(0.0, done / whole))) if whole > 0 else BAR_CELLS
    return "━" * filled + "╌" * (BAR_CELLS - filled)


def _attempt_text(event: AttemptBegan) -> str:
    resumed = f" from {event.resumed_from}" if event.resumed_from else ""
    until = "" if event.lacks("until") else f" to {count_text(event.until)}"
    step = count_text(None if event.lacks("start_step") else event.start_step)
    outer = f" ({event.outer_attempt})" if event.outer_attempt else ""
    begun = f"attempt {event.attempt}{outer}: step {step}{until}{resumed}"
    proof = event.proof or {}
    is_told = proof.get("told") and proof.get("verdict") != "differs"  # that is a warning
    return f"{begun}\n{proof['told']}" if is_told else begun


def event_text(event: JournalEvent) -> str | None:
    """A journal event in a sentence, or None for those that only the log needs."""
    match event:
        case AttemptBegan():
            return _attempt_text(event)
        case GenerationFormed():
            source = _STATE_FROM.get(event.state_from, "")
            return f"generation {event.generation}: {event.world_size} workers at step {count_text(event.step)}{source}"
        case RowsMoved():
            size = bytes_text(event.size_bytes)
            return f"{count_text(event.rows)} rows of tables moved between workers ({size})"
        case SaveCommitted():
            stall = (
                f", training waited {seconds_text(event.stall_s)}"
                if event.stall_s is not None
                else ""
            )
            return f"saved {event.checkpoint} ({bytes_text(event.size_bytes)}{stall})"
        case SaveFailure():
            return f"a save failed at step {count_text(event.step)}: {event.reason or 'no reason given'}"
        case IncidentOver():
            return "incident: " + incident_line(event.record())
        case Stopping():
            save = (
                f", after a last save at step {count_text(event.boundary)}"
                if event.boundary and event.grace_s
                else ""
            )
            again = "; Ctrl-C again ends it at once" if event.reason == "SIGINT" else ""
            return f"stopping ({event.reason}){save}{again}"
        case Warned():
            return f"warning: {event.reason}"
        case CounterStands():
            return (
                f"the graph's own counter has stood at {count_text(event.step)} for {seconds_text(event.seconds)}, though the group trains "
                f"({count_text(event.position)} batches so far): it's saved by time, and ends where the counter does"
            )
        case WaitingForWorkers():
            return f"waiting: {event.reason or 'for workers'}"
        case RunEnded():
            return f"{event.outcome}: {event.reason or 'the end'}"
        case _:
            return None


class LogProgress:
    """An observer that writes log lines: progress every ten seconds, events as they come."""

    def __init__(
        self, now: Callable[[], float] = time.monotonic, every_s: float = LOG_EVERY_S
    ) -> None:
        self._now = now
        self._every_s = every_s
        self._last: float | None = None

    def event(self, event: Mapping[str, Any]) -> None:
        """One record of the journal; all of them with ``--verbose``."""
        self._event(parse(event))

    def _event(self, event: JournalEvent) -> None:
        text = event_text(event)
        if text is not None:
            log.log(logging.WARNING if isinstance(event, Warned) else logging.INFO, "%s", text)
        else:
            log.debug("%s", log_line(event))

    def progress(self, progress: RunProgress) -> None:
        """A few times a second."""
        now = self._now()
        if (
            self._last is None
            or now - self._last >= self._every_s
            or progress.step >= progress.until
        ):
            self._last = now
            log.info("%s", progress_text(progress))


class LiveProgress:
    """An observer with one line that changes, and events above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._start_step: int | None = None
        self._secrets = secrets_in(os.environ)

    def event(self, event: Mapping[str, Any]) -> None:
        """One record of the journal."""
        self._event(parse(event))

    def _event(self, event: JournalEvent) -> None:
        if isinstance(event, AttemptBegan) and not event.lacks("start_step"):
            self._start_step = event.start_step
        text = event_text(event)
        if text is not None:
            style = _STYLES.get(type(event), "dim")
            self._console.print(Text(redacted(text, self._secrets), style=style))
        else:
            log.debug("%s", log_line(event))

    def progress(self, progress: RunProgress) -> None:
        """A few times a second."""
        if self._start_step is None:
            self._start_step = progress.step
        if self._live is None:
            self._live = Live(
                console=self._console, refresh_per_second=4, transient=True, redirect_stdout=False
            )
            self._live.start()
        self._live.update(
            Text(progress_text(progress, self._start_step), overflow="ellipsis", no_wrap=True)
        )

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def progress_observer(console: Console, *, quiet: bool) -> LogProgress | LiveProgress:
    """The observer for this terminal, or for no terminal."""
    return LiveProgress(console) if console.is_terminal and not quiet else LogProgress()
