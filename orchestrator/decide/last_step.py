"""Where does a run end?

Rule: ``--until-step`` is a global step; ``--steps`` counts from the step recorded at the run's
first start, so that running the same command again goes on instead of adding.
"""

from __future__ import annotations

from orchestrator.errors import ConfigError


def last_step(until_step: int | None, steps: int | None, started_step: int) -> int:
    """The global step at which the run ends.

    Raises:
        ConfigError: when neither is given.
    """
    if until_step is not None:
        return until_step
    if steps is not None:
        return started_step + steps
    raise ConfigError(
        "the run has no end: neither --until-step nor --steps is given",
        remedy="Say how far it shall train",
    )
