"""Which runs lie below a URL, and how far is each?

Rule: a run is a directory with ``_tfresume/run.json``; what lies below one is its own. Directories
are walked side by side and no deeper than ``DEEPEST``. Nobody is waited for: a driver whose
heartbeat isn't young counts as silent, and ``status`` tells more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from launch.runs.status import status
from orchestrator.errors import OrchestratorError, SourceError
from orchestrator.store.objects.layout import CONTROL
from orchestrator.store.objects.location import FileInfo, Location, open_location

DEEPEST = 4
"""Levels below the URL: user, project, day and run. A walk of a whole bucket of data would take
minutes, and the URL can name a place further down.
"""
SIDE_BY_SIDE = 16
"""Requests of a store that answers in 50 ms: some hundred runs are listed in seconds."""


@dataclass(frozen=True)
class ListedRun:
    """One run. ``age_s``: seconds since its journal's last event; ``trouble``: why the rest isn't
    known.
    """

    run: str
    state: str
    step: int | None = None
    until_step: int | None = None
    steps_per_s: float | None = None
    age_s: float | None = None
    world_size: int = 0
    incidents: int = 0
    source: str = ""
    trouble: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As ``--json`` shows it."""
        return asdict(self)


def list_runs(urls: Sequence[str], wall: Callable[[], float] = time.time) -> tuple[ListedRun, ...]:
    """The runs at and below some URLs: those that go on first, then by their last event.

    A directory further down that may not be read is listed with its trouble.

    Raises:
        SourceError: a URL can't be listed.
        StorageUnavailable: the store doesn't answer.
    """
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        found, unread = _walk([open_location(url) for url in urls], pool)
        listed = pool.map(lambda place: _look(place, wall), found)
        return tuple(sorted((*unread, *listed), key=_order))


def _walk(
    places: Iterable[Location], pool: ThreadPoolExecutor
) -> tuple[list[Location], list[ListedRun]]:
    """The directories that hold a run, level by level, each once however many of ``places`` it lies
    below; and those that may not be read.
    """
    level, seen = list(places), set[tuple[str, str]]()
    found: list[Location] = []
    unread: list[ListedRun] = []
    for depth in range(DEEPEST + 1):
        level = [place for place in level if not _again(place, seen)]
        following: list[Location] = []
        for place, entries in zip(level, pool.map(_entries, level), strict=True):
            if isinstance(entries, SourceError):
                if depth == 0:
                    raise entries
                unread.append(ListedRun(place.shown, "unknown", trouble=entries.message))
                continue
            names = {entry.name for entry in entries if entry.is_directory}
            if CONTROL in names:
                found.append(place)
            else:
                following += [place.child(name) for name in sorted(names)]
        level = following
    return found, unread


def _again(place: Location, seen: set[tuple[str, str]]) -> bool:
    """Whether the place was seen, under whichever of its protocol's names."""
    key = place.protocol, place.path
    known = key in seen
    seen.add(key)
    return known


def _entries(place: Location) -> tuple[FileInfo, ...] | SourceError:
    try:
        return place.list()
    except SourceError as error:
        return error


def _look(place: Location, wall: Callable[[], float]) -> ListedRun:
    try:
        seen = status(place.url, patience_s=0.0, wall=wall)
    except OrchestratorError as error:
        return ListedRun(place.shown, "unknown", trouble=error.message)
    return ListedRun(
        run=seen.run,
        state=seen.state,
        step=seen.step,
        until_step=seen.until_step,
        steps_per_s=seen.steps_per_s,
        age_s=seen.journal_age_s,
        world_size=seen.world_size,
        incidents=seen.earlier_incidents + len(seen.incidents),
        source=seen.source,
        trouble="; ".join(seen.trouble),
    )


_OVER = ("done", "stopped", "failed", "dead", "silent", "not started", "unknown")


def _order(run: ListedRun) -> tuple[bool, float, str]:
    return (run.state in _OVER, float("inf") if run.age_s is None else run.age_s, run.run)
