"""The command ``submit``: a run as a job of a Ray cluster."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from launch.commands.options import Looks
from launch.commands.run_options import Config, DryRun, Run
from launch.flags import RunFlags, merged, pair, read_config_file, run_config
from launch.flags import given as given_flags
from launch.terminal import EXIT_DONE, answer_console, plain_data, print_json, write_text
from orchestrator.config import RunConfig
from orchestrator.errors import ConfigError
from orchestrator.redaction import redacted_data

if TYPE_CHECKING:
    from launch.jobs.plan import JobPlan

log = logging.getLogger("tfresume")

JOB = Group("Ray job", sort_key=50)


def _several(metavar: str, text: str) -> Parameter:
    return Parameter(negative_iterable=(), metavar=metavar, group=JOB, help=text)


def _one(text: str) -> Parameter:
    return Parameter(group=JOB, help=text)


@Parameter(name="*")
@dataclass(frozen=True)
class JobFlags:
    """What only a job has."""

    follow: Annotated[
        bool,
        Parameter(
            negative=(),
            show_default=False,
            group=JOB,
            help="Show the job's output and end with its exit code.",
        ),
    ] = False
    ship: Annotated[
        list[str] | None, _several("PATH", "Ship another file or directory; repeatable.")
    ] = None
    env: Annotated[
        list[str] | None,
        _several("NAME[=VALUE]", "Set a variable for driver and workers; no secrets."),
    ] = None
    pip: Annotated[
        list[str] | None, _several("PACKAGE", "Have Ray install a package for the job; repeatable.")
    ] = None
    driver_cpus: Annotated[
        float, _one("CPUs for the driver's own process. With 0 it runs on the head node.")
    ] = 0.0
    driver_memory_bytes: Annotated[int, _one("Memory for the driver's own process, in bytes.")] = 0
    driver_label: Annotated[
        list[str] | None, _several("NAME=VALUE", "Place the driver on nodes with this Ray label.")
    ] = None


def submit(
    source: str | None = None,
    /,
    *,
    run: Run = RunFlags(),  # noqa: B008  frozen
    job: JobFlags = JobFlags(),
    config: Config = None,
    dry_run: DryRun = False,
    looks: Looks = Looks(),  # noqa: B008  frozen
) -> int:
    """Run `resume` as a job of a Ray cluster.

    `--address` is the cluster's job server (the dashboard). The configuration
    and the input function's file or module travel with the job. Submitting
    the same output again attaches to the job that runs.

    For example:

        tfresume submit gs://b/run --output gs://b/more --until-step 20000
            --input my_inputs.py:batches --address http://HEAD:8265 --follow
        tfresume submit --config configs/spot.yaml --address http://HEAD:8265

    Args:
        source: A .meta URL, a checkpoint prefix or a directory.
    """
    checked = run_config(source, config, run)
    plan = _plan(checked, merged(read_config_file(config) if config else {}, given_flags(run)), job)
    if dry_run:
        return _show_plan(plan, looks)
    return _submit(plan, _job_server(checked.address), looks, follow=job.follow)


def _plan(config: RunConfig, values: dict[str, Any], job: JobFlags) -> JobPlan:
    from launch.jobs.package import collected
    from launch.jobs.plan import job_plan, variables
    from launch.jobs.spelling import absolute

    here = Path.cwd()
    values, files = collected(absolute(values, here), here, job.ship or ())
    spelled = absolute({"source": config.source, "output": config.output}, here)
    config = config.model_copy(update=spelled)
    return job_plan(
        config,
        values,
        files,
        environment=variables(job.env or (), os.environ),
        pip=job.pip or (),
        driver_cpus=job.driver_cpus,
        driver_memory_bytes=job.driver_memory_bytes,
        driver_labels=dict(pair("--driver-label", item) for item in job.driver_label or ()),
    )


def _job_server(address: str | None) -> str:
    found = address if address not in (None, "auto") else os.environ.get("RAY_API_SERVER_ADDRESS")
    if not found:
        from launch.jobs.server import REMEDY_ADDRESS

        raise ConfigError("submit needs the address of a job server", remedy=REMEDY_ADDRESS)
    return found


def _show_plan(plan: JobPlan, looks: Looks) -> int:
    import yaml

    data = plain_data(plan)
    if looks.json:
        print_json({"status": "planned", "job": data})
    else:
        answer_console().print(yaml.safe_dump(redacted_data(data), sort_keys=False), markup=False)
    return EXIT_DONE


def _submit(plan: JobPlan, address: str, looks: Looks, *, follow: bool) -> int:
    from launch.jobs.plan import Attach, exit_code_of
    from launch.jobs.server import JobServer

    server = JobServer(address)
    outcome = server.submit(plan)
    attached = isinstance(outcome, Attach)
    answer = {
        "status": "attached" if attached else "submitted",
        "job": outcome.submission_id,
        "output": plan.run["output"],
    }
    if not follow:
        if looks.json:
            print_json(answer)
        else:
            console = answer_console()
            output = plan.run["output"]
            console.print(f"{answer['status']}: job {outcome.submission_id}", markup=False)
            console.print(
                f"  tfresume status {output}\n  tfresume logs {output} --address {address} --follow",
                markup=False,
            )
        return EXIT_DONE
    try:
        state = server.follow(
            outcome.submission_id, lambda text: write_text(text, to_stderr=looks.json)
        )
    except KeyboardInterrupt:
        log.warning(
            "no longer following: job %s goes on. `tfresume logs %s --address %s --follow` shows it again, "
            "`tfresume stop %s` saves and ends it",
            outcome.submission_id,
            answer["output"],
            address,
            answer["output"],
        )
        raise
    if looks.json:
        print_json(
            {
                **answer,
                "status": state.status.lower(),
                "exit_code": exit_code_of(state),
                "message": state.message,
            }
        )
    elif state.status != "SUCCEEDED":
        answer_console().print(
            f"job {state.submission_id} ended as {state.status}: {state.message}", markup=False
        )
    return exit_code_of(state)
