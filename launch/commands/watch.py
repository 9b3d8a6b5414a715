"""The commands that look at a run from outside: ``status``, ``report`` and ``checkpoints``."""

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
            help="Show it anew every two seconds until the run ends; Ctrl-C only stops looking.",
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
    from launch.jobs.asking import with_job

    return with_job(run, address, lambda: look(run, patience_s=patience))


def _watched(look: Callable[[], RunStatus]) -> RunStatus:
    """Shows the status until the run is over, or nobody wants to see it any more; the last one."""
    from rich.live import Live

    from launch.runs.watching import until_over
    from launch.text.status_text import status_text

    # On the terminal of messages, so that --json has standard output to itself
    with Live(console=message_console(), auto_refresh=False) as live:
        return until_over(look, lambda found: live.update(status_text(found), refresh=True))


def report(
    run: str,
    /,
    *,
    output: Annotated[
        str,
        Parameter(
            name=["--output", "-o"], help="Where to write the page: a path or any fsspec URL."
        ),
    ],
    looks: Looks = Looks(),  # noqa: B008  frozen
) -> int:
    """Write one self-contained HTML page about a run: loss, throughput, workers, incidents, saves,
    goodput.

    For example:

        tfresume report gs://b/more -o report.html

    The page needs no network and no server: open it in a browser, or mail it.

    Args:
        run: A run's output URL.
    """
    from launch.report.make import write_report

    location = write_report(run, output)
    if looks.json:
        print_json({"report": location.shown})
    else:
        answer_console().print(f"written: {location.shown}", soft_wrap=True, markup=False)
    return EXIT_DONE


Verify = Annotated[
    bool,
    Parameter(
        negative=(), show_default=False, help="Read every byte and compare every tensor's checksum."
    ),
]
Prune = Annotated[
    bool,
    Parameter(
        negative=(),
        show_default=False,
        help="First delete what the run can't use: fenced checkpoints, unfinished saves.",
    ),
]


def checkpoints(
    run: str,
    /,
    *,
    verify: Verify = False,
    prune: Prune = False,
    dry_run: Annotated[
        bool,
        Parameter(
            name="--dry-run",
            negative=(),
            show_default=False,
            help="With --prune: delete nothing, and name what would be deleted.",
        ),
    ] = False,
    looks: Looks = Looks(),  # noqa: B008  frozen
) -> int:
    """List a run's checkpoints, newest first: step, size, age, state and where each came from.

    For example:

        tfresume checkpoints gs://b/more
        tfresume checkpoints gs://b/more --verify --json
        tfresume checkpoints gs://b/more --prune --dry-run

    States: good; incomplete (the save didn't finish, or is under way); corrupt,
    with the reason; fenced (saved by a driver after another had taken over, and
    never resumed from).

    Args:
        run: A run's output URL.
    """
    from launch.text.checkpoints_text import checkpoints_table, prune_run, pruned_text
    from orchestrator.errors import ConfigError
    from orchestrator.store.checkpoints.reports import checkpoints_report
    from orchestrator.store.objects.location import open_location

    output = open_location(run)
    if dry_run and not prune:
        raise ConfigError(
            "--dry-run says what --prune would delete, and --prune isn't given",
            remedy="Give both, or neither",
        )
    pruned = prune_run(output, dry_run=dry_run) if prune else None
    found = checkpoints_report(output, verify=verify)
    if looks.json:
        key = "would_prune" if dry_run else "pruned"
        print_json(found.as_dict() | ({key: pruned} if pruned is not None else {}))
        return EXIT_DONE
    if pruned is not None:
        answer_console().print(pruned_text(pruned, dry_run=dry_run), markup=False, soft_wrap=True)
    answer_console().print(checkpoints_table(found))
    return EXIT_DONE
