"""The command ``check``, which judges before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from launch.commands.options import Looks
from launch.commands.run_options import Config, Run
from launch.flags import RunFlags, run_config
from launch.terminal import EXIT_REFUSED, answer_console, print_json
from orchestrator.config import RunConfig

if TYPE_CHECKING:
    from orchestrator.driver.proof import Proof


def check(
    source: str | None = None,
    /,
    *,
    run: Run = RunFlags(),  # noqa: B008  frozen
    config: Config = None,
    looks: Looks = Looks(),  # noqa: B008  frozen
) -> int:
    """Say every reason why a checkpoint would not resume; exit 0 or 2.

    Takes the flags of `resume` and judges that very run. Nothing is started.
    With --prove a process of its own takes one step on the run's first
    batches, as a group and as one process, and what differs is said.

    For example:

        tfresume check gs://b/run
        tfresume check gs://b/run --workers 4 --feed keep_prob:0=0.5 --json
        tfresume check gs://b/run --workers 4 --input feeds.py:batches --prove

    Args:
        source: A .meta URL, a checkpoint prefix or a directory.
    """
    from launch.runs.inspectable import look_at
    from launch.text.check_text import render_check
    from launch.text.verify_text import render_proof
    from orchestrator.driver.chosen_graph import chosen_graph
    from orchestrator.driver.edited_graph import edited_graph
    from orchestrator.driver.free_memory import free_memory
    from orchestrator.driver.refusals import refusals
    from orchestrator.store.checkpoints.source import named_source
    from orchestrator.training.inputs.preflight import preflight as judge

    checked = run_config(source, config, run)
    seen = look_at(named_source(checked), checked.output)
    edited = edited_graph(chosen_graph(seen.meta, checked.meta), checked, seen.keys)
    report = judge(
        *(edited.meta, checked),
        checkpoint=edited.checkpoint,
        memory=free_memory(checked),
        also=(*refusals(checked), *seen.problems, *edited.problems),
        loading=edited.loading,
    )
    proof = _proof(checked) if report.resumes and checked.prove else None
    if looks.json:
        told = {} if proof is None else {"proof": proof.as_dict()}
        print_json({"source": seen.shown, **report.as_dict(), **told})
    else:
        render_check(report, answer_console())
        if proof is not None:
            render_proof(proof, answer_console())
    refused = proof is not None and proof.verdict == "differs" and not checked.accept_differences
    return EXIT_REFUSED if refused else report.exit_code


def _proof(config: RunConfig) -> Proof:
    from orchestrator.driver.proof import unproved
    from orchestrator.driver.proving import prove

    return prove(config) or unproved("a step has one batch")
