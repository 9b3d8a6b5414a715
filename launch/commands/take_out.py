"""The commands that take a model out of its checkpoint: ``export`` and ``salvage``."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from launch.commands.options import Looks
from launch.terminal import EXIT_DONE, answer_console, print_json

Format = Literal["checkpoint", "safetensors", "npz"]


def export(
    source: str,
    /,
    *,
    to: Annotated[Format, Parameter(help="What to write.")],
    output: Annotated[
        str,
        Parameter(
            name=["--output", "-o"],
            help="A directory of the export's own; it's made, never cleared.",
        ),
    ],
    all_: Annotated[
        bool,
        Parameter(
            name="--all",
            negative=(),
            show_default=False,
            help="The optimizer's variables too, and counters.",
        ),
    ] = False,
    omit: Annotated[
        list[str] | None,
        Parameter(
            negative_iterable=(),
            metavar="PATTERN",
            help="Leave out tensors with such keys (* and ?); repeatable.",
        ),
    ] = None,
    looks: Looks = Looks(),  # noqa: B008  frozen
) -> int:
    """Write a trained model in another format; needs no TensorFlow.

    The optimizer's slots and what only training counts with stay behind, as
    the graph tells them; parts of a partitioned variable become one tensor.
    What was written is read back and compared byte for byte. export.json
    beside it maps the names. The same command again goes on, or finds that
    it's done.

    For example:

        tfresume export gs://b/run --to safetensors -o gs://b/model
        tfresume export /data/run/model.ckpt-500 --to npz -o out --omit 'dis_*'

    Formats: checkpoint (TensorFlow's own), safetensors, npz (NumPy).

    Args:
        source: A .meta URL, a checkpoint prefix or a directory.
    """
    from launch.text.export_text import render_export
    from orchestrator.exports.export import export as take_out

    found = take_out(source, output, to=to, everything=all_, omit=omit or ())
    if looks.json:
        print_json(found)
    else:
        render_export(found, answer_console())
    return EXIT_DONE


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
