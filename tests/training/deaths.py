"""How does a rank process die in the middle of a step, and how far were the others then?

Rule: a death is set up inside the victim, comes at a counted place of its own step, and is a real
SIGKILL. All functions run in a rank process (``process.call("apply", …)``).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any, Literal

Place = Literal["computed", "exchanged"]
"""``computed``: it has computed a batch and told nobody; ``exchanged``: it has all that it needs
from its peers and has applied nothing.
"""


def wait_until(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    """Wait for a condition with a deadline."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def count_computations(trainer: Any) -> None:
    """From now on ``computations`` tells of every batch that this rank computes."""
    compute, trainer.computed = trainer._group._phases.compute, []

    def counted(*args: Any, **kwargs: Any) -> Any:
        trainer.computed.append(trainer._course.step)
        return compute(*args, **kwargs)

    trainer._group._phases.compute = counted


def computations(trainer: Any) -> list[int]:
    """The step that each computed batch followed on."""
    return list(trainer.computed)


def die(trainer: Any, place: Place, turn: int) -> None:
    """Die at a place of the steps to come.

    Args:
        turn: at the how manieth passing of the place, from 1.
    """
    phases = trainer._group._phases
    name = {"computed": "compute", "exchanged": "apply"}[place]
    usual, passed = getattr(phases, name), []

    def deadly(*args: Any, **kwargs: Any) -> Any:
        passed.append(1)
        if place == "computed":
            result = usual(*args, **kwargs)
        if len(passed) == turn:
            os.kill(os.getpid(), signal.SIGKILL)
        return result if place == "computed" else usual(*args, **kwargs)

    setattr(phases, name, deadly)
