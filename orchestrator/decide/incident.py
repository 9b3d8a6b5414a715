"""What is known of a disturbance that isn't over yet?

Rule: a value of the run, like all of it. When it begins and ends stands in ``incidents``.
"""

from __future__ import annotations

from dataclasses import dataclass


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
