"""The commands that look at a run from outside: ``status``, ``report`` and ``checkpoints``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from launch.commands.options import Looks
from launch.terminal import EXIT_DONE, answer_console, print_json


def status(
    run: str,
    /,
    *,
    patience: Annotated[
        float | None, Parameter(help="Seconds to watch for a sign of life of the driver. Default: as long as its lease says.")
    ] = None,
    looks: Looks = Looks(),  # noqa: B008  frozen
) -> int:
    """Show what a run does, live or dead, from its output URL alone.

    For example:

        tfresume status gs://b/more
        tfresume status gs://b/more --json

    The state is one of: starting, waiting (for workers), forming, training,
    recovering, stopping; done, stopped, failed; dead (its driver is gone),
    silent (no sign of life while we looked), not started.

    Args:
        run: A run's output URL.
    """
    from launch.status import status as look
    from launch.status_text import status_text

    found = look(run, patience_s=patience)
    if looks.json:
        print_json(found)
    else:
        answer_console().print(status_text(found))
    return EXIT_DONE
