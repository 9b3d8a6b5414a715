"""The command ``verify``: is resuming a checkpoint faithful?"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from launch.commands.options import Looks
from launch.commands.run_options import Config, Run
from launch.flags import RunFlags, run_config
from launch.terminal import answer_console, print_json


def verify(
    source: str | None = None,
    /,
    *,
    run: Run = RunFlags(),  # noqa: B008  frozen
    compare_steps: Annotated[
        int, Parameter(help="Steps that are run and compared, at least 2.")
    ] = 4,
    tolerance: Annotated[
        float,
        Parameter(help="Largest difference that passes, relative to how far the variable moved."),
    ] = 1e-3,
    config: Config = None,
    looks: Looks = Looks(),  # noqa: B008  frozen
) -> int:
    """Prove that resuming a checkpoint is faithful; takes a minute.

    The same steps are run by a group of workers, by the group with a restart
    in the middle, by one process that takes all batches of a step itself, and
    by one bare TensorFlow process that is fed them as one. The first three
    have to end with the same bytes, the last nearly so. Takes the flags of
    `resume`; nothing is written but to a temporary directory. Exit
    code 0 if they agree or what differs is named, 1 if they don't.

    For example:

        tfresume verify gs://b/run --workers 2 --input my_inputs.py:batches
        tfresume verify /data/run --workers 2 --array x:0=x.npy --batch-size 8

    Args:
        source: A .meta URL, a checkpoint prefix or a directory.
    """
    from launch.text.verify_text import render_verify
    from orchestrator.driver.verify import verify as compare

    found = compare(run_config(source, config, run), steps=compare_steps, tolerance=tolerance)
    if looks.json:
        print_json(found)
    else:
        render_verify(found, answer_console())
    return found.exit_code
