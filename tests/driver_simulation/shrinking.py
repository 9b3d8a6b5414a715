"""Which of a schedule's faults are needed to break what it breaks?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

from tests.driver_simulation.faults import Faults


def shrunk(faults: Faults, fails: Callable[[Faults], bool]) -> Faults:
    """The same failure with fewer kinds of faults, and for a shorter time. ``fails``: whether it
    still does.
    """
    plain = Faults()
    for each in fields(faults):
        if getattr(faults, each.name) != getattr(plain, each.name) and each.name != "until_s":
            fewer = replace(faults, **{each.name: getattr(plain, each.name)})
            faults = fewer if fails(fewer) else faults
    while faults.until_s > 1.0 and fails(replace(faults, until_s=faults.until_s / 2)):
        faults = replace(faults, until_s=faults.until_s / 2)
    return faults
