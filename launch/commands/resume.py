"""The command ``resume``: a training goes on from its checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from launch.commands.options import Looks
from launch.commands.run_options import Config, DryRun, Run
from launch.flags import RunFlags, run_config
from launch.jobs.inside import is_job_server
from launch.terminal import (
    EXIT_DONE,
    answer_console,
    answers_only,
    guarded,
    message_console,
    plain_data,
    print_json,
    show_error,
)
from orchestrator.config import RunConfig
from orchestrator.errors import ConfigError, OrchestratorError, RecoveryExhausted
from orchestrator.redaction import redacted_data

if TYPE_CHECKING:
    from orchestrator.decide.driver_restarts import End


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
        return _show_dry_run(checked, looks)
    if not checked.output:
        raise ConfigError(
            "--output is missing", remedy="Name the directory URL for the checkpoints to come"
        )
    if checked.address is not None and is_job_server(checked.address):
        raise ConfigError(
            f"{checked.address} is a job server, and resume runs the driver here",
            remedy="Use `tfresume submit` with the same flags, or give the cluster's own address (HOST:PORT, auto)",
        )
    from launch.supervisor import supervise
    from orchestrator.driver.callbacks.loading import chosen
    from orchestrator.driver.notifier import webhooks
    from orchestrator.driver.refusals import refuse

    refuse(checked)  # before a Ray is started
    webhooks(checked.notify, os.environ)
    chosen(checked.callback)

    def drive() -> int:
        return guarded(lambda: or_crashed(lambda: _resume_here(checked, looks)), as_json=looks.json)

    def gave_up(end: End) -> None:
        _notify_for_the_driver(end, checked)
        if looks.json:
            _tell_for_the_driver(end)

    return supervise(drive, checked, gave_up=gave_up)


def or_crashed(work: Callable[[], int]) -> int:
    """An error that nobody raised on purpose is no answer: the supervisor starts the driver again,
    and its workers go on meanwhile.
    """
    from orchestrator.decide.driver_restarts import CRASHED

    try:
        return work()
    except OrchestratorError:
        raise
    except Exception as error:  # noqa: BLE001 - shown in full
        show_error(error, as_json=False)
        return CRASHED


def _notify_for_the_driver(end: End, config: RunConfig) -> None:
    """The run's end, where no driver is left that could post it."""
    from orchestrator.driver.notifier import notifier_of
    from orchestrator.journal.run_events import RunEnded
    from orchestrator.store.objects.location import open_location

    ended = RunEnded(outcome="failed", reason=end.reason, step=None, checkpoint_step=None)
    for notifier in notifier_of(config.notify, open_location(config.output).shown, os.environ):
        notifier.event(ended.record())
        notifier.close()


def _tell_for_the_driver(end: End) -> None:
    """The answer that a driver which was killed can't give."""
    error = RecoveryExhausted(
        end.reason,
        remedy="Look for what kills it (memory, an operator); the same command goes on from here",
    )
    print_json({"status": "failed", "exit_code": end.code, "error": error.as_dict()})


def _show_dry_run(config: RunConfig, looks: Looks) -> int:
    import yaml

    from orchestrator.driver.dry_run import dry_run

    plan = dry_run(config)
    if looks.json:
        print_json({"status": "planned", **plan})
    else:
        answer_console().print(
            yaml.safe_dump(redacted_data(plain_data(plan)), sort_keys=False), markup=False
        )
    return EXIT_DONE


def _resume_here(config: RunConfig, looks: Looks) -> int:
    """Run the driver in this process and tell how it ended."""
    from orchestrator.driver.ray_link import RayLink

    link = RayLink(config)  # while the rest is imported
    from launch.text.progress import progress_observer
    from orchestrator.driver.main import resume as drive

    with answers_only():
        result = drive(
            config, observer=progress_observer(message_console(), quiet=looks.quiet), link=link
        )
    if looks.json:
        print_json(result)
    else:
        from launch.text.result_text import result_text

        answer_console().print(result_text(result))
    return result.exit_code
