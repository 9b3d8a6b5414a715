"""The command ``checkpoints``: which ones has a run, and are they good?"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from launch.commands.options import Looks
from launch.terminal import EXIT_DONE, answer_console, print_json

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
