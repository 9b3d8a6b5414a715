"""The commands that look before anything runs: ``inspect`` and ``check``."""

from __future__ import annotations

from typing import Any

from launch.commands.options import Looks
from launch.commands.run import Config, Run
from launch.flags import RunFlags, run_config
from launch.terminal import EXIT_DONE, answer_console, print_json
from orchestrator.config import RunConfig
from orchestrator.errors import CorruptCheckpoint, SourceError


def inspect(
    source: str,
    /,
    *,
    looks: Looks = Looks(),  # noqa: B008  frozen
) -> int:
    """Show what a .meta file and the checkpoint beside it hold.

    No TensorFlow is needed, nothing is written and nothing is run.

    For example:

        tfresume inspect gs://b/run/model.ckpt-10000.meta
        tfresume inspect /data/run --json

    Args:
        source: A .meta URL, a checkpoint prefix or a directory.
    """
    from launch.inspect_view import render_inspect
    from orchestrator.graph.inspect import inspect as describe
    from orchestrator.graph.meta import read_meta

    found = _resolved(source, need_checkpoint=False)
    meta = read_meta(found.meta_data, name=found.meta.shown)
    report = describe(meta, source=found.meta.shown, size_bytes=len(found.meta_data), checkpoint=found.keys())
    if looks.json:
        print_json(report)
    else:
        render_inspect(report, answer_console())
    return EXIT_DONE


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
    from launch.check_view import render_check
    from orchestrator.graph.check import check as judge
    from orchestrator.graph.meta import read_meta

    checked = run_config(source, config, run)
    found = _resolved(checked.source, need_checkpoint=True)
    meta = read_meta(found.meta_data, name=found.meta.shown)
    report = judge(meta, checked, checkpoint=found.keys(), memory=_free_memory(checked))
    if looks.json:
        print_json({"source": found.meta.shown, **report.as_dict()})
    else:
        render_check(report, answer_console())
    return report.exit_code


def _resolved(source: str, *, need_checkpoint: bool) -> Any:
    """The source; a damaged checkpoint is bad input here, since nothing was started."""
    from orchestrator.store.source import resolve_source

    try:
        return resolve_source(source, need_checkpoint=need_checkpoint)
    except CorruptCheckpoint as error:
        raise SourceError(error.message, remedy=error.remedy, details=error.details) from error


def _free_memory(config: RunConfig) -> Any:
    """This machine's free memory, where the run would be here; None where a cluster's nodes would hold it."""
    if config.address is not None:
        return None
    import psutil

    from orchestrator.graph.memory import FreeMemory

    processes = config.workers.largest + config.workers.standby
    return FreeMemory(host_bytes=int(psutil.virtual_memory().available), workers_per_node=processes)
