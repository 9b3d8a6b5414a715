"""The command ``salvage``: what can still be read of a damaged checkpoint."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from launch.commands.options import Looks
from launch.terminal import EXIT_DONE, answer_console, print_json


def salvage(
    source: str,
    /,
    *,
    output: Annotated[
        str,
        Parameter(
            name=["--output", "-o"],
            help="A directory of the result's own; it's made, never cleared.",
        ),
    ],
    drop_poisoned: Annotated[
        bool,
        Parameter(
            negative=(),
            show_default=False,
            help="Leave out tensors with NaN, infinity or numbers beyond 1e30.",
        ),
    ] = False,
    looks: Looks = Looks(),  # noqa: B008  frozen
) -> int:
    """Write what can still be read of a damaged checkpoint.

    Every tensor whose own checksum fits is taken: from data files that are cut
    off, missing or damaged in places, and from a damaged index. What is lost
    is listed with the reason, and starts anew with `resume --init-missing`.
    Tensors with NaN, infinity or finite but absurd numbers are named. Exit
    code 0 if anything could be saved, 2 if nothing can be read.

    For example:

        tfresume salvage gs://b/run/model.ckpt-10000 -o gs://b/salvaged
        tfresume salvage /data/run -o out --drop-poisoned --json

    Args:
        source: A checkpoint prefix, one of its files or a directory.
    """
    from launch.text.export_text import render_salvage
    from orchestrator.exports.salvage import salvage as save

    found = save(source, output, drop_poisoned=drop_poisoned)
    if looks.json:
        print_json(found)
    else:
        render_salvage(found, answer_console())
    return EXIT_DONE
