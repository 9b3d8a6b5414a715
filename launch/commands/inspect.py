"""The command ``inspect``, which looks before anything runs. It takes no flags of a run, so that
it's there at once.
"""

from __future__ import annotations

from launch.commands.options import Looks
from launch.terminal import EXIT_DONE, answer_console, print_json


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
    from launch.runs.inspectable import look_at
    from orchestrator.graph.inspect import inspect as describe

    seen = look_at(source)
    report = describe(
        seen.meta,
        source=seen.shown,
        size_bytes=seen.size_bytes,
        checkpoint=seen.keys,
        also=seen.problems,
    )
    if looks.json:
        print_json(report)
    else:
        from launch.text.inspect_text import render_inspect
        from launch.text.table_text import render_shares

        render_inspect(report, answer_console())
        if report.shares is not None:
            render_shares(report.shares, answer_console())
    return EXIT_DONE
