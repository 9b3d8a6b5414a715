"""Do all ways to carry numbers give the same bits, and end the same way when a member is gone?"""

from __future__ import annotations

import functools
import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from orchestrator.errors import GroupDisagrees, PeerLost
from orchestrator.training.group.collectives import Sum
from orchestrator.training.group.layout import Layout
from orchestrator.training.group.summation import Accumulator, add_up, nodes_of, root
from tests.training.group.members import PLACES, Members, State

pytestmark = [pytest.mark.slow, pytest.mark.turns(6)]

SHAPES: dict[str, list[tuple[str, tuple[int, ...]]]] = {
    "one": [("float32", (5,))],
    "each": [("float32", (3001,))],  # large enough that every rank of a few owns a part
    "types": [
        ("float32", (3, 7)),
        ("float64", ()),
        ("complex64", (4,)),
        ("float32", (0, 3)),
        ("complex128", (2, 2)),
        ("float64", (9,)),
    ],
    "many": [("float32", (number % 5, 3)) for number in range(200)],
    "blocks": [("float32", (1_500_000,)), ("float64", (700_001,)), ("float32", (3,))],
}
NOTICED_S = 30.0
"""Far above what is promised (20 ms, see the benchmark): tells late from never on a busy machine.
"""


def slot_arrays(kind: str, slot: int, step: int = 0) -> list[np.ndarray]:
    """What a slot gives: numbers of many sizes, whose sum depends on the order of adding."""
    draw = np.random.default_rng([slot, step])
    found: list[np.ndarray] = []
    for dtype, shape in SHAPES[kind]:
        values = draw.normal(size=shape) * 10.0 ** draw.integers(-3, 4)
        found.append(
            np.asarray(values + (1j * values[...] if dtype.startswith("complex") else 0), dtype)
        )
    return found


@functools.cache
def reference(kind: str, slots: int, step: int = 0) -> list[np.ndarray]:
    """The tree's sum, divided, by plain numpy."""
    parts: dict[Any, list[np.ndarray]] = {
        (slot,): slot_arrays(kind, slot, step) for slot in range(slots)
    }
    add_up(
        slots,
        parts,
        lambda left, right: [np.asarray(one + two) for one, two in zip(left, right, strict=True)],
    )
    return [np.asarray(whole / whole.dtype.type(slots)) for whole in parts[root(slots)]]


def held_by(slots: int, ranks: int) -> tuple[Any, ...]:
    return tuple(nodes_of(slots, frozenset(range(rank, slots, ranks))) for rank in range(ranks))


def reduce(state: State, kind: str, slots: int, steps: int = 1, key: int = 0) -> list[np.ndarray]:
    """Take part in sums; the last one's result."""
    group = state.group
    for step in range(steps):
        sums = Accumulator(slots)
        for slot in range(group.rank, slots, group.world_size):
            sums.add(slot, slot_arrays(kind, slot, step))
        layout = Layout.of(slot_arrays(kind, 0))
        result = group.all_reduce(
            sums.nodes, Sum(layout, slots, held_by(slots, group.world_size), float(slots), key)
        )
    return [np.array(each) for each in result]


