"""Does the real code of the store do what a trace of the model says?

Each life of a driver calls lease, lineage, commit and retention as the driver does, in a thread that
stands still before each request until the trace comes to it. Where the code asks for something else
than the trace has next, or has another answer, the two differ.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest

from orchestrator.errors import LeaseLost, OrchestratorError, OutputError
from orchestrator.store.bundle import deep_verify
from orchestrator.store.checkpoints import commits, reports, retention, run_checkpoints, sample
from orchestrator.store.checkpoints.source import newest_source
from orchestrator.store.objects.location import open_location
from orchestrator.store.objects.manifest import Manifest
from orchestrator.store.run import lease as leases
from orchestrator.store.run.lineage import record_takeover
from tests.driver_simulation.patches import Inline
from tests.driver_simulation.state import files_of_state, record_of, start_state
from tests.fakes.clocks import FakeClock
from tests.model.bucket import PATH, Player, TracedBucket, TracedFileSystem

LEASE_S = 10.0
Event = tuple[int, str, tuple[int, ...]]
"""Driver (0: the store), word, numbers."""


class Differs(AssertionError):
    """The code does something else than the model."""


def events_in(text: str) -> list[Event]:
    """What spin printed of a trace."""
    found = re.findall(r"^\s*@ (\d+) (\w+)(.*)$", text, re.MULTILINE)
    return [
        (
            int(driver),
            f"{word}{'' if word != 'list' else ' ' + rest.split()[0]}",
            tuple(int(number) for number in re.findall(r"-?\d+", rest)),
        )
        for driver, word, rest in found
    ]


class Replay:
    """Play a trace on the real code.

    Attributes:
        told: checkpoints that a driver was told to be saved.
        started: by attempt, the checkpoint it went on from; none where it took workers over.
    """

    def __init__(self, events: Sequence[Event], *, weak: bool = False, late: bool = False) -> None:
        self.events = list(events)
        self.bucket = TracedBucket(not weak, late)
        self.clock = FakeClock()
        self.players: dict[int, Player] = {}
        self.place = 0
        self.told: list[tuple[int, int]] = []
        self.started: dict[int, tuple[int, int]] = {}
        self.old_look = False

    def play(self) -> None:
        """Raises Differs."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(TracedFileSystem, "bucket", self.bucket, raising=False)
            for module in (run_checkpoints, reports, retention, sample, deep_verify):
                patch.setattr(module, "ThreadPoolExecutor", Inline)
            # There's no time in the model, so nobody knows there that some has passed. The look after
            # the pointer, which that leads to, only mends the pointer; the simulation tries it
            patch.setattr(leases.Lease, "is_fresh", True)
            try:
                for place, (driver, word, numbers) in enumerate(self.events):
                    self.place = place
                    self._happen(driver, word, numbers)
            finally:
                for player in self.players.values():
                    player.die()

    def label(self) -> str:
        """To what TensorFlow is pointed."""
        data = self.bucket.objects.get(f"{PATH}/checkpoint", (b"", 0.0))[0]
        found = re.search(r'model_checkpoint_path: "(.*?)"', data.decode())
        return found[1] if found else ""

    def there(self) -> set[tuple[int, int]]:
        """Committed checkpoints that are there."""
        found = (
            re.match(rf"{PATH}/a(\d+)-g0001/m-(\d+)\.manifest", n) for n in self.bucket.objects
        )
        return {(int(each[1]), int(each[2])) for each in found if each}

    # -- the trace

    def _happen(self, driver: int, word: str, numbers: tuple[int, ...]) -> None:
        if driver == 0:
            self.bucket.shown.add(_path(word, numbers))
        elif word == "begins":
            if driver in self.players and self.players[driver].stands_at is not None:
                raise Differs(f"{self._where()}: it's at {self.players[driver].stands_at}")
            self.players[driver] = player = Player(driver, self._live)
            player.start()
            player.go_on()
        elif word == "dies":
            self.players[driver].die()
        else:
            self._goes_on(self.players[driver], word, numbers)

    def _goes_on(self, player: Player, word: str, numbers: tuple[int, ...]) -> None:
        stands_at = player.stands_at
        if stands_at is None or stands_at[0] != word:
            raise Differs(f"{self._where()}: the code is at {stands_at}")
        said = stands_at[1:]
        if said != numbers[: len(said)]:
            raise Differs(f"{self._where()}: the code has {said}")
        player.go_on()
        self._compare(player, word, numbers)

    def _compare(self, player: Player, word: str, numbers: tuple[int, ...]) -> None:
        """What the request led to."""
        if word == "lease":
            data = self.bucket.objects[f"{PATH}/_tfresume/lease/{numbers[0]:04d}.json"][0]
            taken = player.mine == numbers[0]
            if taken != bool(numbers[1]):
                raise Differs(f"{self._where()}: {data!r}")
        elif word == "takeover" and self._record(numbers[0]) != numbers:
            raise Differs(f"{self._where()}: the record says {self._record(numbers[0])}")
        elif word == "check" and bool(numbers[0]) == (player.stands_at == ("lost",)):
            raise Differs(f"{self._where()}: the code goes on to {player.stands_at}")
        elif word == "point" and self.label() != _label(numbers):
            raise Differs(f"{self._where()}: the pointer names {self.label()}")
        elif word == "delete" and numbers in self.there():
            raise Differs(f"{self._where()}: it's there")

    def _record(self, attempt: int) -> tuple[int, ...]:
        name = f"{PATH}/_tfresume/lineage/a{attempt:04d}-g0001.json"
        chain = json.loads(self.bucket.objects[name][0])["chain"]
        return attempt, chain[-1]["step"], chain[-2]["attempt"] if len(chain) > 1 else 0

    def _where(self) -> str:
        driver, word, numbers = self.events[self.place]
        return f"event {self.place}, driver {driver} {word} {numbers}"

    def _next_of(self, player: Player) -> str:
        """What the trace has next for a driver, who chooses freely here."""
        for driver, word, _ in self.events[self.place + 1 :]:
            if driver == player.number:
                return word
        return ""

    # -- one life of a driver

    def _live(self, player: Player) -> None:
        try:
            self._work(player)
        except LeaseLost:
            player.says("lost")
        except OutputError as error:
            player.says("refused" if "heartbeat is alive" in error.message else "later")

    def _work(self, player: Player) -> None:
        output = open_location(f"model://{PATH}")
        before = newest_source(output)[1].checkpoint if self.old_look else None
        lease = leases.acquire(
            output, str(player.number), lease_s=LEASE_S, now=self.clock.now, wait=self._wait
        )
        if self._next_of(player) == "adopts":
            step, parent = self._numbers_of(player)[1], None
            player.says("adopts")
        else:
            own = before if self.old_look else newest_source(output, deep=True)[1].checkpoint
            attempt, step = (own.generation_id.attempt, own.step) if own else (0, 0)
            player.says("restores", int(attempt), int(step))
            self.started[lease.attempt] = int(attempt), int(step)
            parent = (int(attempt), 1) if own else (0, 0)
        record_takeover(output, lease.attempt, 1, int(step), parent)
        while self._next_of(player) == "check":
            step += 1
            if not self._saves(player, output, lease, int(step)):
                return
        lease.release()

    def _wait(self, seconds: float) -> None:
        self.clock.now_s += LEASE_S

    def _numbers_of(self, player: Player) -> tuple[int, ...]:
        rest = self.events[self.place + 1 :]
        return next(numbers for driver, _, numbers in rest if driver == player.number)

    def _saves(self, player: Player, output: Any, lease: Any, step: int) -> bool:
        """Whether it goes on after a save."""
        records = []
        for name, data in files_of_state(f"m-{step}", start_state(step)):
            self.bucket.write(f"{PATH}/a{lease.attempt:04d}-g0001/{name}", data)
            records.append(record_of(name, data))
        manifest = Manifest(
            name="m",
            step=step,
            attempt=lease.attempt,
            generation=1,
            files=tuple(records),
            step_key="global_step",
            training_s=float(step),
            source=str(player.number),
        )
        try:
            item = commits.commit(output, manifest, lease=lease)
        except LeaseLost:
            raise
        except OrchestratorError as error:
            player.says("doubts" if "isn't listed" in error.message else "later")
            return False
        player.says("told", lease.attempt, step)
        self.told.append((lease.attempt, step))
        try:
            retention.retain(
                output,
                max_to_keep=1,
                keep_every_hours=1e9,
                protect=(item.label,),
                lease=lease,
            )
        except LeaseLost:
            raise
        except OrchestratorError:
            player.says("gives_up")
        return True


def _label(numbers: tuple[int, ...]) -> str:
    return f"a{numbers[0]:04d}-g0001/m-{numbers[1]}" if numbers[0] else ""


def _path(word: str, numbers: tuple[int, ...]) -> str:
    kind = word.removeprefix("list ")
    if kind == "lease":
        return f"{PATH}/_tfresume/lease/{numbers[0]:04d}.json"
    if kind == "record":
        return f"{PATH}/_tfresume/lineage/a{numbers[0]:04d}-g0001.json"
    return f"{PATH}/{_label(numbers)}.manifest.json"
