"""Which words do the rooms share?

Rule: a number that has a meaning has a type, so that a rank is never passed where a step belongs.
"""

from __future__ import annotations

from typing import NewType

Step = NewType("Step", int)
"""A global step: the number of optimizer steps applied to the state since the run's first origin.
"""

Attempt = NewType("Attempt", int)
"""One life of the driver, counted from 1 for an output URL."""

Generation = NewType("Generation", int)
"""One membership of the worker group, counted from 1 within a run and never reused."""

SLICEABLE = frozenset(
    {
        *("float32", "float64", "bfloat16", "complex64", "complex128", "bool"),
        *("int8", "int16", "int32", "int64", "uint8", "qint8", "quint8", "qint32"),
    }
)
"""The types of which TensorFlow reads parts of a tensor. Not among them: float16, strings, the wider
unsigned ones; a test asks TensorFlow for each.
"""
