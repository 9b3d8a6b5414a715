"""What have all events of a journal in common, and how does one become a record?

Rule: an event is one frozen value of one class; its class says the word under which the journal
holds it. ``record`` is the one way out and ``parsing.parse`` the one way in, so writers and readers
can't disagree on a name. What a damaged or later record holds besides stays with the event, so that
nothing that was written down is hidden from who reads the log.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from typing import Any, ClassVar, Self, TypeVar

E = TypeVar("E", bound="JournalEvent")
STAMP = ("at", "attempt", "t_s")
LEFT_OUT = {"left_out": True}
"""Metadata of a field that a record has only where it says more than its default."""


@dataclass(frozen=True, kw_only=True)
class JournalEvent:
    """One event.

    Attributes:
        at: unix seconds by the driver's clock, for people.
        attempt: the number of the driver that wrote it, from 1.
        t_s: seconds since that driver's loop began, by its monotonic clock.
        absent: fields that the record that this was read from doesn't hold, or holds with a value
            of a type that they never have; they stand at their default or at 0, "" or nothing.
        other: what that record holds besides.
    """

    WORD: ClassVar[str] = ""
    AT_ONCE: ClassVar[bool] = False
    """Whether the next driver or a reader must find it even if this driver is killed right after;
    the others wait for the next heartbeat.
    """

    at: float | None = None
    attempt: int | None = None
    t_s: float | None = None
    absent: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    other: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def word(self) -> str:
        """The journal's word for this kind of event."""
        return type(self).WORD

    def lacks(self, name: str) -> bool:
        """Whether the record that this was read from says nothing usable of a field."""
        return name in self.absent

    def stamped(self, at: float, attempt: int, t_s: float) -> Self:
        """The event with its time and its driver."""
        stamp = {"at": at, "attempt": attempt, "t_s": t_s}
        return self.of(type(self), vars(self) | stamp)

    @staticmethod
    def of(kind: type[E], values: Mapping[str, Any]) -> E:
        """An event of a kind from the values of all its fields: a reader makes a month's of them,
        and a frozen dataclass's own constructor takes four times as long.
        """
        event = object.__new__(kind)
        vars(event).update(values)
        return event

    def record(self) -> dict[str, Any]:
        """The event as the journal holds it: plain data for JSON; NaN and infinities as text."""
        values = vars(self)
        told = {name: values[name] for name in STAMP if values[name] is not None}
        if self.word:
            told["event"] = self.word
        for item in fields_of(type(self)):
            value = values[item.name]
            if item.name in self.absent or (item.left_out and value == item.default):
                continue
            told[item.name] = _plain(value)
        return told | dict(self.other)


@dataclass(frozen=True, kw_only=True)
class UnknownEvent(JournalEvent):
    """An event of a kind that this version doesn't know; its fields are in ``other``."""

    unknown_word: str = field(default="", metadata=LEFT_OUT)

    @property
    def word(self) -> str:
        """The record's own word, empty where it has none."""
        return self.unknown_word


@dataclass(frozen=True)
class Field:
    """One field of a kind of event.

    Attributes:
        type: int, float, str, bool, tuple (of texts) or Mapping.
        default: what it holds where a record doesn't say it.
        left_out: whether a record has it only where it differs from ``default``.
    """

    name: str
    type: type
    nullable: bool
    default: Any
    left_out: bool

    def fits(self, value: Any) -> bool:
        """Whether a record's value is of this field's type."""
        if value is None:
            return self.nullable
        if self.type is float:
            return is_number(value)
        if self.type is int:
            return is_whole(value)
        if self.type is tuple:
            return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
        return isinstance(value, self.type)


def fields_of(kind: type[JournalEvent]) -> tuple[Field, ...]:
    """A kind's own fields, in the order of its records."""
    if kind not in _FIELDS:
        hints = typing.get_type_hints(kind)
        shared = {item.name for item in dataclasses.fields(JournalEvent)} | {"unknown_word"}
        _FIELDS[kind] = tuple(
            _field(item, hints[item.name])
            for item in dataclasses.fields(kind)
            if item.name not in shared
        )
    return _FIELDS[kind]


_FIELDS: dict[type[JournalEvent], tuple[Field, ...]] = {}
_NEUTRAL: Mapping[type, Any] = {int: 0, float: 0.0, str: "", bool: False, tuple: (), Mapping: {}}


def _field(item: dataclasses.Field[Any], hint: Any) -> Field:
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    nullable = type(None) in parts
    (told,) = (part for part in parts if part is not type(None))
    kind = typing.get_origin(told) or told
    default = None if nullable else _NEUTRAL[kind]
    if item.default is not MISSING:
        default = item.default
    return Field(
        name=item.name,
        type=kind,
        nullable=nullable,
        default=default,
        left_out="left_out" in item.metadata,
    )


def is_number(value: Any) -> bool:
    """Whether it's a number that a float can hold, other than NaN and the infinities."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= sys.float_info.max
    )


def is_whole(value: Any) -> bool:
    """Whether it's a whole number of 64 bits, as every count is that anybody wrote down."""
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, int)):
        return value  # most are; whether something is a Mapping takes ten times as long to ask
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
