"""Which curves of loss and throughput does a journal hold?

Rule: at most `MOST_POINTS` points reach the page. Where there are more, each bucket keeps its
lowest and its highest loss, so that a spike stays a spike. A smoothed curve stands beside the
points, never in their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import expm1, log

from orchestrator.decide.timeline import Moment
from orchestrator.journal.run_events import ProgressMade

MOST_POINTS = 1200
"""A curve has about as many columns of pixels to stand in."""
SMOOTHED_OVER = 0.015
"""A seventieth of the run: noise from batch to batch is gone, and a bend isn't."""


@dataclass(frozen=True)
class Point:
    """The run at one moment: seconds since its first event, global step, loss, steps per second,
    world size, and the loss smoothed over the steps before.
    """

    t: float
    step: int
    loss: float | None
    rate: float | None
    world: int | None
    smooth: float | None = None


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


def smoothed(found: Sequence[Point], share: float = SMOOTHED_OVER) -> tuple[Point, ...]:
    """The points with their loss's exponential average, which forgets half of what it knows in
    ``share`` of the run's steps; it begins anew where steps are redone.

    A loss weighs as much as the steps since the one before; the first weighs as much as the second.
    The average is that of the weight which it has gathered, so that it begins at the first loss and
    isn't held there (as Adam's moments are: Kingma and Ba, 2015, section 3).
    """
    steps = [point.step for point in found]
    half = max(1.0, share * (max(steps) - min(steps))) if steps else 1.0
    losses = [(index, point.loss) for index, point in enumerate(found) if point.loss is not None]
    done = list(found)
    average = weight = 0.0
    for place, (index, loss) in enumerate(losses):
        moved = steps[index] - steps[losses[place - 1][0]] if place else -1
        if moved < 0:
            weight = 0.0
            moved = steps[losses[place + 1][0]] - steps[index] if place + 1 < len(losses) else 1
        # A step that's told twice counts as two
        new = -expm1(-log(2) * max(1, moved) / half)
        weight = (1 - new) * weight + new
        average = (1 - new / weight) * average + new / weight * loss
        done[index] = replace(found[index], smooth=float(f"{average:.6g}"))
    return tuple(done)


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