def same_bits(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return [(a.dtype, a.shape, a.tobytes()) for a in one] == [
        (b.dtype, b.shape, b.tobytes()) for b in other
    ]


class Lasting:
    """Members of each place that form one group after another, for what loses nobody."""

    def __init__(self) -> None:
        self._members: dict[str, Members] = {}
        self._generations = itertools.count(1)

    def group(self, place: str, ranks: int) -> Members:
        """The first of four members, as a new group."""
        if place not in self._members:
            self._members[place] = Members(PLACES[place](4))
        self._members[place].join(next(self._generations), range(ranks))
        return self._members[place]

    def close(self) -> None:
        """End all of them."""
        for members in self._members.values():
            members.close()


@pytest.fixture(scope="module")
def lasting() -> Iterator[Lasting]:
    """Processes that several tests share: to start them takes longer than what they do."""
    found = Lasting()
    yield found
    found.close()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize(("ranks", "slots"), [(1, 3), (2, 2), (2, 5), (3, 3), (4, 4), (4, 7)])
def test_sum_has_the_trees_bits_on_every_rank(
    place: str, kind: str, ranks: int, slots: int, lasting: Lasting
) -> None:
    members = lasting.group(place, ranks)
    for result in members.each(reduce, kind, slots, 3, members=range(ranks)):
        assert same_bits(result, reference(kind, slots, step=2))


def test_another_order_of_adding_would_be_noticed() -> None:
    parts = [slot_arrays("types", slot) for slot in range(4)]
    one_by_one = [
        np.asarray(sum(each[1:], start=each[0]) / each[0].dtype.type(4))
        for each in zip(*parts, strict=True)
    ]
    assert not same_bits(one_by_one, reference("types", 4))


def gather(state: State, sizes: list[int]) -> list[bytes]:
    rank = state.group.rank
    return [bytes(each) for each in state.group.all_gather(bytes([rank]) * sizes[rank])]


@pytest.mark.parametrize("place", PLACES)
def test_messages_of_any_size_reach_everybody(place: str) -> None:
    sizes = [0, 1, 3_000_000]
    with Members(PLACES[place](3)) as members:
        members.join(1)
        for found in members.each(gather, sizes):
            assert found == [bytes([rank]) * size for rank, size in enumerate(sizes)]


def odd_numbers(state: State) -> list[np.ndarray]:
    arrays = [np.array([[np.nan, np.inf], [-np.inf, 1.0]][state.group.rank], np.float32)]
    result = state.group.all_reduce(
        {(state.group.rank,): arrays}, Sum(Layout.of(arrays), 2, (((0,),), ((1,),)), 2.0, 0)
    )
    return [np.array(each) for each in result]


@pytest.mark.parametrize("place", PLACES)
def test_numbers_that_are_none_pass_through(place: str) -> None:
    with Members(PLACES[place](2)) as members:
        members.join(1)
        for (found,) in members.each(odd_numbers):
            assert np.isnan(found[0])
            assert np.isposinf(found[1])


def two_results(state: State) -> bool:
    first = state.group.all_reduce(*_given(state, 1.0))
    kept = [np.array(each) for each in first]
    state.group.all_reduce(*_given(state, 2.0))
    return same_bits(kept, first)


def _given(state: State, value: float) -> tuple[Any, Sum]:
    arrays = [np.full(1000, value, np.float32)]
    return {(state.group.rank,): arrays}, Sum(Layout.of(arrays), 2, (((0,),), ((1,),)), 2.0, 0)


@pytest.mark.parametrize("place", PLACES)
def test_last_result_stays_while_the_next_sum_is_made(place: str) -> None:
    with Members(PLACES[place](2)) as members:
        members.join(1)
        assert members.each(two_results) == [True, True]


def other_shapes(state: State) -> None:
    arrays = [np.zeros(3 + state.group.rank, np.float32)]
    state.group.all_reduce(
        {(state.group.rank,): arrays}, Sum(Layout.of(arrays), 2, (((0,),), ((1,),)), 2.0, 0)
    )


@pytest.mark.parametrize("place", PLACES)
def test_members_with_other_shapes_are_told_so_on_all_ranks(place: str) -> None:
    with Members(PLACES[place](2)) as members:
        members.join(1)
        members.each(reduce, "one", 2)
        for member in (0, 1):
            members.tell(member, other_shapes)
        outcomes = members.outcomes([0, 1])
    assert [type(outcome) for outcome in outcomes] == [GroupDisagrees, GroupDisagrees]
    assert "float32[3]" in outcomes[0].message


def nothing_or_something(state: State) -> None:
    arrays = [np.zeros(3, np.float32)][: state.group.rank]
    state.group.all_reduce(
        {(state.group.rank,): arrays}, Sum(Layout.of(arrays), 2, (((0,),), ((1,),)), 2.0, 7)
    )


@pytest.mark.parametrize("place", PLACES)
def test_one_without_tensors_is_told_that_the_other_has_some(place: str) -> None:
    with Members(PLACES[place](2)) as members:
        members.join(1)
        for member in (0, 1):
            members.tell(member, nothing_or_something)
        assert [type(outcome) for outcome in members.outcomes([0, 1])] == [GroupDisagrees] * 2


def dies_in(state: State, phase: str, kind: str) -> None:
    """Take part in a sum and die in it; when, says ``phase``. Whoever doesn't come to the phase
    ends with another exit code.
    """
    from orchestrator.training.group import blocks

    def die(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if phase == "before its share":
        blocks.Filler.fill = die  # type: ignore[assignment, method-assign]
    elif phase == "before it adds":
        blocks.Adder.add = die  # type: ignore[assignment, method-assign]
    reduce(state, kind, state.group.world_size)
    if phase == "after its share":
        die()
    os._exit(3)


def timed(state: State, kind: str, steps: int) -> tuple[float, list[str]]:
    """Sums until a peer is gone: how long the last one took, and what ended each."""
    ends: list[str] = []
    for _ in range(steps):
        began = time.monotonic()
        try:
            reduce(state, kind, state.group.world_size)
            ends.append("done")
        except PeerLost:
            ends.append("lost")
            break
    return time.monotonic() - began, ends


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("phase", ["before its share", "before it adds", "after its share"])
def test_survivors_of_a_kill_learn_it_in_every_phase(place: str, phase: str) -> None:
    with Members(PLACES[place](3)) as members:
        members.join(1)
        members.each(reduce, "one", 3)
        for survivor in (1, 2):
            members.tell(survivor, timed, "each", 3)
        members.tell(0, dies_in, phase, "each")
        outcomes = [members.answer(survivor) for survivor in (1, 2)]
        members.processes[0].join(10)
        assert members.processes[0].exitcode == -signal.SIGKILL
        for seconds, ends in outcomes:
            assert seconds < NOTICED_S
            # Whoever died after its share has given all that it had: that sum is whole, the next
            # one is lost
            assert ends == (["done", "lost"] if phase == "after its share" else ["lost"])
        members.join(2, [1, 2])
        assert same_bits(*members.each(reduce, "one", 2, members=[1, 2]))


@pytest.mark.parametrize("place", PLACES)
def test_survivors_form_the_next_group_without_the_lost_one_and_with_a_newcomer(place: str) -> None:
    with Members(PLACES[place](4)) as members:
        members.join(1, [0, 1, 2])
        members.signal(1)
        members.processes[1].join(10)
        members.join(2, [0, 3, 2])
        for result in members.each(reduce, "types", 3, members=[0, 2, 3]):
            assert same_bits(result, reference("types", 3))


def abandons(state: State, after_s: float) -> None:
    threading.Timer(after_s, state.group.abandon).start()


def abandoned_in_a_sum(state: State) -> Any:
    threading.Timer(0.2, state.group.abandon).start()
    try:
        reduce(state, "one", state.group.world_size)
    except PeerLost as error:
        return error
    return None


@pytest.mark.parametrize("place", PLACES)
def test_member_that_abandons_frees_itself_and_its_peers_though_one_is_stopped(place: str) -> None:
    with Members(PLACES[place](3)) as members:
        members.join(1)
        members.signal(2, signal.SIGSTOP)
        members.tell(0, timed, "one", 1)
        members.tell(1, abandoned_in_a_sum)
        assert members.answer(0)[1] == ["lost"]
        assert isinstance(members.answer(1), PeerLost)
        members.signal(2, signal.SIGCONT)


def waits_for_nobody(state: State) -> tuple[float, float]:
    """Wait in a sum for a second; seconds of processor time meanwhile, and whether it was waited."""
    threading.Timer(1.0, state.group.abandon).start()
    began, busy = time.monotonic(), time.process_time()
    try:
        reduce(state, "one", 2)
    except PeerLost:
        return time.process_time() - busy, time.monotonic() - began
    return -1.0, -1.0


@pytest.mark.parametrize("place", ["memory", "sockets"])
def test_waiting_costs_no_processor_time(place: str) -> None:
    with Members(PLACES[place](2)) as members:
        members.join(1)
        busy, waited = members.each(waits_for_nobody, members=[0])[0]
        assert waited > 0.9
        assert 0 <= busy < 0.2


def speaks_nonsense(state: State) -> None:
    for wires in (state.group._wires, getattr(state.group, "_bells", None)):
        for peer in wires.peers if wires is not None else ():
            wires.socket_of(peer).send(  # type: ignore[union-attr]
                b"GET / HTTP/1.1\r\nHost: elsewhere\r\nAccept: everything\r\n\r\n" * 20
            )


def sums_or_gathers(state: State) -> None:
    if state.group.rank:
        gather(state, [1] * state.group.world_size)
    else:
        reduce(state, "one", state.group.world_size)


@pytest.mark.parametrize("place", PLACES)
def test_members_that_do_different_things_do_not_wait_for_each_other(place: str) -> None:
    with Members(PLACES[place](3)) as members:
        members.join(1)
        members.each(reduce, "one", 3)
        for member in range(3):
            members.tell(member, sums_or_gathers)
        assert [type(outcome) for outcome in members.outcomes(range(3))] == [PeerLost] * 3


@pytest.mark.parametrize("place", PLACES)
def test_nonsense_from_a_member_is_a_lost_peer_not_a_crash(place: str) -> None:
    with Members(PLACES[place](2)) as members:
        members.join(1)
        members.each(speaks_nonsense, members=[1])
        members.tell(0, gather, [5, 5])
        (outcome,) = members.outcomes([0])
        assert isinstance(outcome, PeerLost)
        members.join(2)
        assert same_bits(*members.each(reduce, "one", 2))


def without_memfd() -> None:
    def refuse(*_: Any) -> int:
        raise OSError(38, "Function not implemented")

    os.memfd_create = refuse  # type: ignore[assignment]


def way(state: State) -> str:
    return type(state.group).__name__


def test_host_without_shared_memory_goes_through_sockets() -> None:
    with Members(PLACES["memory"](3), prepare=[without_memfd] * 3) as members:
        members.join(1)
        assert members.each(way) == ["OverSockets"] * 3
        for result in members.each(reduce, "types", 3):
            assert same_bits(result, reference("types", 3))
    with Members(PLACES["memory"](2)) as members:
        members.join(1)
        assert members.each(way) == ["OverHosts"] * 2


def usage(state: State) -> tuple[int, int]:
    return len(os.listdir("/proc/self/fd")), threading.active_count()


def test_a_thousand_groups_leave_descriptors_and_threads_as_they_were() -> None:
    with Members(PLACES["memory"](2)) as members:
        for generation in range(1, 21):
            members.join(generation)
            members.each(reduce, "one", 2)
        before = members.each(usage)
        for generation in range(21, 1021):
            members.join(generation)
            if generation % 10 == 0:
                members.each(reduce, "one", 2)
        after = members.each(usage)
    for (descriptors, threads), (later, then) in zip(before, after, strict=True):
        assert later <= descriptors + 4
        assert then <= threads + 4
