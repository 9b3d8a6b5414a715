"""The command ``report``: a page about a run."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from launch.commands.options import Looks
from launch.terminal import EXIT_DONE, answer_console, print_json


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
