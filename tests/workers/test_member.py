"""Does a worker obey the newest generation only, keep within its lease, and keep its state whatever
fails?
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from orchestrator.decide import events as ev
from orchestrator.decide.actions import StateFrom
from orchestrator.errors import (
    ConfigError,
    CorruptCheckpoint,
    GraphMismatch,
    OrchestratorError,
    OutputError,
    PeerLost,
    SourceError,
    StorageUnavailable,
)
from orchestrator.workers.event_buffer import EventBuffer
from orchestrator.workers.foreign_text import LONGEST_TEXT, short
from orchestrator.workers.member import Member
from orchestrator.workers.obstacles import obstacle
from orchestrator.workers.orders import CheckpointFiles, Donation, Given, GrantOrder, JoinOrder
from tests.fakes.group import Exchange, FakeState, FakeTools

CHECKPOINT = CheckpointFiles(5, 10, "start", ())


class Bench:
    """One member and what it says."""

    def __init__(self) -> None:
        self.tools = FakeTools(Exchange(), {"start": FakeState(5, np.ones(8))})
        self.event_buffer = EventBuffer()
        self.member = Member("w1", ("node", 1), self.tools, self.event_buffer)
        self.seen: list[ev.Event] = []
        self.after = self.save = 0
        threading.Thread(target=self.member.run, daemon=True).start()
        self.expect(ev.Warm)

    def expect(self, kind: type[Any], matches: Callable[[Any], bool] = lambda event: True) -> Any:
        """The next event of a kind."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for event in list(self.seen):
                if isinstance(event, kind) and matches(event):
                    self.seen.remove(event)
                    return event
            self.after, events = self.member.news(self.after, 0.1)
            self.seen.extend(events)
        raise AssertionError(f"no {kind.__name__}; seen: {self.seen}")

    def join(
        self,
        generation: int = 1,
        state_from: StateFrom = StateFrom.CHECKPOINT,
        world_size: int = 1,
        step: int = 5,
    ) -> None:
        addresses = tuple(f"host:{rank}" for rank in range(world_size))
        self.member.join(
            JoinOrder(generation, 0, addresses, step, 10, state_from, CHECKPOINT), Given()
        )

    def grant(
        self,
        end: int,
        *saves: int,
        generation: int = 1,
        writer: str = "w1",
        position: int = 10**9,
        save_position: int | None = None,
        saved: int | None = None,
        save: int | None = None,
        parts: int = 0,
    ) -> None:
        """``save``: which one it is, the next one if nothing is said."""
        self.save += bool(saves)
        which = (1, self.save if save is None else save)
        where = (position, save_position, saved)
        order = GrantOrder(generation, end, saves, writer, "a0001-g0001", *where, which, parts)
        self.member.grant(order)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.member.close()


def stands_at(step: int) -> Callable[[Any], bool]:
    return lambda event: event.step == step


def test_member_steps_up_to_its_lease_and_no_further(bench: Bench) -> None:
    bench.join()
    bench.expect(ev.Joined)
    bench.grant(9)
    bench.expect(ev.Progress, stands_at(9))
    assert bench.member.report()["step"] == 9
    bench.grant(7)
    assert bench.member.report()["granted_end"] == 9, "a lease is never shortened"
    assert [number for number, _ in bench.tools.served] == [10, 11, 12, 13]


def test_member_ignores_leases_of_another_generation(bench: Bench) -> None:
    bench.join(generation=2)
    bench.expect(ev.Joined)
    bench.grant(9, generation=1)
    assert bench.member.report()["granted_end"] == 5


def test_member_ignores_an_order_that_comes_late(bench: Bench) -> None:
    bench.join(generation=3)
    bench.expect(ev.Joined)
    bench.join(generation=2)
    bench.member.quiesce(3, urgent=False)
    assert bench.expect(ev.Held).generation == 3


def test_member_saves_at_the_agreed_step_and_the_bytes_are_those_of_that_step(bench: Bench) -> None:
    bench.join()
    bench.expect(ev.Joined)
    bench.grant(20, 8)
    written = bench.expect(ev.SaveWritten)
    assert (written.step, written.position) == (8, 13)
    bench.expect(ev.Progress, stands_at(20))
    assert bench.tools.store["a0001-g0001/model-8"].step == 8


