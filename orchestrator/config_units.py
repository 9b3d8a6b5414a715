"""What does a number of the configuration count, and what is a section made of?

Rule: a unit stands in a field's type, so that ``--help``, ``config --explain`` and the check of the
value follow from one place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Unit:
    """What a number counts, for ``--help`` and ``config --explain``."""

    name: str


Seconds = Annotated[float, Field(gt=0), Unit("seconds")]
Steps = Annotated[int, Field(ge=1), Unit("steps")]
StepsOrNone = Annotated[int, Field(ge=0), Unit("steps")]
Workers = Annotated[int, Field(ge=1), Unit("workers")]


class Section(BaseModel):
    """Keys that are shown under one heading, in this order."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    heading: ClassVar[str] = ""


def unit_of(annotation: Any) -> str:
    """What a number of this type counts; empty for what has no unit."""
    if isinstance(annotation, Unit):
        return annotation.name
    return next(filter(None, map(unit_of, get_args(annotation))), "")
