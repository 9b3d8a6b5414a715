"""The command ``demo``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from launch.commands.options import Looks
from launch.terminal import EXIT_DONE, answer_console, answers_only, message_console, print_json

NEXT = """
Try next:
  tfresume inspect {source}
  tfresume status {output}
  tfresume checkpoints {output} --verify
  tfresume report {output} -o report.html
And with a run of your own:
  tfresume check SOURCE
  tfresume resume SOURCE --output URL --workers 2 --steps 1000"""


def demo(
    *,
    directory: Annotated[
        Path | None,
        Parameter(help="Where to put source and output. Default: a new temporary directory."),
    ] = None,
    looks: Looks = Looks(),  # noqa: B008  frozen
) -> int:
    """Make a small TF1 run, continue it on two workers, kill one of them.

    Takes less than a minute and needs nothing but this machine.

    For example:

        tfresume demo
        tfresume demo --directory ./demo
    """
    from launch.demo import demo as show
    from launch.text.progress import progress_observer

    place = directory if directory is not None else Path(tempfile.mkdtemp(prefix="tfresume-demo-"))
    messages = message_console()
    with answers_only():
        told = show(
            place.absolute(),
            [progress_observer(messages, quiet=looks.quiet)],
            lambda text: messages.print(text, markup=False),
        )
    if looks.json:
        print_json(told)
        return EXIT_DONE
    from launch.text.result_text import result_text

    console = answer_console()
    console.print(result_text(told.result))
    console.print(NEXT.format(source=told.source, output=told.output), markup=False, soft_wrap=True)
    return EXIT_DONE