def test_member_trains_on_while_a_save_hangs_and_refuses_a_second_one(bench: Bench) -> None:
    go_on = threading.Event()
    bench.tools.before_write = lambda step: go_on.wait(10) and None  # type: ignore[assignment]
    bench.join()
    bench.expect(ev.Joined)
    bench.grant(50, 8, 12)
    refused = bench.expect(ev.SaveFailed)
    assert refused.step == 12
    assert refused.busy, "it isn't the store's failure"
    bench.expect(ev.Progress, stands_at(50))
    go_on.set()
    assert bench.expect(ev.SaveWritten).step == 8
    np.testing.assert_array_equal(
        bench.tools.store["a0001-g0001/model-8"].values,
        values_at(8),
        "the refused save wrote over it",
    )


def values_at(step: int) -> np.ndarray:
    """The state that one member comes to from the checkpoint of step 5 and position 10."""
    values = np.ones(8)
    for number in range(10, 10 + step - 5):
        values = values * 0.9 + np.random.default_rng(number).normal(size=8)
    return values


def test_member_that_isnt_the_writer_only_checks(bench: Bench) -> None:
    bench.join()
    bench.expect(ev.Joined)
    bench.grant(20, 8, writer="w0")
    assert bench.expect(ev.SaveChecked).step == 8
    assert list(bench.tools.store) == ["start"]


def test_member_writes_its_part_whether_it_is_the_writer_or_not(bench: Bench) -> None:
    bench.join()
    bench.expect(ev.Joined)
    bench.grant(20, 8, writer="w0", parts=1)
    checked = bench.expect(ev.SaveChecked)
    assert checked.digests
    assert checked.part is not None
    assert (checked.part.rank, checked.part.step, checked.part.position) == (0, 8, 13)
    assert (checked.save, checked.part.save) == (1, 1)
    assert checked.part.files == ("data 0 of 1", "graph")
    bench.grant(40, 28, parts=1)
    written = bench.expect(ev.SaveWritten)
    assert (written.step, written.files, written.prefix) == (28, (), "model-28")
    assert written.part.files == ("data 0 of 1", "graph")
    assert (written.part.save, set(written.part.measured)) == (2, {"values"})
    assert written.part.sizes["values"] != written.part.measured["values"]


def test_member_that_could_not_write_its_part_says_so_though_it_is_not_the_writer(
    bench: Bench,
) -> None:
    def refuse(step: int) -> None:
        raise StorageUnavailable("503")

    bench.tools.before_write = refuse
    bench.join()
    bench.expect(ev.Joined)
    bench.grant(20, 8, writer="w0", parts=1)
    failed = bench.expect(ev.SaveFailed)
    assert (failed.worker, failed.save, failed.step, failed.busy) == ("w1", 1, 8, False)
    assert "503" in failed.detail


def test_member_keeps_its_state_when_a_peer_is_gone_and_starts_again_from_it(bench: Bench) -> None:
    bench.join(world_size=2)
    bench.expect(ev.Joined)
    bench.grant(9)
    bench.tools.exchange.break_off(1)
    held = bench.expect(ev.Held)
    assert (held.step, held.position, held.why) == (5, 10, "a peer is gone")
    bench.join(generation=2, state_from=StateFrom.OWN)
    bench.expect(ev.Joined)
    bench.grant(6, generation=2)
    bench.expect(ev.Progress, stands_at(6))


def test_member_that_nobody_needs_gets_ready_once_and_one_that_trains_does_not() -> None:
    standby, busy = Bench(), Bench()
    try:
        busy.join()
        busy.expect(ev.Joined)
        deadline = time.monotonic() + 20
        while not standby.tools.imported_input:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        standby.join()
        standby.expect(ev.Joined)
        standby.grant(6)
        standby.expect(ev.Progress, stands_at(6))
        assert (standby.tools.readied, busy.tools.readied) == (1, 0)
        assert (standby.tools.imported_input, busy.tools.imported_input) == (1, 0)
    finally:
        standby.member.close()
        busy.member.close()


