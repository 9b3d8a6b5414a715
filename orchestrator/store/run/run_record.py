"""Which run is this output for, and has anyone asked it to stop?

Rule: the run record is created once, by the first driver, and says for good which source the run
continues and at which step it began; ``--steps`` counts from there. A request to stop is one small
object, created by anyone, read by the driver.
"""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.errors import AlreadyExists, OutputError
from orchestrator.redaction import redacted_data
from orchestrator.store.objects.exclusive import create_once
from orchestrator.store.objects.layout import CONTROL
from orchestrator.store.objects.location import Location
from orchestrator.store.objects.records import encode, read_record


class Proved(BaseModel):
    """What was tried before the first step of a group: whether it computes what one process would."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    verdict: Literal["equal", "same batch", "differs", "unproved"]
    """``same batch``: equal as far as one batch given to all slots can tell; ``differs`` only where
    that was accepted.
    """
    told: str
    """One line for people."""


class RunRecord(BaseModel):
    """What an output directory is for."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    source: str
    """URL of what was resumed, without credentials."""
    fingerprint: str
    """Of its ``.meta`` and start checkpoint (``source.source_fingerprint``)."""
    name: str
    """NAME of its checkpoints."""
    started_step: int = Field(ge=0)
    """Global step at the run's first start."""
    batches_per_step: int | None = Field(default=None, ge=1)
    """Slots of a step at the run's first start; None in records of versions that had none."""
    gradient_scale: Literal["auto", "mean", "sum"] = "mean"
    """How gradients are put together since the run's first start; the mean in records of versions
    that knew nothing else.
    """
    weight_by: str | None = None
    """The tensor that weights a step's batches since the run's first start."""
    shard_tables: tuple[str, ...] = ()
    """The tables that are divided among workers since the run's first start, by name; in versions
    that knew nothing of it, none.
    """
    table_copies: int = 1
    """How many workers hold each row of a divided table since the run's first start; in versions
    that knew nothing of it, one.
    """
    proof: Proved | None = None
    """What the proof before the first step gave; None where there was none."""
    config: dict[str, Any] = Field(default_factory=dict)
    """The first start's configuration, without secrets; for people, and to know whether the source
    was read as it is.
    """
    created: float = 0.0
    """Unix seconds by the first driver's clock; for people."""
    run_id: str = Field(default_factory=lambda: uuid.uuid4().hex)


class StopRequest(BaseModel):
    """Someone wants the run to stop."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    request_id: str = Field(default_factory=lambda: uuid.uuid4().hex)
    mode: Literal["save", "now"] = "save"
    """``save``: after a last checkpoint. ``now``: without."""
    attempt: int = 0
    """The attempt that held the run; also its successors follow it, where it died before it could.
    0: whichever runs.
    """
    asked_by: str = ""
    at: float = 0.0


def read_run_record(output: Location) -> RunRecord | None:
    """What the output is for, None where no run has begun. Raises OutputError (damaged),
    SourceError, StorageUnavailable.
    """
    return read_record(RunRecord, output.child(CONTROL, "run.json"))


def create_run_record(output: Location, record: RunRecord) -> RunRecord:
    """Writes the record where there is none yet; secrets in its configuration are masked.

    Returns:
        The record that stands: this one, or the one that was there for the same source.

    Raises:
        OutputError: the output belongs to another source; names both.
        StorageUnavailable: the store doesn't answer.
    """
    record = record.model_copy(
        update={"config": redacted_data(record.config), "source": str(redacted_data(record.source))}
    )
    try:
        create_once(output.child(CONTROL, "run.json"), encode(record))
    except AlreadyExists:
        standing = read_run_record(output)
        if standing is None:
            raise
        check_same_source(output, standing, record.source, record.fingerprint)
        return standing
    return record


def check_same_source(output: Location, record: RunRecord, source: str, fingerprint: str) -> None:
    """Raises OutputError where the output belongs to a run of another source."""
    if record.fingerprint == fingerprint:
        return
    details = {"output_source": record.source, "source": str(redacted_data(source))}
    if record.source == details["source"]:
        raise OutputError(
            f"{output.shown} holds a run of {record.source} as it was at step {record.started_step}; it has changed since",
            remedy=f"Give the prefix that it began from (such as {record.name}-{record.started_step}), or use another --output",
            details=details,
        )
    raise OutputError(
        f"{output.shown} holds a run of {record.source}, not of {details['source']}",
        remedy="Use another --output, or resume the source that this one is for",
        details=details,
    )


def request_stop(
    output: Location, *, mode: Literal["save", "now"] = "save", attempt: int = 0, asked_by: str = ""
) -> StopRequest:
    """Asks the run to stop. Raises OutputError, StorageUnavailable."""
    request = StopRequest(mode=mode, attempt=attempt, asked_by=asked_by, at=time.time())
    create_once(output.child(CONTROL, "stop", f"{request.request_id}.json"), encode(request))
    return request


def read_stop_requests(output: Location) -> tuple[StopRequest, ...]:
    """All requests that nobody has answered yet. Raises OutputError, StorageUnavailable."""
    entries = [
        entry for entry in output.child(CONTROL, "stop").list() if entry.name.endswith(".json")
    ]
    with ThreadPoolExecutor(8) as pool:
        requests = pool.map(lambda entry: read_record(StopRequest, entry.location), entries)
        return tuple(
            sorted(
                (request for request in requests if request is not None),
                key=lambda request: request.at,
            )
        )


def answer_stop_request(output: Location, request: StopRequest) -> None:
    """Takes a request away once it's been followed, so that the next start of the run doesn't stop
    at once.
    """
    output.child(CONTROL, "stop", f"{request.request_id}.json").delete()
