"""What does a run's job say of it, also where the run never began?

Rule: the run's own output tells first; a job server only adds what it knows.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from launch.jobs.plan import JobState, submission_name
from launch.jobs.server import JobServer
from launch.jobs.spelling import one_spelling
from launch.runs.status_model import RunStatus, not_begun
from orchestrator.errors import ClusterUnavailable, ConfigError, SourceError
from orchestrator.redaction import redacted


def with_job(run: str, address: str, look: Callable[[], RunStatus]) -> RunStatus:
    """The status with the run's latest job in it.

    Raises:
        ConfigError, ClusterUnavailable: the server can't be asked, and there is no run to tell of.
            And what ``look`` raises, where there is no job either.
    """
    name = submission_name(one_spelling(run, Path.cwd()))
    return merged(run, address, lambda: JobServer(address).find(name), look)


def merged(
    run: str,
    address: str,
    ask: Callable[[], JobState | None],
    look: Callable[[], RunStatus],
) -> RunStatus:
    """``look``'s answer and, where ``ask`` has one, the job's."""
    found = _looked(look)
    try:
        job = ask()
    except (ConfigError, ClusterUnavailable) as error:
        if isinstance(found, SourceError):
            raise
        return replace(found, trouble=(*found.trouble, str(error)))
    if job is None:
        if isinstance(found, SourceError):
            raise found
        return found
    if isinstance(found, SourceError):
        found = not_begun(redacted(run), job.status, job.message, now=time.time())
    return replace(found, job=_told(job, run, address))


def _looked(look: Callable[[], RunStatus]) -> RunStatus | SourceError:
    """``look``'s answer, or that there is no run."""
    try:
        return look()
    except SourceError as error:
        if not error.details.get("missing"):
            raise
        return error


def _told(job: JobState, run: str, address: str) -> dict[str, Any]:
    return {
        "job": job.submission_id,
        "status": job.status,
        "message": job.message,
        "exit_code": job.exit_code,
        "logs": shlex.join(["tfresume", "logs", redacted(run), "--address", address]),
    }
