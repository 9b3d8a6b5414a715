"""The command ``status``: what does a run do, live or dead?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from launch.commands.options import Looks
from launch.terminal import EXIT_DONE, answer_console, message_console, print_json

if TYPE_CHECKING:
    from launch.runs.status_model import RunStatus


def status(
    run: str,
    /,
    *,
    patience: Annotated[
        float | None,
        Parameter(
            validator=Number(gte=0),
            help="Longest time to watch for a heartbeat that is due, in seconds. Default: the driver's lease.",
        ),
    ] = None,
    address: Annotated[
        str | None,
        Parameter(
            help="Job server: tell of the run's latest job too, also of one that never began."
        ),
    ] = None,
    watch: Annotated[
        bool,
        Parameter(
            name=["--watch", "-w"],
            negative=(),
            show_default=False,
            help="Show it again every two seconds until the run ends; Ctrl-C ends only the watching.",
        ),
    ] = False,
    looks: Looks = Looks(),  # noqa: B008  frozen
) -> int:
    """Show what a run does, live or dead, from its output URL alone.

    For example:

        tfresume status gs://b/more
        tfresume status gs://b/more --watch
        tfresume status gs://b/more --address http://HEAD:8265
        tfresume status gs://b/more --json

    The state is one of: starting, waiting (for workers), forming, training,
    recovering, stopping; done, stopped, failed; dead (its driver is gone),
    silent (no sign of life while we looked), not started.

    Args:
        run: A run's output URL.
    """

    def look() -> RunStatus:
        return _looked_at(run, patience, address)

    found = _watched(look) if watch else look()
    if looks.json:
        print_json(found)
    elif not watch:
        from launch.text.status_text import status_text

        answer_console().print(status_text(found))
    return EXIT_DONE


def _looked_at(run: str, patience: float | None, address: str | None) -> RunStatus:
    from launch.runs.status import status as look

    if address is None:
        return look(run, patience_s=patience)
    from launch.jobs.job_status import with_job

    return with_job(run, address, lambda: look(run, patience_s=patience))


def _watched(look: Callable[[], RunStatus]) -> RunStatus:
    """Shows the status until the run is over, or nobody wants to see it any more; the last one."""
    from rich.live import Live

    from launch.runs.watching import until_over
    from launch.text.status_text import status_text

    # On the terminal of messages, so that --json has standard output to itself
    with Live(console=message_console(), auto_refresh=False) as live:
        return until_over(look, lambda found: live.update(status_text(found), refresh=True))
