"""How does a process that parses hundreds of command lines not describe each flag anew each time?

Rule: what follows from a command's signature alone is kept from one parse to the next: the groups
of its flags, and pydantic's reading of each flag's type. A command line of the product is parsed
once in a process, which is why the parser keeps neither; with the flags of a run they are half of
the 0.09 s that a parse takes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pydantic
from cyclopts.argument import _collection


def keep_what_signatures_say() -> None:
    """For as long as this process lives."""
    _collection._resolve_groups_from_callable = _kept_groups(
        _collection._resolve_groups_from_callable
    )
    pydantic.TypeAdapter = _kept_adapters(pydantic.TypeAdapter)  # type: ignore[assignment, misc]


def _kept_groups(find: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """Of each command, but for the two that the caller's own application brings."""
    kept: dict[Callable[..., Any], list[Any]] = {}

    def groups(command: Callable[..., Any], *defaults: Any, **of_the_application: Any) -> list[Any]:
        if command not in kept:
            kept[command] = find(command, *defaults, **of_the_application)
        own = [group for group in of_the_application.values() if group is not None]
        names = {group.name for group in own}
        return [*own, *(group for group in kept[command] if group.name not in names)]

    return groups


def _kept_adapters(make: Callable[..., Any]) -> Callable[..., Any]:
    known = functools.cache(make)

    def adapter(kind: Any, **settings: Any) -> Any:
        try:
            return known(kind) if not settings else make(kind, **settings)
        except TypeError:  # some hints can't be told apart by a hash
            return make(kind)

    return adapter
