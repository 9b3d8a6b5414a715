"""The command ``check``, which judges before anything runs."""

from __future__ import annotations

from typing import Any

from launch.commands.options import Looks
from launch.commands.run import Config, Run
from launch.flags import RunFlags, run_config
from launch.terminal import answer_console, print_json
from orchestrator.config import RunConfig


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

    For example:

        tfresume check gs://b/run
        tfresume check gs://b/run --workers 4 --feed keep_prob:0=0.5 --json

    Args:
        source: A .meta URL, a checkpoint prefix or a directory.
    """
    from launch.runs.inspectable import look_at
    from launch.text.check_text import render_check
    from orchestrator.driver.chosen_graph import graph_to_train
    from orchestrator.driver.refusals import refusals
    from orchestrator.training.inputs.preflight import preflight as judge

    checked = run_config(source, config, run)
    seen = look_at(checked.source, checked.output)
    meta, also = graph_to_train(seen.meta, checked), (*refusals(checked), *seen.problems)
    report = judge(meta, checked, checkpoint=seen.keys, memory=_free_memory(checked), also=also)
    if looks.json:
        print_json({"source": seen.shown, **report.as_dict()})
    else:
        render_check(report, answer_console())
    return report.exit_code


def _free_memory(config: RunConfig) -> Any:
    """This machine's free memory, where the run would be here; None where a cluster's nodes would
    hold it.
    """
    if config.address is not None:
        return None
    import psutil

    from orchestrator.graph.variables.memory import FreeMemory

    processes = config.workers.largest + config.workers.standby
    return FreeMemory(host_bytes=int(psutil.virtual_memory().available), workers_per_node=processes)
