"""How is a run's report made? The command ``report``.

Rule: everything is read from the store, once; the page is written as a whole, wherever fsspec can
write.
"""

from __future__ import annotations

import os
import time

from launch.report.evaluations import evaluation_rows
from launch.report.model import Report
from launch.report.model import report as assemble
from launch.report.page import page
from launch.runs.history import history
from launch.runs.status import newest, no_run, shown_state
from launch.runs.status_model import LeaseHolder, run_status
from orchestrator.redaction import redacted, secrets_in
from orchestrator.store.checkpoints.reports import checkpoints_report
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.journal import read_journal
from orchestrator.store.run.lease import observe
from orchestrator.store.run.run_record import read_run_record

LOOK_S = 10.0
"""Longest look for a sign of life: a report isn't worth a lease's whole length, and says ``silent``
where it doesn't know.
"""


def make_report(run: str) -> Report:
    """The report of the run at an output URL.

    Raises:
        SourceError: there is no run at this URL.
        OutputError: a record of it is damaged.
        StorageUnavailable: the store doesn't answer.
    """
    output = open_location(run)
    record = read_run_record(output)
    observed = observe(output)
    if record is None and observed.holder is None:
        raise no_run(output)
    driver = shown_state(output, observed, LOOK_S)
    seen = history(read_journal(output))
    fields = record.model_dump() if record is not None else {}
    held = (
        LeaseHolder(observed.holder.attempt, observed.holder.name)
        if observed.holder
        else LeaseHolder()
    )
    now = time.time()
    status = run_status(output.shown, seen, driver, held, fields, newest(output), now=now)
    saved = checkpoints_report(output)
    return assemble(
        status,
        seen,
        fields,
        saved.checkpoints,
        made_at=now,
        lineage=saved.lineage,
        evaluations=evaluation_rows(output),
    )


def write_report(run: str, target: str) -> Location:
    """Writes the page to a path or URL. Raises what ``make_report`` does, and OutputError where it
    can't be written.
    """
    text = redacted(page(make_report(run)), secrets_in(os.environ))
    location = open_location(target)
    location.write_bytes(text.encode())
    return location
