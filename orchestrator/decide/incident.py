"""What is known of a disturbance that isn't over yet, and which of how many is it?

Rule: a value of the run, like all of it. When it begins and ends stands in ``incidents``.
"""

from __future__ import annotations

from dataclasses import dataclass

DRIVER = "driver"
"""The kind of an incident in which the driver alone was lost."""


@dataclass(frozen=True)
class Incident:
    """A disturbance that isn't over yet. ``highest``: the last step that anybody is known to have
    finished when the group forms anew; ``restarts``: of a driver, how many there were and how many
    are borne.
    """

    kind: str
    rank: int | None
    node: str
    worker: str
    began_s: float
    detected_s: float
    highest: int
    world_size: int
    detail: str = ""
    done: str = ""
    resumed_from: int | None = None
    exit_code: int | None = None
    restarts: tuple[int, int] | None = None


def budget_told(kind: str, losses: int | None, allowed: int | None) -> str:
    """Which of how many allowed disturbances an incident of this kind was, and how many are left;
    empty where it doesn't count.
    """
    if losses is None or allowed is None:
        return ""
    noun = "restart" if kind == DRIVER else "loss"
    return f"{noun} {losses} of {allowed} within an hour, {max(0, allowed - losses)} left"
