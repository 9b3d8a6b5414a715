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
