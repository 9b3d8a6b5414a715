"""Shots that are fired one after the other into a run whose workers follow ``tests.chaos.faults``.

Rule: a round of shots is due when enough standbys are warm and the last round is over; it's over
when every shot has hit and the run has stepped on. What didn't hit is seen in ``hits``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.runs import Watcher

INPUT = """
from tests.chaos import faults

faults.bind({here!r})
batches, forward, on_the_way_back, reduced = faults.batches, faults.forward, faults.on_the_way_back, faults.reduced
"""


@dataclass(frozen=True)
class Shot:
    """Where the process of a rank dies."""

    place: str
    rank: int


Round = tuple[Shot, ...]


class Script:
    """An observer that makes one round of shots due after the other.

    Args:
        directory: the test's own; shared with the workers.
        standbys: how many have to be warm before a round.
        look: called at the start of each round.
    """

    def __init__(
        self,
        directory: Path,
        rounds: Sequence[Round],
        standbys: int = 2,
        look: Callable[[Watcher], None] = lambda watcher: None,
    ) -> None:
        self.directory, self.rounds, self.standbys, self.look = (
            directory,
            list(rounds),
            standbys,
            look,
        )
        self.input = directory / "shots.py"
        self.input.write_text(INPUT.format(here=str(directory)))
        self.now: list[int] = []
        self.count = 0
        self.incidents = 0
        self._idle(bool(rounds))

    @property
    def config(self) -> dict[str, Any]:
        """What a run needs in order to follow."""
        functions = {"pyfunc_0": "forward", "pyfunc_1": "on_the_way_back", "pyfunc_2": "reduced"}
        return {
            "input": f"{self.input}:batches",
            "py_func": {token: f"{self.input}:{name}" for token, name in functions.items()},
        }

    @property
    def hits(self) -> list[str]:
        """The places in which somebody died, in the order of the shots."""
        files = [self.directory / f"hit-{number}" for number in range(self.count)]
        return [file.read_text() if file.exists() else "" for file in files]

    @property
    def over(self) -> bool:
        """Whether everything has been shot."""
        return not self.rounds and not self.now

    def __call__(self, watcher: Watcher, kind: str, event: Mapping[str, Any]) -> None:
        if kind == "incident":
            self.incidents += 1
        if kind != "step":
            return
        if (
            self.now
            and self.incidents
            and all((self.directory / f"hit-{number}").exists() for number in self.now)
        ):
            self.now = []
            self._idle(bool(self.rounds))
        if not self.now and self.rounds and len(watcher.standbys()) >= self.standbys:
            self.look(watcher)
            self._fire(self.rounds.pop(0))

    def _fire(self, shots: Round) -> None:
        self.now = list(range(self.count, self.count + len(shots)))
        self.count += len(shots)
        self.incidents = 0
        due = [
            {"number": number, "place": shot.place, "rank": shot.rank}
            for number, shot in zip(self.now, shots, strict=True)
        ]
        written = self.directory / "due.new"
        written.write_text(json.dumps(due))
        os.replace(written, self.directory / "due")
        self._idle(False)

    def _idle(self, idle: bool) -> None:
        if idle:
            (self.directory / "idle").touch()
        else:
            (self.directory / "idle").unlink(missing_ok=True)
