"""Which flags do all commands share?

Rule: they mean the same everywhere, and are spelled once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Group, Parameter

OUTPUT = Group("Output", sort_key=99)


@Parameter(name="*")
@dataclass(frozen=True)
class Looks:
    """In which form a command answers, and how much it logs."""

    json: Annotated[
        bool,
        Parameter(
            name="--json",
            negative=(),
            group=OUTPUT,
            show_default=False,
            help="Answer with one JSON object on stdout.",
        ),
    ] = False
    verbose: Annotated[
        bool,
        Parameter(
            name=["--verbose", "-v"],
            negative=(),
            group=OUTPUT,
            show_default=False,
            help="Log every decision.",
        ),
    ] = False
    quiet: Annotated[
        bool,
        Parameter(
            name=["--quiet", "-q"],
            negative=(),
            group=OUTPUT,
            show_default=False,
            help="Log only warnings and errors.",
        ),
    ] = False
