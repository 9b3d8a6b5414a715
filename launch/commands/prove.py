"""The commands that run a graph to look at what comes out: ``verify`` and ``infer``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from launch.commands.options import Looks
from launch.commands.run import Config, Run
from launch.flags import RunFlags, run_config
from launch.terminal import EXIT_DONE, answer_console, print_json


def verify(
    source: str | None = None,
    /,
    *,
    run: Run = RunFlags(),  # noqa: B008  frozen
    compare_steps: Annotated[
        int, Parameter(help="Steps that are run and compared, at least 2.")
    ] = 4,
    tolerance: Annotated[
        float, Parameter(help="Largest difference, relative to how far a variable moved.")
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


def infer(
    source: str | None = None,
    /,
    *,
    fetch: Annotated[
        list[str] | None,
        Parameter(
            negative_iterable=(),
            metavar="TENSOR",
            help="Tensor to fetch; repeatable. Default: the prediction, as `inspect` ranks it.",
        ),
    ] = None,
    run: Run = RunFlags(),  # noqa: B008  frozen
    batches: Annotated[
        int,
        Parameter(
            help="How many batches, unless the input ends before; 0 for all, arrays in their order once."
        ),
    ] = 1,
    save: Annotated[
        Path | None, Parameter(metavar="FILE.npz", help="Write the values here, as BATCH|TENSOR.")
    ] = None,
    config: Config = None,
    looks: Looks = Looks(),  # noqa: B008  frozen
) -> int:
    """Fetch tensors of a trained graph for some batches; trains nothing.

    Takes the input flags of `resume`. With `--workers N` that many processes
    share the batches, on the cluster at `--address` or a local Ray; the
    answers come in the order of the batches and are those of one worker.

    For example:

        tfresume infer /data/run --fetch logits:0 --array x:0=x.npy --batch-size 8
        tfresume infer gs://b/run --fetch loss --input my_inputs.py:batches --batches 10 --json
        tfresume infer gs://b/run --input my_inputs.py:batches --batches 0 --workers 8
            --address auto --save out.npz

    Args:
        source: A .meta URL, a checkpoint prefix or a directory.
    """
    import numpy as np

    from orchestrator.driver.infer import infer as fetch_all

    found = fetch_all(run_config(source, config, run), fetch or (), batches=batches)
    if save is not None:
        named: dict[str, Any] = {
            f"{number}|{name}": value
            for number, each in enumerate(found)
            for name, value in each.items()
        }
        np.savez(save, **named)
    if looks.json:
        print_json(
            {
                "batches": [
                    {name: _described(value) for name, value in each.items()} for each in found
                ]
            }
        )
    else:
        for number, each in enumerate(found):
            for name, value in each.items():
                answer_console().print(
                    f"{number} {name} {value.dtype} {list(value.shape)}\n{value}", markup=False
                )
    return EXIT_DONE


def _described(value: Any) -> dict[str, Any]:
    """Type, shape and values of an array, as JSON holds them."""
    plain = value.astype(str) if value.dtype.kind in "OS" else value
    return {"dtype": str(value.dtype), "shape": list(value.shape), "values": plain.tolist()}