def test_member_that_lacks_a_result_is_where_the_generation_is_only_when_it_has_met_its_peers(
    bench: Bench,
) -> None:
    bench.join(world_size=2)
    bench.expect(ev.Joined)
    bench.grant(9)
    bench.tools.exchange.break_off(1)
    bench.tools.lacked = FakeState(6, np.ones(8))
    bench.member.quiesce(1, urgent=True)
    bench.expect(ev.Held)
    # the peer doesn't come
    bench.join(generation=2, state_from=StateFrom.RESULT, world_size=2, step=6)
    bench.expect(ev.Progress, lambda pulse: pulse.generation == 2)
    bench.member.quiesce(2, urgent=True)
    held = bench.expect(ev.Held, lambda held: held.generation == 2)
    assert (held.step, held.position, held.takes) == (5, 10, True)
    bench.join(generation=3, state_from=StateFrom.RESULT, step=6)
    assert bench.expect(ev.Joined).step == 6
    assert not [event for event in bench.seen if isinstance(event, ev.Joined)], (
        "it has joined a generation that it wasn't level with"
    )
    bench.grant(7, generation=3)
    bench.expect(ev.Progress, stands_at(7))


def test_member_whose_peers_have_no_result_for_it_asks_for_the_whole_state_and_claims_nothing(
    bench: Bench,
) -> None:
    bench.join()
    bench.expect(ev.Joined)
    bench.join(generation=2, state_from=StateFrom.RESULT, step=6)
    held = bench.expect(ev.Held, lambda held: held.generation == 2)
    assert (held.step, held.why) == (None, "no peer could give the result that this worker lacks")
    assert not [event for event in bench.seen if isinstance(event, ev.Joined)]


def test_member_quiesced_urgently_leaves_a_step_that_its_dead_peer_will_never_finish(
    bench: Bench,
) -> None:
    bench.join(world_size=2)
    bench.expect(ev.Joined)
    bench.grant(9)
    bench.member.quiesce(1, urgent=True)
    assert bench.expect(ev.Held).step == 5


def test_member_says_when_its_checkpoint_is_broken_and_lives_on(bench: Bench) -> None:
    def broken(checkpoint: CheckpointFiles, share: tuple[int, int]) -> FakeState:
        raise CorruptCheckpoint("model.ckpt-5: a byte is flipped")

    bench.tools.checkpoint_state = broken  # type: ignore[method-assign]
    bench.join()
    failed = bench.expect(ev.JoinFailed)
    assert failed.obstacle is ev.Obstacle.DAMAGED
    bench.member.quiesce(1, urgent=False)
    assert bench.expect(ev.Held).step is None


def test_member_gives_its_state_away_once_it_has_one(bench: Bench) -> None:
    assert bench.member.held_state() is None
    bench.join()
    bench.expect(ev.Joined)
    bench.grant(7)
    bench.expect(ev.Progress, stands_at(7))
    bench.member.quiesce(1, urgent=False)
    bench.expect(ev.Held)
    donation = bench.member.held_state()
    assert donation is not None
    assert (donation.state.step, donation.position) == (7, 12)
    assert donation.digests == bench.tools.digests(donation.state)


def test_member_that_waits_for_a_newcomer_has_the_state_that_he_comes_for(bench: Bench) -> None:
    bench.join(world_size=2)
    bench.expect(ev.Joined)
    bench.grant(6)
    donation = bench.member.held_state()
    assert donation is not None
    assert donation.state.step == 5, "it can't step before the other one has come"
    bench.tools.exchange.meet(1, 1, 2)
    bench.tools.exchange.break_off(1)
    held = bench.expect(ev.Held)
    assert (held.step, held.position) == (5, 10)


def test_member_whose_state_cannot_be_read_says_so_and_is_no_donor_any_more(bench: Bench) -> None:
    bench.join()
    bench.expect(ev.Joined)
    bench.member.quiesce(1, urgent=False)
    assert bench.expect(ev.Held).step == 5

    def unreadable() -> FakeState:
        raise RuntimeError("the device is gone")

    assert bench.member._mailbox.trainer is not None
    bench.member._mailbox.trainer.rows.rest = unreadable  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="the device is gone"):
        bench.member.held_state()
    bench.member.quiesce(2, urgent=False)
    assert bench.expect(ev.Held).step is None


