"""One event's worth of deciding: what has been decided so far?

Rule: the rules of ``membership``, ``forming``, ``stepping``, ``saves`` and ``ending`` take a turn,
replace its run and add actions. A turn lives for one call of ``machine.advance``; nothing outside
sees it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from orchestrator.decide.actions import Action, Note
from orchestrator.decide.run import Phase, Run, Stage, Worker
from orchestrator.journal.event import JournalEvent

T = TypeVar("T")


def changed(item: T, changes: Mapping[str, Any]) -> T:
    """``dataclasses.replace`` for frozen dataclasses without ``__post_init__``, at a third of its
    time: most events change two fields.

    Raises:
        TypeError: there is no such field.
    """
    if not changes.keys() <= vars(item).keys():
        raise TypeError(
            f"{type(item).__name__} has no {', '.join(sorted(changes.keys() - vars(item).keys()))}"
        )
    copy: T = object.__new__(type(item))
    vars(copy).update(vars(item))
    vars(copy).update(changes)
    return copy


class Turn:
    """The run as decided so far, the actions so far, and what the clock says."""

    def __init__(self, run: Run, now_s: float) -> None:
        self.run = run
        self.now_s = now_s
        self.actions: list[Action] = []

    def set(self, **changes: Any) -> None:
        """Replace fields of the run."""
        self.run = changed(self.run, changes)

    def enter(self, phase: Phase) -> None:
        """Change the phase and note since when."""
        if self.run.phase is not phase:
            self.set(phase=phase, since_s=self.now_s)

    def worker(self, ident: str, **changes: Any) -> None:
        """Replace fields of one worker."""
        workers = dict(self.run.workers)
        workers[ident] = changed(workers[ident], changes)
        self.set(workers=workers)

    def workers(self, changed: Mapping[str, Worker]) -> None:
        """Replace several workers at once."""
        self.set(workers={**self.run.workers, **changed})

    def act(self, action: Action) -> None:
        """Have something done."""
        self.actions.append(action)

    def note(self, event: JournalEvent) -> None:
        """Have something written down."""
        self.actions.append(Note(event))

    def alive(self, *stages: Stage) -> list[Worker]:
        """Workers in these stages, by identity."""
        workers = self.run.workers
        return [workers[ident] for ident in sorted(workers) if workers[ident].stage in stages]
