"""What has really happened in a simulated world, and does all that's said and done agree with it?

Each method is told of something as it happens and checks what must hold there; ``at_the_end`` checks
what must hold once nothing is left of the run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from launch.runs.status_model import RunStatus
from orchestrator.decide.budgets import WINDOW_S
from orchestrator.driver.claim import Claim
from orchestrator.journal.event import JournalEvent
from orchestrator.journal.parsing import parse_all
from orchestrator.journal.run_events import RunEnded
from orchestrator.journal.save_events import SaveRefused
from orchestrator.journal.worker_events import LossOfWorker, WorkerStarted
from orchestrator.store.checkpoints.run_checkpoints import list_checkpoints
from orchestrator.store.objects.layout import MANIFEST_SUFFIX, read_generation_id
from orchestrator.store.objects.manifest import Manifest, read_manifest_bytes
from orchestrator.store.run.journal import read_journal
from orchestrator.workers.orders import CheckpointFiles
from tests.driver_simulation.ray import Actor
from tests.driver_simulation.schedule import Process
from tests.driver_simulation.state import SimState, chain_at, holds
from tests.driver_simulation.store import StoreFaults

ORPHAN_S = 20.0

if TYPE_CHECKING:
    from tests.driver_simulation.exchange import SimExchange
    from tests.driver_simulation.worker import SimWorker
    from tests.driver_simulation.world import World

GONE_S = 5.0
"""After an end in order, everything has been given back."""


ROUNDED_S = 0.1
"""The journal's times have milliseconds, and an attempt's clock starts a moment before its loop's."""


