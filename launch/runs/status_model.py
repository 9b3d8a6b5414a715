"""In what state is a run, and what will it do next?

Rule: a plain function of what the store shows (journal, run record, lease, checkpoints) and of two
clock readings. Whether the driver lives is a fact that's handed in; the state follows from it and
from the journal's last words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any, NamedTuple

from launch.runs.history import History, WorkerSeen, steps_redone
from launch.runs.slowness import why_slow
from orchestrator.journal.run_events import IncidentOver
from orchestrator.next_commands import logs_command

_ENDED = {"done": "done", "end of data": "done", "stopped": "stopped", "failed": "failed"}
_INCIDENT_KEYS = (
    "kind",
    "rank",
    "node",
    "worker",
    "step",
    "detected_s",
    "recovered_s",
    "steps_redone",
    "action",
    "reason",
    "exit_code",
    "losses",
    "losses_allowed",
    "at",
)


class Driver(Enum):
    """What's known of the driver that holds the run."""

    ALIVE = "alive"
    """Its heartbeat changed while we looked."""
    RELEASED = "released"
    """It gave the run up in order."""
    DEAD = "dead"
    """Its process is gone, or it was silent for its lease's whole length."""
    SILENT = "silent"
    """No heartbeat while we looked, and we looked for less than its lease's length."""
    NONE = "none"
    """Nobody has ever held this output."""


class LeaseHolder(NamedTuple):
    """Who holds the run: the newest lease's attempt and its holder's name."""

    attempt: int = 0
    name: str = ""


@dataclass(frozen=True)
class SavedCheckpoint:
    """The newest committed checkpoint. ``changes_step``: of a newer save, of changed rows over it."""

    prefix: str
    label: str
    step: int
    size_bytes: int
    modified: float | None
    changes_step: int | None = None


@dataclass(frozen=True)
class RunStatus:
    """What ``tfresume status`` tells. Times in seconds; None is "not known"."""

    run: str
    state: str
    reason: str
    source: str
    step: int | None
    start_step: int | None
    until_step: int | None
    steps_per_s: float | None
    loss: float | None
    world_size: int
    batches_per_step: int | None
    generation: int
    attempt: int
    driver: str
    holder: str
    workers: tuple[WorkerSeen, ...]
    checkpoint: str | None
    checkpoint_step: int | None
    checkpoint_age_s: float | None
    next_save_step: int | None
    next_save_s: float | None
    eta_s: float | None
    incidents: tuple[dict[str, Any], ...]
    steps_redone: int
    goodput: float
    goodput_s: dict[str, float]
    journal_age_s: float | None
    trouble: tuple[str, ...] = ()
    stop_requested: bool = False
    proof: dict[str, Any] | None = None
    """What was proved before the group's first step: ``verdict`` and ``told``."""
    step_times: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Rank to seconds of a step by part: input, compute, exchange, apply, save, other, all."""
    why_slow: str = ""
    """What limits a step, and what to do about it."""
    loss_name: str = ""
    """Which tensor the loss is."""
    job: dict[str, Any] | None = None
    """The run's latest job, where a job server was asked: ``job, status, message, exit_code``."""
    warnings: tuple[str, ...] = ()
    """What ``check`` warns of, and what the run was warned of while it went on, each once."""
    edits: tuple[str, ...] = ()
    """What the graph differs in from the source's, as the flags of the newest start ask."""
    earlier_incidents: int = 0
    """How many there were before ``incidents``, which are the newest thousand."""
    changed_rows_step: int | None = None
    """The step up to which changed rows were saved over ``checkpoint``; a run goes on from there."""

    def as_dict(self) -> dict[str, Any]:
        """As ``--json`` shows it."""
        return asdict(self)


