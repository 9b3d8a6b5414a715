"""What is submitted as a Ray job, under which name, and does such a job run already?

Rule: pure. A run's submissions are named after its output URL (``tfresume-<digest>-0001``,
``-0002`` …), so that submitting twice attaches to the job that runs, and submitting after an end
goes on in a new job. No credential enters a job's metadata, entrypoint or environment: Ray shows
them to everyone who can open the dashboard.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.config import RunConfig
from orchestrator.errors import ConfigError
from orchestrator.redaction import redacted, secrets_in

CONFIG_FILE = "run.yaml"
ENTRYPOINT = f"tfresume resume --config {CONFIG_FILE}"
ACTIVE = ("PENDING", "RUNNING")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

EXIT_OF_STOPPED = 143
"""What a shell reports of a process ended by SIGTERM (128 + 15), as the driver itself ends when
it's stopped so.
"""


@dataclass(frozen=True)
class JobState:
    """One job as the job server tells it: status is PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED."""

    submission_id: str
    status: str
    message: str = ""
    exit_code: int | None = None
    error_type: str = ""

    @property
    def active(self) -> bool:
        """Whether it is waiting to run or running."""
        return self.status in ACTIVE


@dataclass(frozen=True)
class Attach:
    """The run has a job already."""

    submission_id: str


@dataclass(frozen=True)
class Submit:
    """A new job is needed; if another client takes the name first, that one's job is this run's."""

    submission_id: str


@dataclass(frozen=True)
class JobPlan:
    """Everything that one submission consists of."""

    name: str
    entrypoint: str
    run: Mapping[str, Any]
    """The keys of the configuration file that is shipped."""
    files: Mapping[str, str]
    """What is shipped beside it: name in the working directory -> local path (a file or a
    directory).
    """
    runtime_env: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    driver_cpus: float = 0.0
    driver_memory_bytes: int = 0
    driver_labels: Mapping[str, str] = field(default_factory=dict)


def submission_name(output: str) -> str:
    """The name that all submissions of one output URL share. A trailing slash makes no difference."""
    return "tfresume-" + hashlib.sha256(output.rstrip("/").encode()).hexdigest()[:12]


def after_looking(name: str, jobs: Sequence[JobState]) -> Attach | Submit:
    """Whether the run named ``name`` runs already among the server's ``jobs``, or under which name
    to submit it.
    """
    numbers = [0]
    for job in jobs:
        prefix, _, number = job.submission_id.rpartition("-")
        if prefix == name and number.isdigit():
            if job.active:
                return Attach(job.submission_id)
            numbers.append(int(number))
    return Submit(f"{name}-{max(numbers) + 1:04d}")


def newest(name: str, jobs: Sequence[JobState]) -> JobState | None:
    """The run's latest job, active or not; None where the server knows none."""
    found = [
        job
        for job in jobs
        if job.submission_id.rpartition("-")[0] == name
        and job.submission_id.rpartition("-")[2].isdigit()
    ]
    return max(found, key=lambda job: int(job.submission_id.rpartition("-")[2]), default=None)


def exit_code_of(job: JobState) -> int:
    """The exit code that ``submit --follow`` ends with: the driver's own where there is one."""
    if job.status == "SUCCEEDED":
        return 0
    if job.status == "STOPPED":
        return EXIT_OF_STOPPED
    return job.exit_code if job.exit_code else 1


def job_plan(
    config: RunConfig,
    given: Mapping[str, Any],
    files: Mapping[str, str],
    *,
    environment: Mapping[str, str] | None = None,
    pip: Sequence[str] = (),
    driver_cpus: float = 0.0,
    driver_memory_bytes: int = 0,
    driver_labels: Mapping[str, str] | None = None,
) -> JobPlan:
    """What to submit for a run.

    Args:
        config: the checked configuration.
        given: its keys as they were given, paths already as they are in the working directory.
        files: what to ship: name in the working directory -> local path.
        environment: variables for driver and workers.
        pip: packages that Ray installs for the job.
        driver_cpus, driver_memory_bytes, driver_labels: where the driver's own process is placed;
            none: the head node.

    Raises:
        ConfigError: no output, or a secret among the variables.
    """
    if not config.output:
        raise ConfigError(
            "submit needs --output: a job's name and its restarts hang on it",
            remedy="Give --output URL",
        )
    runtime_env: dict[str, Any] = {}
    if environment:
        runtime_env["env_vars"] = _public(environment)
    if pip:
        runtime_env["pip"] = list(pip)
    secrets = secrets_in(environment or {})
    return JobPlan(
        name=submission_name(config.output),
        entrypoint=ENTRYPOINT,
        run={**given, "source": config.source, "output": config.output, "address": "auto"},
        files=files,
        runtime_env=runtime_env,
        metadata={
            "run": redacted(config.output, secrets),
            "source": redacted(config.source, secrets),
            "by": "tfresume",
        },
        driver_cpus=driver_cpus,
        driver_memory_bytes=driver_memory_bytes,
        driver_labels=driver_labels or {},
    )


def _public(environment: Mapping[str, str]) -> dict[str, str]:
    secret = sorted(
        name
        for name, value in environment.items()
        if secrets_in({name: value.ljust(8, "x")}) or redacted(value) != value
    )
    if secret:
        raise ConfigError(
            f"--env would put secrets into the job's metadata: {', '.join(secret)}",
            remedy="Give them to the Pods or machines instead (a Kubernetes Secret, a role), where the job server doesn't show them",
            details={"variables": secret},
        )
    return dict(environment)


def variables(pairs: Sequence[str], own: Mapping[str, str]) -> dict[str, str]:
    """``NAME=VALUE`` or ``NAME`` (then this process's own value) as variables.

    Raises:
        ConfigError: a name that isn't one, or one that this process doesn't have.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"--env {redacted(pair)!r} isn't of the form NAME=VALUE",
                remedy="Write --env NAME=VALUE, or --env NAME",
            )
        if not equals and name not in own:
            raise ConfigError(
                f"--env {name}: there is no such variable here", remedy=f"Write --env {name}=VALUE"
            )
        found[name] = value if equals else own[name]
    return found
