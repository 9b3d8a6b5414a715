"""How is what a journal says kept in so little that its beginning need not be read again?

Rule: a fold is a dataclass that takes events one by one, in the order of the journal, and whose
fields are all that it knows: plain data, lists, mappings, events, or a fold of its own. So it can be
written down after any event (``frozen``) and goes on from there as if it had seen them all
(``thawed``). What it holds is bounded, however long the journal is: it keeps what may still count,
and adds up the rest.
"""

from __future__ import annotations

import dataclasses
import hashlib
import typing
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Protocol, TypeVar

from orchestrator.journal.event import JournalEvent
from orchestrator.journal.parsing import parse

_EVENT, _MAP = "event", "map"


class Fold(Protocol):
    """What a journal says, to one kind of reader; a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def take(self, event: JournalEvent) -> None:
        """One more event."""


F = TypeVar("F", bound=Fold)
Folds = dict[str, Fold]
"""Several readers' folds of one journal, each under the name by which a snapshot has it."""


def take_all(folds: Mapping[str, Fold], records: Iterable[Mapping[str, Any]]) -> None:
    """Let all folds take the events of ``store.run.journal``'s records."""
    for record in records:
        event = parse(record)
        for fold in folds.values():
            fold.take(event)


def folded(kind: type[F], events: Iterable[JournalEvent]) -> F:
    """A fold of all these events."""
    fold = kind()
    for event in events:
        fold.take(event)
    return fold


def frozen(fold: Fold) -> dict[str, Any]:
    """A fold as plain data for JSON."""
    return {item.name: _written(getattr(fold, item.name)) for item in dataclasses.fields(fold)}


def thawed(kind: type[F], state: Mapping[str, Any]) -> F:
    """The fold that ``frozen`` wrote.

    Raises:
        KeyError, TypeError, ValueError: it's of another shape.
    """
    hints = typing.get_type_hints(kind)
    if state.keys() != {item.name for item in dataclasses.fields(kind)}:
        raise ValueError(f"not the fields of {kind.__name__}")
    return kind(**{name: _read(hints[name], value) for name, value in state.items()})


def shape(kind: type[Fold]) -> str:
    """A digest of the fields that a fold has: what was written with others isn't read."""
    told = [(item.name, str(item.type)) for item in dataclasses.fields(kind)]
    return hashlib.sha256(repr((told, frozen(kind()))).encode()).hexdigest()[:16]


def _written(value: Any) -> Any:
    if isinstance(value, JournalEvent):
        return {_EVENT: value.record()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return frozen(typing.cast(Fold, value))
    if isinstance(value, dict):
        return {_MAP: [[_written(key), _written(item)] for key, item in value.items()]}
    if isinstance(value, list):
        return [_written(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"a fold can't hold a {type(value).__name__}")


def _read(hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint) and not issubclass(typing.cast(type, hint), JournalEvent):
        return thawed(typing.cast("type[Fold]", hint), value)
    return _value(value)


def _value(value: Any) -> Any:
    if isinstance(value, list):
        return [_value(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((mark, content),) = value.items()
    if mark == _EVENT:
        return parse(content)
    if mark == _MAP:
        return {_value(key): _value(item) for key, item in content}
    raise ValueError(f"{mark} marks neither an event nor a mapping")
