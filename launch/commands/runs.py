"""The command ``runs``, which looks at many runs at once."""

from __future__ import annotations

from launch.commands.options import Looks
from launch.terminal import EXIT_DONE, answer_console, print_json


def runs(*urls: str, looks: Looks = Looks()) -> int:  # noqa: B008  frozen
    """List the runs below URLs: state, step, rate and age of each.

    For example:

        tfresume runs gs://b/experiments
        tfresume runs /data/ann /data/bob --json

    Runs that go on come first. "silent" means no young heartbeat; `tfresume
    status RUN` looks long enough to tell whether the driver is gone.

    Args:
        urls: Directories that hold runs, or directories of such, four levels deep.
    """
    from launch.runs.listing import list_runs
    from launch.text.runs_text import runs_table
    from orchestrator.errors import ConfigError

    if not urls:
        raise ConfigError(
            "no URL was given to look below", remedy="Name one, as in `tfresume runs gs://b/runs`"
        )
    found = list_runs(urls)
    if looks.json:
        print_json({"runs": [run.as_dict() for run in found]})
    else:
        answer_console().print(runs_table(found))
    return EXIT_DONE
