"""The commands that start runs: ``resume`` and ``submit``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

from cyclopts import Group, Parameter

from launch.commands.options import COMMAND_LINE, Looks
from launch.flags import RunFlags, merged, read_config_file, run_config
from launch.flags import given as given_flags
from launch.terminal import EXIT_DONE, answer_console, answers_only, message_console, plain_data, print_json
from orchestrator.config import RunConfig
from orchestrator.errors import ConfigError, RecoveryExhausted
from orchestrator.redaction import redacted, redacted_data, secrets_in

if TYPE_CHECKING:
    from launch.jobs.plan import JobPlan
    from orchestrator.decide.restarts import End

Config = Annotated[str | None, Parameter(name="--config", help="YAML file or URL with the same keys as the flags; flags win.")]
DryRun = Annotated[bool, Parameter(name="--dry-run", negative=(), show_default=False, help="Show the plan and start nothing.")]
Run = Annotated[RunFlags, Parameter(name="*")]  # type: ignore[valid-type]
JOB = Group("The job", sort_key=50)


def resume(
    source: str | None = None,
    /,
    *,
    run: Run = RunFlags(),  # noqa: B008  frozen
    config: Config = None,
    dry_run: DryRun = False,
    looks: Looks = Looks(),  # noqa: B008  frozen
) -> int:
    """Continue a training from its checkpoint.

    The same command run again goes on from the output's newest checkpoint.
    Without `--address` a local Ray is started for this run.

    For example:

        tfresume resume gs://b/run --output gs://b/more --steps 1000
            --workers 2 --input my_inputs.py:batches --feed keep_prob:0=0.5
        tfresume resume --config configs/local.yaml /data/run --output /data/more

    Args:
        source: A .meta URL, a checkpoint prefix or a directory.
    """
    checked = run_config(source, config, run)
    if dry_run:
        return _show_rehearsal(checked, looks)
    if not checked.output:
        raise ConfigError("--output is missing", remedy="Name the directory URL for the checkpoints to come")
    from launch.supervisor import SUPERVISED, supervise

    if os.environ.get(SUPERVISED):
        return _resume_here(checked, looks)
    return supervise(COMMAND_LINE.get()[1:], checked, gave_up=_tell_for_the_driver if looks.json else None)


def _tell_for_the_driver(end: End) -> None:
    """The answer that a driver which was killed can't give."""
    error = RecoveryExhausted(
        end.reason, remedy="Look for what kills it (memory, an operator); the same command goes on from here"
    )
    print_json({"status": "failed", "exit_code": end.code, "error": error.as_dict()})


def _show_rehearsal(config: RunConfig, looks: Looks) -> int:
    import yaml

    from orchestrator.driver.rehearsal import rehearse

    plan = rehearse(config)
    if looks.json:
        print_json({"status": "planned", **plan})
    else:
        answer_console().print(yaml.safe_dump(redacted_data(plain_data(plan)), sort_keys=False), markup=False)
    return EXIT_DONE


def _resume_here(config: RunConfig, looks: Looks) -> int:
    """Run the driver in this process and tell how it ended."""
    from launch.progress import progress_observer
    from orchestrator.driver.main import resume as drive

    with answers_only():
        result = drive(config, observer=progress_observer(message_console(), quiet=looks.quiet))
    if looks.json:
        print_json(result)
    else:
        from launch.result_text import result_text

        answer_console().print(result_text(result))
    return result.exit_code


def submit(
    source: str | None = None,
    /,
    *,
    run: Run = RunFlags(),  # noqa: B008  frozen
    config: Config = None,
    dry_run: DryRun = False,
    follow: Annotated[
        bool, Parameter(negative=(), show_default=False, group=JOB, help="Show the job's output and end with its exit code.")
    ] = False,
    ship: Annotated[
        list[str] | None,
        Parameter(negative_iterable=(), metavar="PATH", group=JOB, help="Ship another file or directory; repeatable."),
    ] = None,
    env: Annotated[
        list[str] | None,
        Parameter(
            negative_iterable=(), metavar="NAME[=VALUE]", group=JOB, help="Set a variable for driver and workers; no secrets."
        ),
    ] = None,
    pip: Annotated[
        list[str] | None,
        Parameter(negative_iterable=(), metavar="PACKAGE", group=JOB, help="Have Ray install a package for the job; repeatable."),
    ] = None,
    driver_cpus: Annotated[
        float, Parameter(group=JOB, help="CPUs for the driver's own process. With 0 it runs on the head node.")
    ] = 0.0,
    driver_memory_bytes: Annotated[int, Parameter(group=JOB, help="Memory for the driver's own process, in bytes.")] = 0,
    driver_label: Annotated[
        list[str] | None,
        Parameter(negative_iterable=(), metavar="NAME=VALUE", group=JOB, help="Place the driver on nodes with this Ray label."),
    ] = None,
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
    from launch.jobs.package import collected
    from launch.jobs.plan import job_plan, variables

    checked = run_config(source, config, run)
    values = merged(read_config_file(config) if config else {}, given_flags(run))
    values, files = collected(values, Path.cwd(), ship or ())
    plan = job_plan(
        checked,
        values,
        files,
        environment=variables(env or (), os.environ),
        pip=pip or (),
        driver_cpus=driver_cpus,
        driver_memory_bytes=driver_memory_bytes,
        driver_labels=dict(_label(item) for item in driver_label or ()),
    )
    if dry_run:
        return _show_plan(plan, looks)
    return _submit(plan, _job_server(checked.address), looks, follow=follow)


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ConfigError(f"--driver-label {text!r} isn't of the form NAME=VALUE", remedy="Write --driver-label NAME=VALUE")
    return name, value


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
    answer = {"status": "attached" if attached else "submitted", "job": outcome.submission_id, "output": plan.run["output"]}
    if not follow:
        if looks.json:
            print_json(answer)
        else:
            console = answer_console()
            console.print(f"{answer['status']}: job {outcome.submission_id}")
            console.print(
                f"  tfresume status {plan.run['output']}\n  tfresume logs {plan.run['output']} --address {address} --follow"
            )
        return EXIT_DONE
    stream = sys.stderr if looks.json else sys.stdout
    state = server.follow(outcome.submission_id, lambda text: _write_through(stream, text))
    if looks.json:
        print_json({**answer, "status": state.status.lower(), "exit_code": exit_code_of(state), "message": state.message})
    elif state.status != "SUCCEEDED":
        answer_console().print(f"job {state.submission_id} ended as {state.status}: {state.message}", markup=False)
    return exit_code_of(state)


def _write_through(stream: TextIO, text: str) -> None:
    stream.write(redacted(text, secrets_in(os.environ)))
    stream.flush()
