"""When did each event of a journal happen, on one clock for the whole run?

Rule: within an attempt the driver's own monotonic seconds (``t_s``) count where they're there, else
the unix seconds ``at``. Attempts are placed beside each other by ``at``, the only clock they share;
time never runs backwards, and what a driver that had been taken over wrote later stands at the
moment of the take-over. Drivers' clocks that disagree can shorten or lengthen a gap between two
attempts, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Entry = Mapping[str, Any]

_WHOLE = frozenset(
    (
        "attempt",
        "rank",
        "pid",
        "generation",
        "step",
        "start_step",
        "world_size",
        "until",
        "steps_redone",
        "next_save_step",
    )
)
_REAL = frozenset(
    (
        "at",
        "t_s",
        "steps_per_s",
        "loss",
        "seconds",
        "size_bytes",
        "stall_s",
        "recovered_s",
        "detected_s",
        "next_save_s",
    )
)
_TEXT = frozenset(
    (
        "event",
        "worker",
        "node",
        "kind",
        "reason",
        "action",
        "holder",
        "outcome",
        "checkpoint",
        "cause",
    )
)
_MAPPING = frozenset(("config", "versions"))


@dataclass(frozen=True)
class Moment:
    """One event, ``at_s`` seconds after the run's first one."""

    at_s: float
    attempt: int
    kind: str
    event: Entry


def timeline(events: Sequence[Entry]) -> tuple[Moment, ...]:
    """All events on one clock, in the order of the journal.

    Args:
        events: as ``store.run.journal.read_journal`` gives them; events without a usable ``at``
            stand at the one before.
    """
    groups: dict[int, list[dict[str, Any]]] = {}
    for event in map(sound, events):
        groups.setdefault(_whole(event.get("attempt"), 1), []).append(event)
    numbers = sorted(groups)
    starts: list[float] = []
    for number in numbers:
        at = number_of(groups[number][0].get("at"), starts[-1] if starts else 0.0)
        starts.append(max(at, starts[-1]) if starts else at)
    placed: list[Moment] = []
    for index, number in enumerate(numbers):
        until = starts[index + 1] if index + 1 < len(starts) else float("inf")
        placed += _placed(number, groups[number], starts[index], until, starts[0])
    return tuple(placed)


def sound(event: Entry) -> dict[str, Any]:
    """The event without known fields of a type that they never have: journals may be of other
    versions, or mended by hand.
    """
    return {name: value for name, value in event.items() if _fits(name, value)}


def _fits(name: str, value: Any) -> bool:
    if value is None:
        return True
    if name in _WHOLE:
        return isinstance(value, int) and not isinstance(value, bool)
    if name in _REAL:
        return _is_number(value)
    if name in _TEXT:
        return isinstance(value, str)
    return name not in _MAPPING or isinstance(value, Mapping)


def names_in(value: Any) -> list[str]:
    """The names in a list; none where it isn't one."""
    return [str(item) for item in value] if isinstance(value, list | tuple) else []


def _placed(
    attempt: int, events: Sequence[Entry], start: float, until: float, origin: float
) -> list[Moment]:
    first = events[0]
    found: list[Moment] = []
    last = start
    for event in events:
        last = max(last, min(start + _elapsed(first, event, last - start), until))
        found.append(Moment(round(last - origin, 4), attempt, str(event.get("event", "")), event))
    return found


def _elapsed(first: Entry, event: Entry, otherwise: float) -> float:
    for clock in ("t_s", "at"):
        if _is_number(first.get(clock)) and _is_number(event.get(clock)):
            return number_of(event.get(clock)) - number_of(first.get(clock))
    return otherwise


def number_of(value: Any, otherwise: float = 0.0) -> float:
    """A finite number from a journal's field; ``otherwise`` for anything else."""
    return float(value) if _is_number(value) else otherwise


def _whole(value: Any, otherwise: int) -> int:
    return int(value) if _is_number(value) else otherwise


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    )