class Truth:
    """Sees everything."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.damaged: set[str] = set()
        self.told: dict[int, list[Mapping[str, Any]]] = {}
        self.attempts: dict[int, int] = {}
        """By process, the attempt that it was given."""
        self.obeyed_by: dict[str, int] = {}
        self.manifests: dict[str, Manifest] = {}
        self.known: dict[int, set[str]] = {}
        """By attempt, names of workers of which it could know when it began, and of those it made."""
        self.ended_s: float | None = None
        self.in_order: set[int] = set()
        self.taken: dict[int, set[tuple[int, tuple[str, ...]]]] = {}
        """By step, the groups that took it: number and members. A driver whose journal was lost
        with it may leave a number to the next one.
        """
        self.trained_s: dict[int, float] = {}
        """By attempt, the training of those before it that it must know of."""
        self.contact_s: dict[str, float] = {}
        """By worker, when a driver last spoke to it."""

    def begin(self) -> None:
        """The world has begun to be."""
        world = self.world
        world.bucket.watch = self._stored
        world.ray.killed_by = self._killed_by

    # -- drivers

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

        return tell

    def _has_looked(self, attempt: int) -> None:
        """A driver has looked for living workers: one that died between its claim and now, and of
        which no driver lived to write, can't be known to it.
        """
        gone = {actor.name for actor in self.world.ray.actors if actor.dead}
        self.known[attempt] -= gone - self._named(attempt)

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
        return list(parse_all([json.loads(line) for line in dict.fromkeys(lines)]))

    def _named(self, attempt: int) -> set[str]:
        events = self._journaled(attempt)
        return {event.worker for event in events if isinstance(event, WorkerStarted)}

    def everything_told(self) -> list[Mapping[str, Any]]:
        """By all drivers, one after the other."""
        return [event for number in sorted(self.told) for event in self.told[number]]

    def claimed(self, process: Process, claim: Claim) -> None:
        """A driver has the lease, and has read the journal."""
        self.attempts[process.number] = claim.attempt
        living = {actor.name for actor in self.world.ray.actors if not actor.dead}
        self.known[claim.attempt] = self._named(claim.attempt) | living
        if self.world.faults.store.lists_late_s:
            return
        self.trained_s[claim.attempt] = _trained_s(self._journaled(claim.attempt), claim.attempt)
        paid = len(claim.past.budgets(10**6, self.world.schedule.now_s, 0.0).entries)
        before = _losses(self._journaled(claim.attempt))
        newest = max(before, default=0.0)
        # By clocks that differ a loss may be too long ago to count
        least = sum(at > newest - WINDOW_S for at in before)
        self.world.check(
            least <= paid <= len(_losses(parse_all(self._journal()))),
            "a dead driver's losses weren't paid for",
        )

    def _held_since(self) -> float:
        """When the newest lease was written: who looked before saw the holder before."""
        path = f"{self.world.path}/_tfresume/lease/{self._newest_attempt():04d}.json"
        return self.world.bucket.objects[path][1]

    def _newest_attempt(self) -> int:
        names = [name for name in self.world.bucket.objects if "/_tfresume/lease/" in name]
        return max((int(name[-9:-5]) for name in names if name.endswith(".json")), default=0)

    # -- workers

    def _killed_by(self, process: Process | None, actor: Actor) -> None:
        if process is None:
            return
        self.world.check(
            self.attempts.get(process.number) == self._newest_attempt()
            or not self.world.faults.store.exclusive,
            "a driver that another has followed ended a worker",
        )

    def obeyed(self, worker: SimWorker, attempt: int, method: str) -> None:
        """A worker did what a driver asked of it."""
        seen = self.obeyed_by.get(worker.ident, 0)
        self.world.check(
            attempt >= seen, "a worker obeyed a driver after it had obeyed the next one"
        )
        self.obeyed_by[worker.ident] = max(attempt, seen)
        self.contact_s[worker.ident] = self.world.schedule.now_s

    def made(self, worker: SimWorker) -> None:
        """A worker's process has begun."""
        store = self.world.faults.store
        # Two drivers may have one number until one hears of it; and a journal that isn't listed yet
        # names nobody
        if not store.exclusive or store.lists_late_s:
            return
        known = self.known[worker._attempt]
        self.world.check(worker.ident not in known, "the name of a worker was used twice")
        known.add(worker.ident)

    def orphaned(self, worker: SimWorker) -> None:
        """It took its driver for dead."""
        contact_s = self.contact_s.get(worker.ident, 0.0)
        self.world.check(
            self.world.schedule.now_s - contact_s > ORPHAN_S / 2,
            "a worker to which a driver spoke took it for dead",
        )

    def group_steps(self, exchange: SimExchange) -> None:
        """All members of a group have come for a step."""
        states = {member.trainer.current for member in exchange.members.values()}
        good = all(state is not None and state.is_good for state in states)
        self.world.check(good, "a step was taken from a state that nobody ever had")
        self.world.check(len(states) == 1, "the members of a group differ")

    def stepped(self, worker: SimWorker, state: SimState) -> None:
        """A worker has applied a step."""
        self.world.check(state.is_good, "a step was taken from a state that nobody ever had")
        order = worker.mailbox.order
        assert order is not None
        if self.world.divided:
            own = (order.rank, order.world_size)
            self.world.check(state.share == own, "a step was taken with the rows of another rank")
        self.taken.setdefault(state.step, set()).add((order.generation, order.addresses))

    def restored(self, worker: SimWorker, checkpoint: CheckpointFiles, state: SimState) -> None:
        """A worker has read a checkpoint and takes it for good."""
        self.world.check(state.is_good, "a checkpoint that is bad was trusted")
        data = {str(file.location.path) for file in checkpoint.files if ".data-" in file.name}
        self.world.check(not data & self.damaged, "a damaged checkpoint was trusted")

    # -- the output

    def _stored(self, what: str, path: str, data: bytes) -> None:
        if not path.endswith(MANIFEST_SUFFIX) or "/_tfresume/" in path:
            return
        label = path.removeprefix(f"{self.world.path}/").removesuffix(MANIFEST_SUFFIX)
        if what == "write":
            self._committed(label, read_manifest_bytes(data, path))
        else:
            self._deleted(label)

    def _data_of(self, label: str) -> dict[str, bytes | None]:
        """The data files of a checkpoint, in their order; None where one isn't there."""
        directory, found = label.rpartition("/")[0], self.world.bucket.objects
        names = sorted(one.name for one in self.manifests[label].files if ".data-" in one.name)
        paths = [f"{self.world.path}/{directory}/{name}" for name in names]
        return {path: found[path][0] if path in found else None for path in paths}

    def _holds_its_step(self, label: str) -> bool:
        files = list(self._data_of(label).values())
        divided = bool(self.world.config.shard_tables)
        return None not in files and holds(
            [file for file in files if file is not None],
            chain_at(self.manifests[label].step),
            divided=divided,
        )

    def _is_good(self, label: str) -> bool:
        known = label in self.manifests
        return known and self._holds_its_step(label) and not self._is_damaged(label)

    def _committed(self, label: str, manifest: Manifest) -> None:
        self.manifests[label] = manifest
        self.world.check(
            self._holds_its_step(label) or self._is_damaged(label),
            "a checkpoint was committed that isn't the run's state",
        )
        self.world.check(
            manifest.training_s >= self.trained_s.get(manifest.attempt, 0.0) - ROUNDED_S,
            "the training of earlier attempts was forgotten",
        )

    def _is_damaged(self, label: str) -> bool:
        return bool(self._data_of(label).keys() & self.damaged)

    def _deleted(self, label: str) -> None:
        gone = self.manifests[label]
        was_good = self._is_good(label)
        left = [
            manifest.step
            for other, manifest in self.manifests.items()
            if other != label and self._exists(other) and self._is_good(other)
        ]
        self.world.check(
            not was_good or max(left, default=-1) >= gone.step,
            "the newest good checkpoint was deleted",
        )
        pointer = self.world.bucket.objects.get(f"{self.world.path}/checkpoint")
        self.world.check(
            pointer is not None and f'"{label}"' not in pointer[0].decode().splitlines()[0],
            "a checkpoint was deleted to which TensorFlow is pointed",
        )

    def _exists(self, label: str) -> bool:
        return f"{self.world.path}/{label}{MANIFEST_SUFFIX}" in self.world.bucket.objects

    # -- those who look

    def looked(self, seen: RunStatus, since_s: float) -> None:
        """Somebody was shown the run's status, and began to look at ``since_s``."""
        check, world = self.world.check, self.world
        check(
            (seen.step or 0) <= max(self.taken, default=0), "status shows a step that nobody took"
        )
        check(
            seen.state not in ("done", "stopped")
            or self._said(RunEnded.WORD)
            or seen.driver == "released",  # one that was refused
            "status says that a run has ended which goes on",
        )
        label = (seen.checkpoint or "").removeprefix(f"{world.output.shown}/")
        check(not label or label in self.manifests, "status shows a checkpoint that isn't one")
        faults = world.faults
        if not (faults.pauses_s or faults.outage_s or faults.store != StoreFaults()):
            holders = [item for item in world.drivers if item.number in self.attempts]
            lives = bool(holders) and not holders[-1].dead
            check(
                seen.driver != "dead" or not lives or self._held_since() > since_s,
                "status says of a driver that lives that it's dead",
            )

    def _said(self, event: str) -> bool:
        return any(each["event"] == event for each in self.everything_told())

    # -- the end

    def _journal(self) -> list[dict[str, Any]]:
        """What the output says has happened, by the world's own look at it."""
        schedule = self.world.schedule
        task, process = schedule.task, schedule.process
        schedule.task = schedule.process = None
        try:
            return read_journal(self.world.output)
        finally:
            schedule.task, schedule.process = task, process

    def ended(self, process: Process) -> None:
        """A driver has ended the run in order; nothing of it is to be left."""
        self.in_order.add(process.number)
        self.ended_s = self.world.schedule.now_s
        self.world.schedule.at(GONE_S, self._nothing_is_left)

    def _nothing_is_left(self) -> None:
        # A rival that was about may have taken the run over at its very end
        if self.world.schedule.now_s - (self.ended_s or 0.0) >= GONE_S:
            self.world.check(
                not [actor for actor in self.world.ray.actors if not actor.dead],
                "a worker lives on after the end of its run",
            )
            self.world.check(
                not [group for group in self.world.ray.groups.values() if not group.removed],
                "a place is reserved after the end of its run",
            )

    def at_the_end(self) -> None:
        """Nothing happens any more."""
        self._nothing_is_left()
        records = self._journal()
        for process in self.world.drivers:
            self._agrees(process, records)
        steps = [
            manifest.step
            for label, manifest in self.manifests.items()
            if self._exists(label) and read_generation_id(label.partition("/")[0]) is not None
        ]
        self._pointer()
        self._redone(records)
        result = self.world.results[-1]
        self.world.check(
            max(steps, default=0) >= result.final_step or result.status != "done",
            "the run says done and its last step isn't saved",
        )

    def _pointer(self) -> None:
        if self.world.faults.store.lists_late_s:
            return  # a last save that was committed and wasn't listed is found by nobody who points
        newest = list_checkpoints(self.world.output)
        data = self.world.bucket.objects.get(f"{self.world.path}/checkpoint")
        first = data[0].decode().splitlines()[0] if data else ""
        self.world.check(
            not newest or f'"{newest[0].label}"' in first,
            "TensorFlow isn't pointed at the newest checkpoint",
        )

    def _redone(self, records: list[dict[str, Any]]) -> None:
        """Steps that were taken again, against those that the journal tells."""
        redone = sum(len(generations) - 1 for generations in self.taken.values())
        told = sum(int(each["steps_redone"]) for each in records if each["event"] == "incident")
        lost = len({generation for each in self.taken.values() for generation in each})
        faults = self.world.faults
        # What nobody lived to tell nobody can know of; while all live that's a step for each loss
        unknown = lost if not (faults.dies_s or faults.pauses_s) else redone
        # A stop may come before the last of those that were lost has been taken again
        last = self.world.results[-1].final_step
        to_do = sum(step > last for step in self.taken)
        self.world.check(
            redone - unknown <= told <= redone + to_do,
            "other steps are told as redone than were redone",
        )

    def _agrees(self, process: Process, records: list[dict[str, Any]]) -> None:
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
        in_order = process.number in self.in_order and not self.world.faults.outage_s
        self.world.check(
            not in_order or written == said, "the journal of a driver that ended lacks something"
        )


def _kept(event: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(dict(event), default=str))
    return {key: value for key, value in found.items() if key not in ("config", "at")}


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
