"""How is a Ray cluster's job server asked?

Rule: the thin shell around Ray's Jobs SDK. Everything that can go wrong with the address, the token
or the versions is told before anything is submitted; Ray's own exceptions end here.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import stamina

from launch.jobs.package import working_directory
from launch.jobs.plan import Attach, JobPlan, JobState, Submit, after_looking, newest
from orchestrator.errors import ClusterUnavailable, ConfigError
from orchestrator.redaction import redacted

log = logging.getLogger("tfresume")

CONNECT_TIMEOUT_S = 10.0
"""A dashboard that lives takes a connection in milliseconds; behind a tunnel that is just being
opened in seconds.
"""
RETRY_S = 60.0
"""Longest time in which questions to a dashboard are asked again: one that restarts is back within
it.
"""
POLL_S = 0.5
"""Between two looks at a job that is to end: as quick as a person notices."""
CHATTY = (
    "ray.dashboard.modules.job.sdk",
    "ray.dashboard.modules.dashboard_sdk",
    "ray._private.runtime_env.packaging",
)
"""Loggers that tell of each upload and each closed connection; they set their own level when they
are imported.
"""
REMEDY_ADDRESS = "Give the dashboard's address, as in --address http://HEAD:8265; on Kubernetes `kubectl port-forward svc/NAME-head-svc 8265`"


class JobServer:
    """A connected job server. All methods raise ClusterUnavailable if it stops answering."""

    def __init__(self, address: str) -> None:
        """Connect.

        Raises:
            ConfigError: unreachable, unauthorised, or another Ray version than ours.
        """
        self.address = _checked_address(address)
        _check_reachable(self.address)
        self._client = self._connect()
        self._check_version()

    def _connect(self) -> Any:
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            return JobSubmissionClient(self.address)
        except AuthenticationError as error:
            raise ConfigError(
                f"the job server at {self.address} refuses this client: {redacted(str(error)).splitlines()[0]}",
                remedy="Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) to the cluster's token",
            ) from error
        except (RuntimeError, ConnectionError, ValueError, OSError) as error:
            raise ConfigError.from_cause(
                f"{self.address} doesn't answer as a Ray job server", error, remedy=REMEDY_ADDRESS
            ) from error

    def _check_version(self) -> None:
        import ray

        theirs = str(self._client._server_ray_version or "")
        if theirs.split(".")[:2] != ray.__version__.split(".")[:2]:
            raise ConfigError(
                f"the cluster at {self.address} runs Ray {theirs or '(unknown)'}, this machine {ray.__version__}",
                remedy=f"Install ray=={theirs} here, or use the image with Ray {ray.__version__} in the cluster",
            )

    def jobs(self) -> list[JobState]:
        """Every job that the server remembers."""
        return [_state(job) for job in self._ask("list_jobs") if job.submission_id]

    def find(self, name: str) -> JobState | None:
        """The latest job of the run named ``name``."""
        return newest(name, self.jobs())

    def state(self, submission_id: str) -> JobState:
        """One job."""
        return _state(self._ask("get_job_info", submission_id))

    def submit(self, plan: JobPlan) -> Attach | Submit:
        """Submit the plan's job, or attach to the one that runs.

        Raises:
            ConfigError: the server refuses the job (its environment, its resources).
        """
        decision = after_looking(plan.name, self.jobs())
        if isinstance(decision, Attach):
            return decision
        with working_directory(plan) as directory:
            try:
                self._client.submit_job(
                    entrypoint=plan.entrypoint,
                    submission_id=decision.submission_id,
                    runtime_env={**plan.runtime_env, "working_dir": str(directory)},
                    metadata=dict(plan.metadata),
                    entrypoint_num_cpus=plan.driver_cpus or None,
                    entrypoint_memory=plan.driver_memory_bytes or None,
                    entrypoint_label_selector=dict(plan.driver_labels) or None,
                )
            except (RuntimeError, ValueError) as error:
                if any(job.submission_id == decision.submission_id for job in self.jobs()):
                    return Attach(decision.submission_id)  # another client was a moment faster
                raise ConfigError(
                    f"the job server at {self.address} refuses the job: {_first_line(error)}",
                    remedy="Fix what it names; `tfresume submit --dry-run` shows what is sent",
                ) from error
        return decision

    def stop(self, submission_id: str) -> None:
        """Send the job's processes SIGTERM; Ray kills them after RAY_JOB_STOP_WAIT_TIME_S (3 s by
        default).
        """
        self._ask("stop_job", submission_id)

    def logs(self, submission_id: str) -> str:
        """What the job has written so far."""
        return str(self._ask("get_job_logs", submission_id))

    def follow(self, submission_id: str, write: Callable[[str], None]) -> JobState:
        """Pass everything that the job writes to ``write`` until it ends; reconnect where the
        connection breaks.

        Returns:
            the job's last state.
        """
        shown = 0
        while True:
            shown = asyncio.run(self._tail(submission_id, shown, write))
            state = self.state(submission_id)
            if not state.active:
                break
            time.sleep(POLL_S)
        rest = self.logs(submission_id)[shown:]
        if rest:
            write(rest)
        return state

    async def _tail(self, submission_id: str, shown: int, write: Callable[[str], None]) -> int:
        """One connection's worth of log; it begins at the log's start again, so ``shown``
        characters are left out.
        """
        import aiohttp

        seen = 0
        try:
            async for chunk in self._client.tail_job_logs(submission_id):
                seen += len(chunk)
                if seen > shown:
                    write(chunk[-(seen - shown) :])
                    shown = seen
        except (RuntimeError, OSError, aiohttp.ClientError) as error:
            log.debug("the log of %s broke off: %s", submission_id, _first_line(error))
        return shown

    def _ask(self, method: str, *arguments: str) -> Any:
        """One call of the SDK, again with growing pauses for a minute where the server doesn't
        answer.
        """
        try:
            for attempt in stamina.retry_context(
                on=_is_passing, attempts=20, timeout=RETRY_S, wait_max=5.0
            ):
                with attempt:
                    return getattr(self._client, method)(*arguments)
        except (RuntimeError, OSError) as error:
            if "status code 404" in str(error):
                raise ConfigError(
                    f"the job server at {self.address} knows no job {' '.join(arguments)}",
                    remedy="The cluster may have been rebuilt; `tfresume status RUN` reads the run from its output URL",
                ) from error
            raise ClusterUnavailable(
                f"the job server at {self.address} stopped answering: {_first_line(error)}",
                remedy="The job itself may go on: ask `tfresume status RUN`, or run the same command again to attach",
            ) from error
        raise AssertionError("unreachable: a retry context ends by returning or raising")


def _is_passing(error: Exception) -> bool:
    """Whether another try may work: no connection, or the server's own trouble."""
    return isinstance(error, OSError) or (
        isinstance(error, RuntimeError) and "status code 5" in str(error)
    )


def _checked_address(address: str) -> str:
    url = address if "://" in address else f"http://{address}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"{redacted(address)} isn't a job server's address", remedy=REMEDY_ADDRESS
        )
    return url.rstrip("/")


def _check_reachable(address: str) -> None:
    """Raises ConfigError where nobody listens: requests itself would wait for minutes on a host
    that swallows packets.
    """
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise ConfigError.from_cause(
            f"no job server answers at {redacted(address)}", error, remedy=REMEDY_ADDRESS
        ) from error


def _state(job: Any) -> JobState:
    return JobState(
        submission_id=str(job.submission_id),
        status=str(getattr(job.status, "value", job.status)),
        message=redacted(str(job.message or "")),
        exit_code=job.driver_exit_code,
        error_type=str(job.error_type or ""),
    )


def _first_line(error: BaseException) -> str:
    return redacted(
        next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    )