def run_status(
    run: str,
    seen: History,
    driver: Driver,
    holder: LeaseHolder,
    record: Mapping[str, Any],
    checkpoint: SavedCheckpoint | None,
    *,
    now: float,
    trouble: tuple[str, ...] = (),
) -> RunStatus:
    """The status of a run.

    Args:
        run: the output's URL, without credentials.
        record: the run record's fields.
        now: unix seconds, for ages alone.
        trouble: what of the run couldn't be read, in words.
    """
    state, reason = _state(seen, driver, holder.attempt)
    alive = driver is Driver.ALIVE
    told = seen.progress
    rate = told.steps_per_s if told is not None and alive else None
    step = (
        seen.step
        if seen.step is not None
        else (checkpoint.step if checkpoint else _whole(record.get("started_step")))
    )
    last = seen.last_at
    return RunStatus(
        run=run,
        state=state,
        reason=reason,
        source=str(record.get("source", "")),
        step=step,
        start_step=_whole(record.get("started_step")),
        until_step=seen.until,
        steps_per_s=rate,
        loss=told.loss if told is not None else None,
        loss_name=next(iter(told.values), "") if told is not None else "",
        world_size=seen.world_size if alive else 0,
        batches_per_step=_batches_per_step(seen, record),
        generation=seen.generation,
        attempt=max(seen.attempt, holder.attempt),
        driver=driver.value,
        holder=holder.name,
        workers=seen.workers if alive else (),
        checkpoint=checkpoint.prefix if checkpoint else None,
        checkpoint_step=checkpoint.step if checkpoint else None,
        checkpoint_age_s=_age(checkpoint.modified if checkpoint else None, now),
        changed_rows_step=checkpoint.changes_step if checkpoint else None,
        next_save_step=told.next_save_step if told is not None and alive else None,
        next_save_s=told.next_save_s if told is not None and alive else None,
        eta_s=_eta(step, seen.until, rate),
        incidents=tuple(_incident(item, run) for item in seen.incidents),
        steps_redone=seen.earlier_redone + steps_redone(seen.incidents),
        earlier_incidents=seen.earlier_incidents,
        goodput=round(seen.account.fraction, 4),
        goodput_s=seen.account.as_dict(),
        journal_age_s=_age(last, now),
        trouble=trouble,
        proof=_proof(_newest_proof(seen, record)),
        step_times=seen.step_times,
        why_slow=why_slow(seen.step_times),
        warnings=seen.warnings,
        edits=() if seen.begun is None or seen.begun.lacks("edits") else tuple(seen.begun.edits),
    )


def not_begun(run: str, job_status: str, message: str, *, now: float) -> RunStatus:
    """The status of a run that has a job and hasn't begun, or never will."""
    state = {"FAILED": "failed", "STOPPED": "stopped", "SUCCEEDED": "done"}.get(
        job_status, "starting"
    )
    reason = f"its job is {job_status.lower()} and the run hasn't begun" + (
        f": {message}" if message else ""
    )
    empty = run_status(run, History(), Driver.NONE, LeaseHolder(), {}, None, now=now)
    return replace(empty, state=state, reason=reason)


def _newest_proof(seen: History, record: Mapping[str, Any]) -> Any:
    begun = seen.begun
    return record.get("proof") if begun is None or begun.lacks("proof") else begun.proof


def _proof(told: Any) -> dict[str, Any] | None:
    return {key: str(told.get(key, "")) for key in ("verdict", "told")} if told else None


def _state(seen: History, driver: Driver, attempt: int) -> tuple[str, str]:
    if driver is Driver.ALIVE and attempt > seen.attempt:
        return "starting", "a new driver has taken the run and hasn't told anything yet"
    if seen.finish is not None and seen.attempt >= attempt:
        return _ENDED.get(seen.finish.outcome, "failed"), seen.finish.reason
    match driver:
        case Driver.NONE:
            return "not started", "nobody has begun a run here"
        case Driver.RELEASED:
            return (
                "stopped",
                "its driver gave the run up; the same command goes on from the last checkpoint",
            )
        case Driver.DEAD:
            return (
                "dead",
                "its driver is gone; the same command goes on with the workers that live, or from the last checkpoint",
            )
        case Driver.SILENT:
            return (
                "silent",
                "no heartbeat while we looked: the driver is gone, paused, or cut off from the store",
            )
        case Driver.ALIVE:
            return seen.phase, seen.reason


def _incident(event: IncidentOver, run: str) -> dict[str, Any]:
    record = event.record()
    told = {key: None if event.lacks(key) else record.get(key) for key in _INCIDENT_KEYS}
    return told | {"logs": logs_command(run, event.worker)}


def _batches_per_step(seen: History, record: Mapping[str, Any]) -> int | None:
    if seen.begun is None or seen.begun.lacks("batches_per_step"):
        return _whole(record.get("batches_per_step"))
    return seen.begun.batches_per_step


def _eta(step: int | None, until: int | None, rate: float | None) -> float | None:
    if step is None or until is None or not rate or rate <= 0:
        return None
    return round(max(0, until - step) / rate, 1)


def _age(since: float | None, now: float) -> float | None:
    return None if since is None else round(max(0.0, now - since), 1)


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else None
