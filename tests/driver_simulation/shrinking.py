"""Which of a schedule's faults are needed to break what it breaks?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

from tests.driver_simulation.faults import Faults


def shrunk(faults: Faults, fails: Callable[[Faults], bool]) -> Faults:
    """The same failure with fewer kinds of faults, and for a shorter time. ``fails``: whether it
    still does.
    """
    for where in [where for where in _places(Faults()) if where != ("until_s",)]:
        fewer = _without(faults, where)
        if fewer != faults and fails(fewer):
            faults = fewer
    while faults.until_s > 1.0 and fails(replace(faults, until_s=faults.until_s / 2)):
        faults = replace(faults, until_s=faults.until_s / 2)
    return faults


def _places(plain: Any) -> Iterator[tuple[str, ...]]:
    """Of all kinds of faults: a field's name, or that of a part and a field of it."""
    for each in fields(plain):
        value = getattr(plain, each.name)
        if is_dataclass(value):
            yield from ((each.name, *rest) for rest in _places(value))
        else:
            yield (each.name,)


def _without(faults: Any, where: tuple[str, ...]) -> Any:
    """The same with one kind as if there were none."""
    name, *rest = where
    plain = getattr(type(faults)(), name)
    return replace(
        faults, **{name: _without(getattr(faults, name), tuple(rest)) if rest else plain}
    )
