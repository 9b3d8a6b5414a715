"""The commands that take a model out of its checkpoint: ``export`` and ``salvage``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from launch.commands.options import Looks
from launch.terminal import EXIT_DONE, answer_console, print_json
from orchestrator.errors import ConfigError

if TYPE_CHECKING:
    from orchestrator.config import RunConfig

Format = Literal["checkpoint", "safetensors", "npz", "frozen", "saved-model"]


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
    fetch: Annotated[
        list[str] | None,
        Parameter(
            negative_iterable=(),
            metavar="TENSOR",
            help="Output of a graph; repeatable. Default: the prediction, as `inspect` ranks it.",
        ),
    ] = None,
    input_: Annotated[
        str | None,
        Parameter(
            name="--input",
            metavar="MODULE:FUNCTION",
            help="Batches to check a graph with, as `resume` takes them. Default: made-up ones.",
        ),
    ] = None,
    feed: Annotated[
        list[str] | None,
        Parameter(
            negative_iterable=(), metavar="NAME=VALUE", help="The same, as constants; repeatable."
        ),
    ] = None,
    looks: Looks = Looks(),  # noqa: B008  frozen
) -> int:
    """Write a trained model in another format.

    The optimizer's slots and what only training counts with stay behind, as
    the graph tells them; parts of a partitioned variable become one tensor.
    What was written is read back and compared byte for byte. export.json
    beside it maps the names. The same command again goes on, or finds that
    it's done.

    For example:

        tfresume export gs://b/run --to safetensors -o gs://b/model
        tfresume export /data/run/model.ckpt-500 --to npz -o out --omit 'dis_*'

        tfresume export gs://b/run --to saved-model -o gs://b/serving

    Tensors: checkpoint (TensorFlow's own), safetensors, npz (NumPy); no
    TensorFlow is needed. Graphs: frozen (a .pb of constants) and saved-model,
    with training switches put to inference; TensorFlow runs both graphs on
    the same batches and they have to agree to 1e-6.

    Args:
        source: A .meta URL, a checkpoint prefix or a directory.
    """
    from launch.text.export_text import render_export, render_graph

    if to == "frozen" or to == "saved-model":
        from orchestrator.exports.frozen import export_graph

        _refuse([("--all", all_), ("--omit", omit)], to)
        config = _config(source, input_, feed or ())
        graph = export_graph(config, output, to=to, fetches=fetch or ())
        if looks.json:
            print_json(graph)
        else:
            render_graph(graph, answer_console())
        return EXIT_DONE
    from orchestrator.exports.export import export as take_out

    _refuse([("--fetch", fetch), ("--input", input_), ("--feed", feed)], to)
    found = take_out(source, output, to=to, everything=all_, omit=omit or ())
    if looks.json:
        print_json(found)
    else:
        render_export(found, answer_console())
    return EXIT_DONE


def _refuse(flags: Sequence[tuple[str, object]], to: str) -> None:
    for name, value in flags:
        if value:
            raise ConfigError(f"{name} says nothing about --to {to}", remedy=f"Leave {name} out")


def _config(source: str, input_: str | None, feed: Sequence[str]) -> RunConfig:
    from orchestrator.config import parse_config

    pairs = [text.partition("=") for text in feed]
    for name, equals, _ in pairs:
        if not equals:
            raise ConfigError(f"--feed {name} has no value", remedy="Write --feed NAME=VALUE")
    values = {"source": source, "feed": {name: value for name, _, value in pairs}}
    return parse_config(values | ({"input": input_} if input_ else {}))


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
