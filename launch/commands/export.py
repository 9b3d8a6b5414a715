"""The command ``export``: a trained model in another format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from cyclopts import Parameter

from launch.commands.options import Looks
from launch.flags import given, run_config, some_flags
from launch.terminal import EXIT_DONE, answer_console, print_json
from orchestrator.errors import ConfigError

Format = Literal["checkpoint", "safetensors", "npz", "frozen", "saved-model", "onnx"]
GraphFlags = some_flags(
    "GraphFlags",
    (
        *("input", "feed", "array", "batch_size", "input_map"),
        *("import_modules", "load_op_library", "py_func", "allow_op", "path_map"),
    ),
)
GraphInput = Annotated[GraphFlags, Parameter(name="*")]  # type: ignore[valid-type]


def export(
    source: str,
    /,
    *,
    to: Annotated[Format, Parameter(help="Format to write.")],
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
            help="Export the optimizer's variables and the counters too.",
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
    run: GraphInput = GraphFlags(),  # noqa: B008  frozen
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
    TensorFlow is needed. Graphs: frozen (a .pb of constants), saved-model and
    onnx (with the extra onnx), training switches put to inference; both
    graphs are run on the same batches and have to agree to 1e-6 (onnx: 1e-4).

    Args:
        source: A .meta URL, a checkpoint prefix or a directory.
    """
    from launch.text.export_text import render_export, render_graph

    if to == "frozen" or to == "saved-model" or to == "onnx":
        from orchestrator.exports.frozen import export_graph

        _refuse([("--all", all_), ("--omit", omit)], to)
        graph = export_graph(run_config(source, None, run), output, to=to, fetches=fetch or ())
        if looks.json:
            print_json(graph)
        else:
            render_graph(graph, answer_console())
        return EXIT_DONE
    from orchestrator.exports.export import export as take_out

    of_graphs = [("--" + name.replace("_", "-"), value) for name, value in given(run).items()]
    _refuse([("--fetch", fetch), *of_graphs], to)
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
