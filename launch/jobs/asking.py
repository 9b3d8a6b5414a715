"""What does a run's job say of it, also where the run never began?

Rule: the run's own output tells first; a job server only adds what it knows.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from launch.jobs.plan import JobState, submission_name
from launch.jobs.server import JobServer
from launch.jobs.spelling import one_spelling
from launch.runs.status_model import RunStatus, not_begun
from orchestrator.errors import SourceError
from orchestrator.redaction import redacted


def with_job(run: str, address: str, look: Callable[[], RunStatus]) -> RunStatus:
    """The status with the run's latest job in it.

    Raises:
        ConfigError, ClusterUnavailable: the server can't be asked. And what ``look`` raises, where
            there is no job either.
    """
    job = JobServer(address).find(submission_name(one_spelling(run, Path.cwd())))
    return merged(run, address, job, look)


def merged(
    run: str, address: str, job: JobState | None, look: Callable[[], RunStatus]
) -> RunStatus:
    """``look``'s answer and the job's."""
    try:
        found = look()
    except SourceError as error:
        if job is None or not error.details.get("missing"):
            raise
        found = not_begun(redacted(run), job.status, job.message, now=time.time())
    if job is None:
        return found
    told = {
        "job": job.submission_id,
        "status": job.status,
        "message": job.message,
        "exit_code": job.exit_code,
        "logs": shlex.join(["tfresume", "logs", redacted(run), "--address", address]),
    }
    return replace(found, job=told)
