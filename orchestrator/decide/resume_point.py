"""Where does a run start, where does it end, and may it use this output at all?

Rule: what the output holds of this very source wins over the source; ``--steps`` counts from the step recorded at the first start.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.errors import ConfigError, OutputError


@dataclass(frozen=True)
class RecordedRun:
    """What the output's run record says of the run that it belongs to."""

    source: str
    fingerprint: str
    started_step: int


@dataclass(frozen=True)
class Candidate:
    """A good checkpoint: its step, the input position after it, and who wrote it."""

    step: int
    position: int
    prefix: str
    origin: str


def check_same_source(recorded: RecordedRun | None, source: str, fingerprint: str, output: str) -> None:
    """Refuse an output that belongs to another source.

    Raises:
        OutputError: naming both sources.
    """
    if recorded is None or recorded.fingerprint == fingerprint:
        return
    raise OutputError(
        f"{output} holds a run of another source: it was started from {recorded.source}, and this command names {source}",
        remedy="Give this run an --output of its own, or name the source that the output was started from",
        details={"recorded_source": recorded.source, "source": source},
    )


def choose(ours: Candidate | None, source: Candidate) -> Candidate:
    """The checkpoint to go on from: the output's newest good one wins over the source."""
    return source if ours is None else ours


def last_step(until_step: int | None, steps: int | None, started_step: int) -> int:
    """The global step at which the run ends.

    Raises:
        ConfigError: when neither is given.
    """
    if until_step is not None:
        return until_step
    if steps is not None:
        return started_step + steps
    raise ConfigError("the run has no end: neither --until-step nor --steps is given", remedy="Say how far it shall train")
