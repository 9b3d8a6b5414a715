"""The command ``infer``: what does a trained graph give for some batches?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from launch.commands.options import Looks
from launch.commands.run_options import Config, Run
from launch.flags import RunFlags, run_config
from launch.terminal import EXIT_DONE, answer_console, print_json


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
            help="Batches to fetch, fewer where the input ends before; 0: all of it, arrays once and in order."
        ),
    ] = 1,
    save: Annotated[
        Path | None,
        Parameter(
            metavar="FILE.npz", help="Write the values into this file, each named BATCH|TENSOR."
        ),
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
