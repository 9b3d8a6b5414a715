"""What is a run doing, and what may it do next?

Rule: ``MOVES`` is the whole truth, and ``Turn.enter`` holds to it: any other move raises.

::

                 a worker is warm             all held                       all joined
    WAITING ───────────────────► (settled) ◄─────────────── GATHERING    FORMING ─────────► TRAINING
       ▲                            │  │                     ▲  ▲         │                  │
       └── too few workers ─────────┘  ├── group, state ─────┼──┼────────►┘                  │
                                       │                     │  └─── lost, could not join ───┤
                                       └── nobody has ─► FINDING                             │
                                           the state         └── lost, hung, peer lost, planned
                                           re-form
    any ──► ENDED   (last step saved, stopped and saved, given up, fenced)
"""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """What the run is doing."""

    WAITING = "waiting for workers"
    GATHERING = "gathering"
    FINDING = "looking for a checkpoint"
    FORMING = "forming"
    TRAINING = "training"
    ENDED = "ended"


MOVES: dict[Phase, frozenset[Phase]] = {
    Phase.WAITING: frozenset({Phase.FINDING, Phase.FORMING, Phase.ENDED}),
    Phase.GATHERING: frozenset({Phase.WAITING, Phase.FINDING, Phase.FORMING, Phase.ENDED}),
    Phase.FINDING: frozenset({Phase.GATHERING, Phase.ENDED}),
    Phase.FORMING: frozenset({Phase.TRAINING, Phase.GATHERING, Phase.ENDED}),
    Phase.TRAINING: frozenset({Phase.GATHERING, Phase.ENDED}),
    Phase.ENDED: frozenset(),
}


class IllegalMove(RuntimeError):
    """The rules contradict themselves: an error of this project's code, never of a run."""

    def __init__(self, before: Phase, after: Phase) -> None:
        super().__init__(f"a run that is {before.value} can't go on to {after.value}")


def move(before: Phase, after: Phase) -> Phase:
    """``after``, where a run may go on to it.

    Raises:
        IllegalMove: it may not.
    """
    if after not in MOVES[before]:
        raise IllegalMove(before, after)
    return after
