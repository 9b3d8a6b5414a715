"""What has been decided so far about the event that is being handled?

Rule: facts and rules take a turn, replace its run and add actions. A turn lives for one call of
``machine.advance``; nothing outside sees it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from orchestrator.decide.actions import Action, EndWorker, Note
from orchestrator.decide.causes import Cause
from orchestrator.decide.phases import Phase, move
from orchestrator.decide.roster import Worker
from orchestrator.decide.run import Run
from orchestrator.journal.event import JournalEvent

T = TypeVar("T")

END_AGAIN_S = 1.0
"""A worker whose end was asked for is asked for again after so long: a driver that isn't sure of its
lease kills nobody.
"""


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
    """The run as decided so far, the actions so far, and what the clock says.

    Attributes:
        quiet: all that has happened is that a worker has told how far it is, which is what a driver
            hears most.
    """

    def __init__(self, run: Run, now_s: float) -> None:
        self.run = run
        self.now_s = now_s
        self.actions: list[Action] = []
        self.quiet = False

    def set(self, **changes: Any) -> None:
        """Replace fields of the run."""
        self.run = changed(self.run, changes)

    def enter(self, phase: Phase) -> None:
        """Change the phase and note since when.

        Raises:
            IllegalMove: the run can't go on to that phase from its own.
        """
        self.set(phase=move(self.run.phase, phase), since_s=self.now_s)

    def gather(self, reason: str) -> None:
        """Have the members stop at their next step boundary; the first reason is the one that is
        told. Where they were asked to before, there is nothing to do.
        """
        if self.run.phase in (Phase.TRAINING, Phase.FORMING) and not self.run.gather_for:
            self.set(gather_for=reason)

    def worker(self, ident: str, **changes: Any) -> None:
        """Replace fields of one worker."""
        workers = self.run.workers
        self.set(workers=workers.put(changed(workers[ident], changes)))

    def workers(self, changed: Iterable[Worker]) -> None:
        """Replace several workers at once."""
        self.set(workers=self.run.workers.put_all(changed))

    def is_ending(self, ident: str) -> bool:
        """Whether a worker's end was asked for within the last second."""
        asked_s = self.run.workers[ident].ended_s
        return asked_s is not None and self.now_s - asked_s < END_AGAIN_S

    def end_worker(self, ident: str, cause: Cause, detail: str) -> None:
        """Have a worker's process ended."""
        self.worker(ident, ended_s=self.now_s)
        self.act(EndWorker(ident, cause.value, detail))

    def act(self, action: Action) -> None:
        """Have something done."""
        self.actions.append(action)

    def note(self, event: JournalEvent) -> None:
        """Have something written down."""
        self.actions.append(Note(event))
