"""How did the run end?

Rule: the same object for library, ``--json`` and exit code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from orchestrator.decide.actions import Finish, Outcome
from orchestrator.driver.startup import StartPoint

EXIT_DONE, EXIT_FAILED, EXIT_SIGINT, EXIT_SIGTERM = 0, 1, 130, 143
"""Part of the interface. 130 and 143 are what a shell reports of a process ended by SIGINT (128 +
2) and by SIGTERM (128 + 15).
"""
Status = Literal["done", "end of data", "stopped", "failed"]


@dataclass(frozen=True)
class RunResult:
    """The outcome of ``resume``.

    Attributes:
        status: ``done``, ``end of data``, ``stopped`` or ``failed`` (resumable: the same command
            goes on).
        start_step, final_step: global steps at the start of this attempt and at its end.
        checkpoint: URL of the newest committed checkpoint's prefix, None where there is none.
        incidents: the newest thousand, one record each: kind, rank, detected_s, recovered_s,
            steps_redone, and more.
        goodput: useful step time over wall time and the rest broken down, as
            ``decide.goodput.Goodput.as_dict``.
        error: ``OrchestratorError.as_dict()`` where it failed.
        exit_code: 0, 1, 130 or 143.
        warnings: what ``check`` warns of, and what the run was warned of while it went on.
    """

    status: Status
    start_step: int
    final_step: int
    checkpoint: str | None
    world_size: int
    incidents: Sequence[Mapping[str, Any]] = ()
    goodput: Mapping[str, Any] | None = None
    reason: str = ""
    output: str = ""
    attempt: int = 0
    exit_code: int = 0
    error: Mapping[str, Any] | None = None
    steps_done: int = 0
    warnings: Sequence[str] = field(default_factory=tuple)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return asdict(self)


def status_of(outcome: Outcome) -> Status:
    """The word for people and machines."""
    match outcome:
        case Outcome.DONE:
            return "done"
        case Outcome.END_OF_DATA:
            return "end of data"
        case Outcome.STOPPED:
            return "stopped"
        case Outcome.FAILED:
            return "failed"


def exit_code_of(finish: Finish) -> int:
    """0 done, also when asked to stop through the run record; 130 and 143 after a signal; 1 failed
    and resumable.
    """
    match finish.outcome:
        case Outcome.DONE | Outcome.END_OF_DATA:
            return EXIT_DONE
        case Outcome.STOPPED:
            return {"SIGINT": EXIT_SIGINT, "SIGTERM": EXIT_SIGTERM}.get(
                finish.stop_cause or "", EXIT_DONE
            )
        case Outcome.FAILED:
            return EXIT_FAILED


def label_url(output: str, label: str | None) -> str | None:
    """The prefix that TensorFlow restores, as a URL that works from anywhere."""
    return None if label is None else f"{output.rstrip('/')}/{label}"


def ended_before_it_began(output: str, start: StartPoint) -> RunResult:
    """The answer where there is nothing left to do.

    Args:
        output: as it may be shown.
    """
    reason = f"step {start.until} is reached already: the newest checkpoint is at step {start.step}"
    return RunResult(
        status="done",
        start_step=start.step,
        final_step=start.step,
        checkpoint=label_url(output, start.own_label),
        world_size=0,
        reason=reason,
        output=output,
        warnings=start.warnings,
    )
