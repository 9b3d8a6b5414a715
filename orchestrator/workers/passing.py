"""How does what some members have come to others as a group is formed?

Rule: through Ray's object store, which copies it to whoever joins with it. Who gives is asked for all
that it gives at once, before anybody joins: giver and taker are often the same, and who joins with
other rows has no more those that it had.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.decide import actions as act
from orchestrator.decide.spans import RowSpan
from orchestrator.workers.calls import Calls


@dataclass
class Passed:
    """References to what was asked for; none of it may be there yet.

    Attributes:
        state: the donor's ``Donation``; None where nobody needs it.
        rows: by worker, the ``GivenRows`` that it takes.
        told: of each who gives: whether it has.
    """

    state: Any = None
    rows: dict[str, list[Any]] = field(default_factory=dict)
    told: list[Any] = field(default_factory=list)


def ask(calls: Calls, attempt: int, action: act.Form) -> Passed | None:
    """Ask all who give something; None where one of them is gone, of which the rules will hear."""
    wanted = _wanted(action)
    givers = {*wanted, *([action.donor] if action.donor is not None else ())}
    # Others may be found dead meanwhile
    actors: dict[str, Any] = {worker: calls.actors.get(worker) for worker in givers}
    if None in actors.values():
        return None
    passed = Passed()
    if action.donor is not None:
        asked = actors[action.donor].held_state.options(num_returns=2)
        passed.state, told = asked.remote(attempt)
        passed.told.append(told)
    for worker, takers in wanted.items():
        asked = actors[worker].held_rows.options(num_returns=len(takers) + 1)
        *given, told = asked.remote(attempt, tuple(map(tuple, takers.values())))
        passed.told.append(told)
        for taker, rows in zip(takers, given, strict=True):
            passed.rows.setdefault(taker, []).append(rows)
    return passed


def _wanted(action: act.Form) -> Mapping[str, dict[str, list[RowSpan]]]:
    """By who gives, what each takes of it."""
    wanted: dict[str, dict[str, list[RowSpan]]] = {}
    for seat in action.seats:
        for each in seat.rows or ():
            takers = wanted.setdefault(each.holder, {})
            takers.setdefault(seat.worker, []).append(each.span)
    return wanted
