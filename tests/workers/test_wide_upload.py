"""Does a worker whose save fills the way to the store still say in time that it lives, and train on?"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from orchestrator.decide import events as ev
from orchestrator.decide.actions import StateFrom
from orchestrator.decide.outliers import Size
from orchestrator.decide.signs_of_life import PULSE_S, silent_s
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.objects.traffic import MOVED
from orchestrator.store.transfer.upload import upload
from orchestrator.training.state.state import State, checksums, nonfinite
from orchestrator.workers.event_buffer import EventBuffer
from orchestrator.workers.member import Member
from orchestrator.workers.orders import CheckpointFiles, Given, GrantOrder, JoinOrder
from orchestrator.workers.runtime_protocol import WrittenFiles
from tests.fakes.group import Exchange, FakeState, FakeTools
from tests.servers.programs import missing, running
from tests.store.big_state import GB
from tests.store.test_big_state import contents, state_of

STEP_S, SAVE_AT = 0.05, 6
START = CheckpointFiles(5, 10, "start", ())


class WideTools(FakeTools):
    """A worker's steps are small; what it saves is a large state, by the real ways."""

    def __init__(self, state: State, target: Location) -> None:
        super().__init__(Exchange(), {"start": FakeState(5, np.ones(8))})
        self.large, self.target = state, target
        self.before_step = self._work
        self.around: Callable[[Callable[[], None]], None] = lambda work: work()
        self.began_s = self.ended_s = 0.0

    def _work(self, _step: int) -> None:
        threading.Event().wait(STEP_S)

    def digests(self, state: FakeState) -> Mapping[str, int]:
        return checksums(self.large)

    def nonfinite(self, state: FakeState) -> tuple[str, ...]:
        return nonfinite(self.large)

    def sizes(self, state: FakeState) -> Mapping[str, Size]:
        return {}

    def moved_bytes(self) -> int:
        return MOVED.size_bytes

    def write(self, state: FakeState, directory: str, again: int | None) -> WrittenFiles:
        self.began_s = time.monotonic()
        self.around(lambda: self._upload(directory))
        self.ended_s = time.monotonic()
        return WrittenFiles(directory, "m-5", ())

    def _upload(self, directory: str) -> None:
        upload(contents(self.large.arrays), self.target.child(directory))


@dataclass
class Heard:
    """What was heard of a worker that saves: when, and what it said.

    Attributes:
        tools: which know since when and until when it was sending.
    """

    tools: WideTools
    pulses: list[tuple[float, ev.Progress]] = field(default_factory=list)

    def while_sending(self) -> list[tuple[float, ev.Progress]]:
        began_s, ended_s = self.tools.began_s, self.tools.ended_s
        return [(at_s, pulse) for at_s, pulse in self.pulses if began_s <= at_s <= ended_s]

    def longest_silence_s(self) -> float:
        """From the beginning of what was sent to its end."""
        times = [at_s for at_s, _ in self.while_sending()]
        moments = [self.tools.began_s, *times, self.tools.ended_s]
        return max(later - earlier for earlier, later in itertools.pairwise(moments))


def saving(tools: WideTools) -> Heard:
    """Have a group of one train and save, and listen as a driver does."""
    heard, buffer, after = Heard(tools), EventBuffer(), 0
    member = Member("w1", ("node", 1), tools, buffer)
    threading.Thread(target=member.run, daemon=True).start()
    member.join(JoinOrder(1, 0, ("host:0",), 5, 10, StateFrom.CHECKPOINT, START), Given())
    try:
        while True:
            after, events = member.news(after, PULSE_S)
            for event in events:
                match event:
                    case ev.Progress():
                        heard.pulses.append((time.monotonic(), event))
                    case ev.Joined():
                        where = 10**9, None, None, (1, 1)
                        member.grant(GrantOrder(1, 10**9, (SAVE_AT,), "w1", "a0001-g0001", *where))
                    case ev.SaveWritten():
                        return heard
                    case ev.SaveFailed() | ev.Gone():
                        raise AssertionError(event)
    finally:
        member.close()


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.skipif(bool(missing("weed")), reason="SeaweedFS isn't installed")
def test_worker_that_sends_four_gigabytes_to_a_store_is_never_taken_for_hung(
    tmp_path: Path,
) -> None:
    """In a server that keeps its data on disk: the others would need it in memory three times."""
    state = state_of(4 * GB)
    with running("weed", tmp_path) as server:
        target = open_location(server.url("wide"), **server.options())
        heard = saving(WideTools(state, target))
        (data,) = (it for it in target.child("a0001-g0001").list() if "data-" in it.name)
        assert data.size_bytes == state.size_bytes
    assert heard.longest_silence_s() < silent_s(1)
    sending = heard.while_sending()
    moved = [pulse.moved_bytes for _, pulse in sending]
    assert moved[-1] - moved[0] > 0.5 * state.size_bytes, "it was heard while it was sending"
    steps = [pulse.step for _, pulse in sending]
    assert steps[-1] > steps[0], "it trained meanwhile"


@pytest.mark.slow
def test_worker_that_sends_and_holds_what_its_signs_of_life_need_is_heard_to_be_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the test above would see."""
    tools = WideTools(state_of(1 << 20), open_location(str(tmp_path)))

    def holding(work: Callable[[], None]) -> None:
        with pulses:
            threading.Event().wait(silent_s(1) + 0.5)
            work()

    tools.around, pulses = holding, threading.Lock()
    real = EventBuffer.pulse

    def pulse(buffer: EventBuffer, said: ev.Progress) -> None:
        with pulses:
            real(buffer, said)

    monkeypatch.setattr(EventBuffer, "pulse", pulse)
    assert saving(tools).longest_silence_s() > silent_s(1)