def test_member_refuses_a_state_that_arrived_damaged(bench: Bench) -> None:
    given = Donation(FakeState(5, np.ones(8)), 10, {"values": 1})
    bench.member.join(JoinOrder(1, 0, ("host:0",), 5, 10, StateFrom.DONOR), Given(given))
    failed = bench.expect(ev.JoinFailed)
    assert "arrived damaged" in failed.detail
    bench.member.quiesce(1, urgent=False)
    assert bench.expect(ev.Held).step is None


def test_member_that_waits_for_its_peers_stops_at_once_when_it_is_told_to(bench: Bench) -> None:
    bench.join(world_size=2)
    bench.expect(ev.Joined)
    bench.member.quiesce(1, urgent=False)
    assert bench.expect(ev.Held).generation == 1


def test_member_that_never_heard_of_its_generation_still_answers_that_it_stands(
    bench: Bench,
) -> None:
    """The donor died before its state had passed, so the order to join never came."""
    bench.member.quiesce(2, urgent=True)
    held = bench.expect(ev.Held)
    assert (held.generation, held.step) == (2, None)
    bench.join(generation=2)
    bench.join(generation=3)
    assert bench.expect(ev.Joined).generation == 3, "what was called off isn't joined any more"


def test_member_that_holds_its_state_already_says_so_again_for_the_next_generation(
    bench: Bench,
) -> None:
    bench.join(world_size=2)
    bench.expect(ev.Joined)
    bench.member.quiesce(1, urgent=True)
    assert bench.expect(ev.Held).generation == 1
    bench.member.quiesce(2, urgent=True)
    held = bench.expect(ev.Held)
    assert (held.generation, held.step, held.position) == (2, 5, 10)


def test_member_hands_on_the_state_that_it_has_read_for_a_generation(bench: Bench) -> None:
    bench.join(generation=2)
    donation = bench.member.loaded_state(2)
    assert donation is not None
    assert (donation.state.step, donation.position) == (5, 10)
    asked = ThreadPoolExecutor(1).submit(bench.member.loaded_state, 3)
    assert not asked.done()
    bench.member.quiesce(3, urgent=False)
    assert asked.result(10) is None, "it was called off, so nobody waits for it any more"


def test_member_that_is_sent_back_to_a_checkpoint_has_no_state_before_it_has_read_it(
    bench: Bench,
) -> None:
    """Rolled back from a state with NaN, it mustn't offer that one again when the checkpoint can't
    be read.
    """
    bench.join()
    bench.expect(ev.Joined)
    bench.member.quiesce(1, urgent=False)
    assert bench.expect(ev.Held).step == 5

    def gone(checkpoint: CheckpointFiles, share: tuple[int, int]) -> FakeState:
        raise SourceError("model.ckpt-5.index doesn't exist")

    bench.tools.checkpoint_state = gone  # type: ignore[method-assign]
    bench.join(generation=2)
    assert bench.expect(ev.JoinFailed).obstacle is ev.Obstacle.MISSING
    bench.member.quiesce(2, urgent=False)
    assert bench.expect(ev.Held).step is None


@pytest.mark.parametrize(
    ("error", "loaded", "expected"),
    [
        (StorageUnavailable("503"), False, ev.Obstacle.STORE),
        (GraphMismatch("w has another shape"), False, ev.Obstacle.MISFIT),
        (CorruptCheckpoint("a byte"), False, ev.Obstacle.DAMAGED),
        (SourceError("gone"), False, ev.Obstacle.MISSING),
        (SourceError("the array isn't there"), True, ev.Obstacle.MISFIT),
        (ConfigError("a feed of another type"), True, ev.Obstacle.MISFIT),
        (OutputError("no space on this node"), False, ev.Obstacle.PASSING),
        (PeerLost("gone"), True, ev.Obstacle.PASSING),
    ],
)
def test_obstacle_tells_what_another_try_can_help(
    error: OrchestratorError, loaded: bool, expected: ev.Obstacle
) -> None:
    assert obstacle(error, loaded=loaded) is expected


def test_member_that_loads_says_so_before_it_is_warm() -> None:
    """Else a worker that hangs in its imports looks like one that waits for room."""
    tools = FakeTools(Exchange(), {})
    go_on = threading.Event()
    load = tools.load
    tools.load = lambda: (go_on.wait(10), load())[1]  # type: ignore[method-assign]
    event_buffer = EventBuffer()
    member = Member("w1", ("node", 1), tools, event_buffer)
    threading.Thread(target=member.run, daemon=True).start()
    _, events = member.news(0, 0.0)
    assert [event.doing for event in events if isinstance(event, ev.Progress)] == [ev.Doing.LOADING]
    go_on.set()
    member.close()


