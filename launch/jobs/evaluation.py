"""How does an evaluator run as a job of a Ray cluster?

Rule: the same flags as a configuration file beside the job, with the input function's file or
module and places in one spelling, as ``submit`` has it. An evaluator's job is named after the run
and the evaluator, so that submitting again attaches to the one that runs; that of one evaluation
after all that it asks, the content of its files included, since two of a run are different
questions.
"""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.commands.options import Looks
from launch.flags import given, merged, read_config_file
from launch.terminal import EXIT_DONE, answer_console, print_json
from orchestrator.config import RunConfig
from orchestrator.redaction import redacted, secrets_in

if TYPE_CHECKING:
    from launch.commands.evaluate import EvaluateFlags
    from launch.jobs.plan import JobPlan


def evaluation_plan(config: RunConfig, values: dict[str, Any], what: EvaluateFlags) -> JobPlan:
    """What to submit.

    Args:
        config: the checked configuration.
        values: its keys as they were given.

    Raises:
        ConfigError: a file that is to be shipped isn't there.
    """
    from launch.jobs.package import collected, digests
    from launch.jobs.plan import CONFIG_FILE, JobPlan, submission_name
    from launch.jobs.spelling import absolute

    here = Path.cwd()
    given_values = absolute({**values, "source": config.source, "address": "auto"}, here)
    run, files = collected(given_values, here, ())
    source = str(run["source"])
    entrypoint = shlex.join(["tfresume", "evaluate", "--config", CONFIG_FILE, *_words(what)])
    question = [entrypoint, run, digests(files)]
    asked = what.name if what.follow else json.dumps(question, sort_keys=True, default=str)
    secrets = secrets_in(os.environ)
    return JobPlan(
        name=submission_name(f"{source}#{asked}").replace("tfresume-", "tfresume-evaluate-"),
        entrypoint=entrypoint,
        run=run,
        files=files,
        metadata={"run": redacted(source, secrets), "by": "tfresume evaluate"},
    )


def _words(what: EvaluateFlags) -> list[str]:
    """The flags that no configuration file has."""
    words: list[str] = []
    for flag, items in (
        ("--fetch", what.fetch),
        ("--on-resource", what.on_resource),
        ("--on-label", what.on_label),
    ):
        words += [f"{flag}={item}" for item in items or ()]
    words += [f"--batches={what.batches}"]
    if what.step is not None:
        words += [f"--step={what.step}"]
    if what.follow:
        words += ["--follow", f"--name={what.name}", f"--every-s={what.every_s:g}"]
    if what.keep_best:
        words += [f"--keep-best={what.keep_best}"]
    return words


def submit_evaluation(
    config: RunConfig, file: str | None, flags: Any, what: EvaluateFlags, looks: Looks
) -> int:
    """Submit it and say under which name.

    Raises:
        ConfigError: the server can't be used, or a flag is wrong.
        ClusterUnavailable: the server doesn't answer.
    """
    from launch.jobs.plan import Attach
    from launch.jobs.server import JobServer

    plan = evaluation_plan(
        config, merged(read_config_file(file) if file else {}, given(flags)), what
    )
    assert config.address is not None
    outcome = JobServer(config.address).submit(plan)
    state = "attached" if isinstance(outcome, Attach) else "submitted"
    if looks.json:
        print_json({"status": state, "job": outcome.submission_id, "run": plan.run["source"]})
    else:
        answer_console().print(
            f"{state}: job {outcome.submission_id}\n"
            f"  ray job logs {outcome.submission_id} --address {config.address} --follow",
            markup=False,
        )
    return EXIT_DONE
