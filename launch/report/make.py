"""How is a run's report made? The command ``report``.

Rule: everything is read from the store, once; what is damaged is told on the page, and the rest is
there. The page is written as a whole, wherever fsspec can write.
"""

from __future__ import annotations

import os
import time
from typing import Any

from launch.report.evaluations import EvaluationRow, evaluation_rows
from launch.report.model import Report
from launch.report.model import report as assemble
from launch.report.page import page
from launch.runs.history import history
from launch.runs.status import holder_of, newest, no_run, shown_state, unless_damaged
from launch.runs.status_model import Driver, run_status
from orchestrator.redaction import redacted, secrets_in
from orchestrator.store.checkpoints.reports import CheckpointsReport, checkpoints_report
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.journal import read_journal
from orchestrator.store.run.journal_parts import DamagedPart
from orchestrator.store.run.lease import NOBODY, observe
from orchestrator.store.run.run_record import read_run_record

LOOK_S = 10.0
"""Longest look for a sign of life: a report isn't worth a lease's whole length, and says ``silent``
where it doesn't know.
"""


def make_report(run: str) -> Report:
    """The report of the run at an output URL.

    Raises:
        SourceError: there is no run at this URL, or it may not be read.
        StorageUnavailable: the store doesn't answer.
    """
    output = open_location(run)
    trouble: list[str] = []
    record = unless_damaged(trouble, lambda: read_run_record(output), None)
    observed = unless_damaged(trouble, lambda: observe(output), None)
    if record is None and observed == NOBODY and not trouble:
        raise no_run(output)
    driver = Driver.SILENT if observed is None else shown_state(output, observed, LOOK_S)
    seen = history(_events(output, trouble))
    fields = record.model_dump() if record is not None else {}
    first = unless_damaged(trouble, lambda: newest(output), None)
    none = CheckpointsReport(output.shown, (), ())
    saved = unless_damaged(trouble, lambda: checkpoints_report(output), none)
    nothing: tuple[EvaluationRow, ...] = ()
    evaluations = unless_damaged(trouble, lambda: evaluation_rows(output), nothing)
    now = time.time()
    held = holder_of(observed)
    status = run_status(
        # What hides the list of checkpoints hides the newest one as well
        *(output.shown, seen, driver, held, fields, first),
        now=now,
        trouble=tuple(dict.fromkeys(trouble)),
    )
    return assemble(
        status,
        seen,
        fields,
        saved.checkpoints,
        made_at=now,
        lineage=saved.lineage,
        evaluations=evaluations,
    )


def _events(output: Location, trouble: list[str]) -> list[dict[str, Any]]:
    damaged: list[DamagedPart] = []
    nothing: list[dict[str, Any]] = []
    events = unless_damaged(trouble, lambda: read_journal(output, damaged.append), nothing)
    trouble += map(str, damaged)
    return events


def write_report(run: str, target: str) -> Location:
    """Writes the page to a path or URL. Raises what ``make_report`` does, and OutputError where it
    can't be written.
    """
    text = redacted(page(make_report(run)), secrets_in(os.environ))
    location = open_location(target)
    location.write_bytes(text.encode())
    return location
