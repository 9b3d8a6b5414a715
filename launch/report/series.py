"""Which curves of loss and throughput does a journal hold?

Rule: at most `MOST_POINTS` points reach the page. Where there are more, each bucket keeps its
lowest and its highest loss, so that a spike stays a spike; nothing is averaged or smoothed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.decide.timeline import Moment
from orchestrator.journal.run_events import ProgressMade

MOST_POINTS = 1200
"""A curve has about as many columns of pixels to stand in."""


@dataclass(frozen=True)
class Point:
    """The run at one moment: seconds since its first event, global step, loss, steps per second,
    world size.
    """

    t: float
    step: int
    loss: float | None
    rate: float | None
    world: int | None


def points(moments: Sequence[Moment]) -> tuple[Point, ...]:
    """Every progress event as a point, in the order of time."""
    return tuple(
        _point(moment.at_s, moment.event)
        for moment in moments
        if isinstance(moment.event, ProgressMade) and not moment.event.lacks("step")
    )


def _point(at_s: float, event: ProgressMade) -> Point:
    return Point(
        t=round(at_s, 2),
        step=event.step,
        loss=None if event.loss is None else float(event.loss),
        # 0 is told while it isn't known
        rate=float(event.steps_per_s) if event.steps_per_s > 0 else None,
        world=None if event.lacks("world_size") else event.world_size,
    )


def thinned(found: Sequence[Point], most: int = MOST_POINTS) -> tuple[Point, ...]:
    """At most ``most`` of the points: first and last, and of each bucket the lowest and the highest
    loss.
    """
    if len(found) <= most:
        return tuple(found)
    buckets = max(1, (most - 2) // 2)
    inner = found[1:-1]
    kept: list[Point] = [found[0]]
    for index in range(buckets):
        bucket = inner[index * len(inner) // buckets : (index + 1) * len(inner) // buckets]
        lossy = [point for point in bucket if point.loss is not None] or list(bucket)
        extremes = {id(point): point for point in (min(lossy, key=_loss), max(lossy, key=_loss))}
        kept += sorted(extremes.values(), key=lambda point: point.t)
    return (*kept, found[-1])


def _loss(point: Point) -> float:
    return point.loss if point.loss is not None else 0.0