def test_member_that_always_has_news_says_how_far_it_is_no_less_often() -> None:
    """Ranks that save their parts every few steps would else be taken to stand."""
    event_buffer = EventBuffer()
    member = Member("w1", ("node", 1), FakeTools(Exchange(), {}), event_buffer)
    after, told, lived = 0, 0, 0
    for number in range(20):
        event_buffer.put(ev.Notice("w1", str(number)))
        time.sleep(0.01)
        after, events = member.news(after, 0.05)
        told += sum(isinstance(event, ev.Notice) for event in events)
        lived += sum(isinstance(event, ev.Progress) for event in events)
    assert told == 20
    # A fifth of the answers, or fewer where the machine is busy: none is as if there had been none
    assert 1 <= lived <= 20


def test_member_says_that_it_copies_and_how_far_it_is(bench: Bench) -> None:
    go_on = threading.Event()
    bench.join()
    bench.expect(ev.Joined)
    trainer: Any = bench.member._mailbox.trainer
    copy = trainer.state_for_save

    def slowly() -> FakeState:
        while not go_on.wait(0.01):
            bench.tools.moved += 1
        return copy()

    trainer.state_for_save = slowly
    bench.grant(6, 6)
    first = bench.expect(ev.Progress, lambda event: event.doing is ev.Doing.COPYING)
    bench.expect(
        ev.Progress,
        lambda event: event.doing is ev.Doing.COPYING and event.moved_bytes > first.moved_bytes,
    )
    go_on.set()
    bench.expect(ev.SaveWritten)
    bench.member.quiesce(1, urgent=False)
    assert bench.expect(ev.Held).size_bytes == 64


def test_member_that_copies_its_state_for_another_says_so(bench: Bench) -> None:
    go_on = threading.Event()
    bench.join()
    bench.expect(ev.Joined)
    trainer: Any = bench.member._mailbox.trainer
    copy = trainer.state
    trainer.state = lambda: (go_on.wait(10), copy())[1]
    asked = ThreadPoolExecutor(1).submit(bench.member.held_state)
    bench.expect(ev.Progress, lambda event: event.doing is ev.Doing.COPYING)
    go_on.set()
    assert asked.result(10) is not None
    bench.expect(ev.Progress, lambda event: event.doing is not ev.Doing.COPYING)


def test_member_forgets_saves_that_a_dead_driver_agreed_on(bench: Bench) -> None:
    bench.join()
    bench.expect(ev.Joined)
    bench.grant(5, 8)
    bench.member.forget_saves(2)
    bench.grant(12)
    bench.expect(ev.Progress, stands_at(12))
    assert list(bench.tools.store) == ["start"]


def test_member_told_of_a_save_again_and_late_makes_it_once(bench: Bench) -> None:
    bench.join()
    bench.expect(ev.Joined)
    bench.grant(8, 7, save=1)
    assert bench.expect(ev.SaveWritten).step == 7
    bench.grant(10, 7, save=1)
    bench.expect(ev.Progress, stands_at(10))
    bench.grant(14, 12, save=3)
    bench.grant(14, 9, save=2)  # of a save that came to nothing
    assert bench.expect(ev.SaveWritten).step == 12
    bench.grant(16, 12, save=3)
    bench.expect(ev.Progress, stands_at(16))
    made = [f"a0001-g0001/model-{step}" for step in (7, 12)]
    assert list(bench.tools.store) == ["start", *made]


def test_member_adopted_twice_keeps_the_save_that_its_new_driver_agreed_on(bench: Bench) -> None:
    bench.join()
    bench.expect(ev.Joined)
    bench.grant(5, 8)
    bench.member.forget_saves(1)
    bench.grant(12)
    assert bench.expect(ev.SaveWritten).step == 8


def test_short_text_holds_no_batch() -> None:
    assert short("peer lost\ntensor_content: abc") == "peer lost"
    assert short("bad, see goo.gle/debugstr tensor_content") == "bad, see"
    assert len(short("x" * 999)) <= LONGEST_TEXT + 1
