"""Which workers of a driver that died live, and what do they say of themselves?

Rule: each one is asked, and each answer stands alone: a worker that dies while it's being asked, or
doesn't answer in time, is ended and left out, and the others go on. Only a worker that obeys a
newer driver stops the adoption.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import exceptions as rex

from orchestrator.decide.machine import WorkerReport
from orchestrator.errors import LeaseLost
from orchestrator.workers.namespace import living_workers
from orchestrator.workers.orders import Setup

log = logging.getLogger("tfresume")

ADOPT_S = 5.0
"""A worker that doesn't answer a new driver within this is taken for hung, and killed."""
SETUP_S = 20.0
"""Longest time for one worker to say what it was made with: a graph of some hundred MB passes
through the object store.
"""


@dataclass(frozen=True)
class Living:
    """The workers that obey this driver from now on.

    Attributes:
        actors: Ray's handle by name, of those in ``reports`` and of no other.
        setup: what they were made with; None where nobody lives.
        names: of all that lived when they were asked; those that didn't answer are ended.
    """

    actors: Mapping[str, Any] = field(default_factory=dict)
    reports: tuple[WorkerReport, ...] = ()
    setup: Setup | None = None
    names: tuple[str, ...] = ()


def take_over(namespace: str, attempt: int, confirm: Callable[[], None]) -> Living:
    """Take over what lives in the namespace.

    Args:
        confirm: raises LeaseLost where another driver may hold the run by now; asked before any
            worker is ended.

    Raises:
        LeaseLost: a worker obeys a newer driver, or ``confirm`` says so.
    """
    actors: dict[str, Any] = {}
    asked: dict[str, Any] = {}
    names = tuple(living_workers(namespace))
    for name in names:
        try:
            actors[name] = ray.get_actor(name, namespace=namespace)
        except ValueError:
            continue
        asked[name] = actors[name].adopt.remote(attempt)
    if asked:
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=ADOPT_S)
    reports = {
        name: WorkerReport(**fields)
        for name, ref in asked.items()
        if (fields := _answer(actors[name], name, ref, 0.2, confirm))
    }
    setup = None
    for name in list(reports):
        setup = _answer(actors[name], name, actors[name].setup.remote(attempt), SETUP_S, confirm)
        if setup is not None:
            break
        del reports[name]
    return Living({name: actors[name] for name in reports}, tuple(reports.values()), setup, names)


def _answer(actor: Any, name: str, ref: Any, timeout_s: float, confirm: Callable[[], None]) -> Any:
    """What a worker answers; None where it doesn't, and then it's ended."""
    try:
        return ray.get(ref, timeout=timeout_s)
    except rex.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, LeaseLost):
            raise cause from error
        log.warning("worker %s isn't taken over: %s", name, str(error).partition("\n")[0])
        confirm()  # while it was waited for, this driver may have slept and been followed
        ray.kill(actor, no_restart=True)
        return None
