"""Does what simulated drivers tell, write down and read agree with what has happened?"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.decide.budgets import WINDOW_S
from orchestrator.driver.claim import Claim
from orchestrator.driver.past import KINDS
from orchestrator.journal.event import JournalEvent
from orchestrator.journal.folding import folded, frozen
from orchestrator.journal.parsing import parse, parse_all
from orchestrator.journal.run_events import RunEnded
from orchestrator.journal.save_events import (
    SaveAgreed,
    SaveCancelled,
    SaveCommitted,
    SaveFailure,
    SaveLost,
    SavePostponed,
    SaveRefused,
)
from orchestrator.journal.worker_events import LossOfWorker, WorkerHung, WorkerStarted
from orchestrator.store.run.journal import read_journal
from orchestrator.store.run.snapshots import read_folds
from tests.driver_simulation.schedule import Process

if TYPE_CHECKING:
    from tests.driver_simulation.world import World

OUTCOMES = tuple(
    kind.WORD for kind in (*(SaveFailure, SavePostponed, SaveRefused, SaveLost, SaveCancelled),)
)
"""What may become of a save that was agreed on, but for its commit."""


class JournalTruth:
    """What all drivers of one world have told."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.told: dict[int, list[Mapping[str, Any]]] = {}
        self.attempts: dict[int, int] = {}
        """By process, the attempt that it was given."""
        self.known: dict[int, set[str]] = {}
        """By attempt, names of workers of which it could know when it began, and of those it made."""
        self.in_order: set[int] = set()
        """Processes that ended the run."""
        self.agreed: dict[int, tuple[int, int] | None] = {}
        """By process, generation and step of the save that is under way."""
        self.trained_s: dict[int, float] = {}
        """By attempt, the training of those before it that it must know of."""

    def telling(self, process: Process) -> Callable[[Mapping[str, Any]], None]:
        """For an observer of that driver."""
        told = self.told.setdefault(process.number, [])

        def tell(event: Mapping[str, Any]) -> None:
            told.append(event)
            if event["event"] == "attempt":
                self._has_looked(self.attempts[process.number])
            # All states are good here: checksums that aren't equal are of different steps
            self.world.check(
                event["event"] != SaveRefused.WORD, "ranks were taken to differ that are equal"
            )
            self.world.check(
                event["event"] != WorkerHung.WORD or not self.world.faults.leaves_workers_alone,
                "a worker was taken to hang where none does",
            )
            self._resolves(process.number, event)

        return tell

    def _resolves(self, driver: int, event: Mapping[str, Any]) -> None:
        """A save is under way from when it's agreed on until it's told what became of it."""
        word, under_way = event["event"], self.agreed.get(driver)
        if word == SaveAgreed.WORD:
            self.world.check(
                under_way is None, "a save was agreed on while nobody knew what became of another"
            )
            self.agreed[driver] = event["generation"], event["step"]
        elif word == SaveCommitted.WORD:
            # It may be one of a save that had failed; and one by position may come a step early
            if under_way and event["generation"] == under_way[0] and event["step"] <= under_way[1]:
                self.agreed[driver] = None
        elif word in OUTCOMES:
            self.agreed[driver] = None
        elif word == RunEnded.WORD:
            self.world.check(
                under_way is None or event["outcome"] not in ("done", "end of data"),
                "the run ended while nobody knew what became of a save",
            )

    def _has_looked(self, attempt: int) -> None:
        """A driver has looked for living workers: one that died between its claim and now, and of
        which no driver lived to write, can't be known to it.
        """
        gone = {actor.name for actor in self.world.ray.actors if actor.dead}
        self.known[attempt] -= gone - _named(self._journaled(attempt))

    def _journaled(self, attempt: int) -> list[JournalEvent]:
        """What stood in the journal when this attempt's lease was written: one that woke up may
        write on while its successor reads.
        """
        bucket, control = self.world.bucket, f"{self.world.path}/_tfresume"
        claimed_s = bucket.objects[f"{control}/lease/{attempt:04d}.json"][1]
        lines = [
            line
            for name, (data, written_s) in bucket.objects.items()
            if name.startswith(f"{control}/journal/") and name.endswith(".jsonl")
            if written_s < claimed_s
            for line in data.splitlines()
        ]
        # A driver that died as it joined parts left what it joined beside the parts
        return [_event(line) for line in dict.fromkeys(lines)]

    def everything_told(self) -> list[Mapping[str, Any]]:
        """By all drivers, one after the other."""
        return [event for number in sorted(self.told) for event in self.told[number]]

    def claimed(self, process: Process, claim: Claim) -> None:
        """A driver has the lease, and has read the journal."""
        self.attempts[process.number] = claim.attempt
        living = {actor.name for actor in self.world.ray.actors if not actor.dead}
        journaled = self._journaled(claim.attempt)
        self.known[claim.attempt] = _named(journaled) | living
        if self.world.faults.store.lists_late_s:
            return
        self.trained_s[claim.attempt] = _trained_s(journaled, claim.attempt)
        paid = len(claim.past.budgets(10**6, self.world.schedule.now_s, 0.0).entries)
        before = _losses(journaled)
        newest = max(before, default=0.0)
        # By clocks that differ a loss may be too long ago to count
        least = sum(at > newest - WINDOW_S for at in before)
        self.world.check(
            least <= paid <= len(_losses(parse_all(self.journal()))),
            "a dead driver's losses weren't paid for",
        )

    def held_since(self) -> float:
        """When the newest lease was written: who looked before saw the holder before."""
        path = f"{self.world.path}/_tfresume/lease/{self.newest_attempt():04d}.json"
        return self.world.bucket.objects[path][1]

    def newest_attempt(self) -> int:
        names = [name for name in self.world.bucket.objects if "/_tfresume/lease/" in name]
        return max((int(name[-9:-5]) for name in names if name.endswith(".json")), default=0)

    def said(self, event: str) -> bool:
        return any(each["event"] == event for each in self.everything_told())

    def journal(self) -> list[dict[str, Any]]:
        """What the output says has happened, by the world's own look at it."""
        schedule = self.world.schedule
        task, process = schedule.task, schedule.process
        schedule.task = schedule.process = None
        try:
            return read_journal(self.world.output)
        finally:
            schedule.task, schedule.process = task, process

    def folds(self, records: list[dict[str, Any]]) -> None:
        """What the next driver would read, a snapshot and what was written since, says the same as
        all events one after the other.
        """
        found, events = read_folds(self.world.output, KINDS).folds, parse_all(records)
        self.world.check(
            all(
                frozen(found[name]) == frozen(folded(kind, events)) for name, kind in KINDS.items()
            ),
            "a snapshot says otherwise than the journal",
        )

    def redone(self, records: list[dict[str, Any]]) -> None:
        """Steps that were taken again, against those that the journal tells."""
        redone = sum(
            len(generations) - 1 for generations in self.world.truth.workers.taken.values()
        )
        incidents = [each for each in records if each["event"] == "incident"]
        told = sum(int(each["steps_redone"]) for each in incidents)
        if self.world.faults.store.lists_late_s:
            # Who isn't shown yet that an incident is over tells of it once more
            told = sum({each["worker"]: int(each["steps_redone"]) for each in incidents}.values())
        lost = len(
            {generation for each in self.world.truth.workers.taken.values() for generation in each}
        )
        faults = self.world.faults
        # What nobody lived to tell nobody can know of; while all live that's a step for each loss
        unknown = lost if not (faults.dies_s or faults.pauses_s) else redone
        # A stop may come before the last of those that were lost has been taken again
        last = self.world.drivers.results[-1].final_step
        to_do = sum(step > last for step in self.world.truth.workers.taken)
        self.world.check(
            redone - unknown <= told <= redone + to_do,
            "other steps are told as redone than were redone",
        )

    def agrees(self, process: Process, records: list[dict[str, Any]]) -> None:
        """The journal holds what a driver has said, in its order; all of it where it ended in
        order, else up to some moment.
        """
        attempt = self.attempts.get(process.number)
        if list(self.attempts.values()).count(attempt or 0) > 1:
            return  # the store creates nothing exclusively: the last of two writers' parts stands
        said = [_kept(event) for event in self.told.get(process.number, [])]
        written = [_kept(event) for event in records if event["attempt"] == attempt]
        self.world.check(
            attempt is None or said[: len(written)] == written,
            "the journal tells otherwise than the driver that wrote it",
        )
        in_order = process.number in self.in_order
        self.world.check(
            not in_order or written == said, "the journal of a driver that ended lacks something"
        )


@functools.lru_cache(4096)
def _event(line: bytes) -> JournalEvent:
    """Each driver finds the lines of those before it."""
    return parse(json.loads(line))


def _named(events: Sequence[JournalEvent]) -> set[str]:
    return {event.worker for event in events if isinstance(event, WorkerStarted)}


def _kept(event: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in ("config", "at")}


def _trained_s(events: Sequence[JournalEvent], attempt: int) -> float:
    """Seconds that the attempts before this one took, by their last words."""
    last_s: dict[int, float] = {}
    for event in events:
        if event.attempt is not None and event.attempt < attempt:
            last_s[event.attempt] = max(last_s.get(event.attempt, 0.0), event.t_s or 0.0)
    return sum(last_s.values())


def _losses(events: Sequence[JournalEvent]) -> list[float]:
    """When those were, by their driver's clock, that a budget pays for."""
    return [
        event.at
        for event in events
        if isinstance(event, LossOfWorker) and not event.spared and event.at is not None
    ]
