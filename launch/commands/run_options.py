"""Which flags do the commands share that take a run's configuration?

Rule: they stand apart from ``options``, since ``RunFlags`` is made from the whole configuration: a
command without them is there at once.
"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from launch.flags import RunFlags

Config = Annotated[
    str | None,
    Parameter(
        name="--config",
        help="YAML file, URL or directory with the same keys as the flags; flags win.",
    ),
]
DryRun = Annotated[
    bool,
    Parameter(
        name="--dry-run", negative=(), show_default=False, help="Show the plan and start nothing."
    ),
]
Run = Annotated[RunFlags, Parameter(name="*")]  # type: ignore[valid-type]
