"""Do members on several hosts, some of them together, add up the same bits, send no more than they
must, and learn of every loss?
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import GroupDisagrees, PeerLost
from orchestrator.training.group import levels, listener, over_hosts, over_memory, wires
from orchestrator.training.group.collectives import Collectives, Sum
from orchestrator.training.group.layout import Layout
from orchestrator.training.group.summation import Accumulator, nodes_of
from orchestrator.training.group.topology import Topology
from tests.training.group.members import Members, State
from tests.training.group.test_contract import (
    NOTICED_S,
    dies_in,
    gather,
    reduce,
    reference,
    same_bits,
    slot_arrays,
    timed,
)
from tests.training.group.threads import Threads

pytestmark = pytest.mark.turns(6)

MACHINES = st.lists(st.sampled_from("abcd"), min_size=1, max_size=12)


@given(MACHINES)
def test_every_host_is_reached_on_every_rail_and_both_ends_know(machines: list[str]) -> None:
    topology = Topology.of(machines)
    assert sorted(rank for ranks in topology.hosts for rank in ranks) == list(range(len(machines)))
    for rank in range(len(machines)):
        assert all(rank in topology.peers(peer) for peer in topology.peers(rank))
        assert {machines[peer] for peer in topology.neighbours(rank)} <= {machines[rank]}
    for host, ranks in enumerate(topology.hosts):
        on_rails = ranks[: topology.rails]
        for rank in on_rails:
            assert [topology.host(peer) for peer in topology.partners(rank)] == [
                each for each in range(len(topology.hosts)) if each != host
            ]
        assert sorted(rank for each in on_rails for rank in topology.carried(each)) == list(
            ranks
        ), "each message is carried once"


def test_member_of_a_thousand_has_connections_along_its_rail_only() -> None:
    topology = Topology.of([f"host{rank % 125}" for rank in range(1000)])
    assert {len(topology.peers(rank)) for rank in range(1000)} == {7 + 124}


def random_case(seed: int) -> tuple[list[str], int, list[frozenset[int]]]:
    """Machines of a few ranks, slots, and by rank the slots that it has: any, also none."""
    draw = random.Random(seed)
    ranks = draw.randint(2, 7)
    machines = [draw.choice("abc"[: draw.randint(1, 3)]) for _ in range(ranks)]
    slots = draw.randint(1, 12)
    owners = [draw.randrange(ranks) for _ in range(slots)]
    return (
        machines,
        slots,
        [frozenset(slot for slot in range(slots) if owners[slot] == rank) for rank in range(ranks)],
    )


def given_sum(
    group: Collectives, kind: str, slots: int, dealt: list[frozenset[int]], step: int
) -> list[np.ndarray]:
    sums = Accumulator(slots)
    for slot in dealt[group.rank]:
        sums.add(slot, slot_arrays(kind, slot, step))
    held = tuple(nodes_of(slots, each) for each in dealt)
    wanted = Sum(Layout.of(slot_arrays(kind, 0)), slots, held, float(slots), 0)
    return [np.array(each) for each in group.all_reduce(sums.nodes, wanted)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_bits_are_the_trees_wherever_ranks_and_slots_are(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    for module in (over_memory, over_hosts):
        # so that a few kilobytes have several blocks
        monkeypatch.setattr(module, "STAGING_BYTES", 16 * 1024)
    machines, slots, dealt = random_case(seed)
    sizes = random.Random(seed).choices([0, 1, 100, 5000], k=len(machines))
    with Threads(machines) as members:
        for step in range(3):
            results = members.each(
                lambda group, step=step: given_sum(group, "many", slots, dealt, step)  # type: ignore[misc]
            )
            wanted = reference("many", slots, step)
            assert all(same_bits(result, wanted) for result in results)
            found = members.each(
                lambda group: [
                    bytes(each)
                    for each in group.all_gather(bytes([group.rank]) * sizes[group.rank])
                ]
            )
            assert found == [[bytes([rank]) * size for rank, size in enumerate(sizes)]] * len(
                machines
            )


def sent_between_hosts(groups: list[Any], machines: list[str]) -> dict[str, int]:
    """Bytes that each machine's members have sent in sums so far: those go to other hosts only, or
    through memory.
    """
    found = dict.fromkeys(machines, 0)
    for group, machine in zip(groups, machines, strict=True):
        found[machine] += group._wires.moved
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("hosts", "each"), [(2, 1), (2, 2), (2, 4), (4, 2)])
def test_host_sends_twice_its_gradients_at_most_however_many_members_it_has(
    hosts: int, each: int
) -> None:
    ranks = hosts * each
    machines = [f"host{rank % hosts}" for rank in range(ranks)]
    dealt = [frozenset([rank]) for rank in range(ranks)]
    size = Layout.of(slot_arrays("many", 0)).size
    with Threads(machines) as members:
        members.each(lambda group: given_sum(group, "many", ranks, dealt, 0))
        before = sent_between_hosts(members.groups, machines)
        members.each(lambda group: given_sum(group, "many", ranks, dealt, 1))
        after = sent_between_hosts(members.groups, machines)
    for machine, sent in after.items():
        assert 0 < sent - before[machine] <= 2 * size * (hosts - 1) / hosts + 100 * each * hosts


TWO_HOSTS = [
    ("127.0.0.1", "a"),
    ("127.0.0.1", "a"),
    ("127.0.0.2", "b"),
    ("127.0.0.2", "b"),
    ("127.0.0.2", "b"),
]
"""Rank 4 is on no rail."""


def dies_between(state: State, phase: str) -> None:
    def die(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if phase == "before it exchanges":
        levels._Share.exchange = die  # type: ignore[assignment, method-assign]
    elif phase == "before it gives its sum to the hosts":
        levels._Share.finish = die  # type: ignore[assignment, method-assign]
    elif phase == "before it agrees with the hosts":
        over_hosts.OverHosts._heard_across = die  # type: ignore[assignment]
    dies_in(state, "", "each")


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 3])
@pytest.mark.parametrize(
    "phase",
    [
        "before it agrees with the hosts",
        "before it exchanges",
        "before it gives its sum to the hosts",
    ],
)
def test_death_between_the_levels_is_known_to_all(victim: int, phase: str) -> None:
    survivors = [rank for rank in range(5) if rank != victim]
    with Members(TWO_HOSTS) as members:
        members.join(1)
        for survivor in survivors:
            members.tell(survivor, timed, "each", 3)
        members.tell(victim, dies_between, phase)
        outcomes = [members.answer(survivor) for survivor in survivors]
        members.processes[victim].join(10)
        assert members.processes[victim].exitcode == -signal.SIGKILL
        assert [ends for _, ends in outcomes] == [["lost"]] * 4
        assert max(seconds for seconds, _ in outcomes) < NOTICED_S
        members.join(2, survivors)
        assert same_bits(
            members.each(reduce, "types", 4, members=survivors)[3], reference("types", 4)
        )


def dies_when_the_hosts_have_it(state: State) -> None:
    real = levels.SumPlan.finish

    def finish(*given_to_it: Any) -> None:
        real(*given_to_it)
        os.kill(os.getpid(), signal.SIGKILL)

    levels.SumPlan.finish = finish  # type: ignore[assignment, method-assign]
    dies_in(state, "", "each")


def test_whoever_dies_before_its_own_host_has_the_sum_may_leave_it_to_the_other_host() -> None:
    with Members(TWO_HOSTS) as members:
        members.join(1)
        for survivor in (0, 2, 3, 4):
            members.tell(survivor, timed, "each", 3)
        members.tell(1, dies_when_the_hosts_have_it)
        outcomes = {survivor: members.answer(survivor)[1] for survivor in (0, 2, 3, 4)}
        members.processes[1].join(10)
        assert members.processes[1].exitcode == -signal.SIGKILL
    assert outcomes[0] == ["lost"]
    assert all(ends[-1] == "lost" and len(ends) <= 2 for ends in outcomes.values())


def is_patient(state: State) -> None:
    wires.GRACE_S = 60.0


def test_waiting_member_learns_of_a_death_on_another_host_though_its_neighbours_compute() -> None:
    with Members(TWO_HOSTS) as members:
        members.join(1)
        members.each(is_patient)  # or it would learn of it by and by
        members.each(reduce, "one", 5)
        members.tell(2, timed, "one", 1)  # ranks 3 and 4 haven't come to the sum
        members.signal(0)
        seconds, ends = members.answer(2)
    assert ends == ["lost"]
    assert seconds < NOTICED_S


def other_shapes(state: State, odd: list[int]) -> None:
    rank = state.group.rank
    arrays = [np.zeros((3, 2) if rank in odd else (2, 3), np.float32)]
    held = tuple((((each,),)) for each in range(5))
    state.group.all_reduce({(rank,): arrays}, Sum(Layout.of(arrays), 5, held, 5.0, 9))


@pytest.mark.parametrize("odd", [[0], [1], [4], [0, 1], [0, 2]])
def test_disagreement_anywhere_is_told_to_all_on_all_hosts(odd: list[int]) -> None:
    with Members(TWO_HOSTS) as members:
        members.join(1)
        for member in range(5):
            members.tell(member, other_shapes, odd)
        outcomes = members.outcomes(range(5))
    assert [type(outcome) for outcome in outcomes] == [GroupDisagrees] * 5
    assert "float32[3, 2]" in outcomes[odd[0]].message


def speaks_nonsense_across(state: State) -> None:
    for peer in state.group._partners:
        state.group._wires.socket_of(peer).send(b"GET / HTTP/1.1\r\n" * 10)


def test_nonsense_from_another_host_is_a_lost_peer_for_all() -> None:
    with Members(TWO_HOSTS) as members:
        members.join(1)
        members.each(speaks_nonsense_across, members=[0])
        for member in range(1, 5):
            members.tell(member, gather, [1] * 5)
        members.tell(0, reduce, "one", 5)
        assert [type(outcome) for outcome in members.outcomes(range(5))] == [PeerLost] * 5


def test_members_without_shared_memory_count_as_hosts_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = iter(["", "", "Function not implemented", "Function not implemented"])
    monkeypatch.setattr(listener, "why_not_shared", lambda: next(answers))
    with Threads(["a", "a", "b", "b"]) as members:
        assert members.groups[0]._topology.hosts == ((0, 1), (2,), (3,))
        dealt = [frozenset([rank]) for rank in range(4)]
        for result in members.each(lambda group: given_sum(group, "types", 4, dealt, 0)):
            assert same_bits(result, reference("types", 4))


def test_forming_of_a_group_that_was_called_off_ends_though_a_peer_does_not_answer() -> None:
    with Members([("127.0.0.1", "a")] * 2) as members, ThreadPoolExecutor(1) as pool:
        own = listener.Listener(bytes(range(32)), "127.0.0.1", machine="b")
        members.signal(0, signal.SIGSTOP)
        addresses = [members.addresses[0], own.address]
        waiting = pool.submit(
            own.join, 1, 1, addresses, cancelled=threading.Event(), timeout_s=60.0
        )
        while own._forming is None or own._forming._calling is None:
            assert not waiting.done()
        own.cancel(1)
        with pytest.raises(PeerLost):
            waiting.result(3.0)  # a greeting may take five seconds
        members.signal(0, signal.SIGCONT)
        own.close()


def steps_until_lost(state: State) -> int:
    """Sums and messages in turns until a peer is lost; how many were finished."""
    done = 0
    with contextlib.suppress(PeerLost):
        while True:
            if done % 2:
                gather(state, [10, 0, 3000, 1, 5])
            else:
                reduce(state, "each", 5)
            done += 1
    return done


def dies_at_call(state: State, number: int) -> None:
    """The same, and dies before meeting or exchanging for the ``number``-th time."""
    calls = itertools.count()

    def counted(real: Any) -> Any:
        def call(*given_to_it: Any, **named: Any) -> Any:
            if next(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*given_to_it, **named)

        return call

    over_memory.SharedMemory.meet = counted(over_memory.SharedMemory.meet)  # type: ignore[method-assign]
    wires.Wires.swap = counted(wires.Wires.swap)  # type: ignore[method-assign]
    steps_until_lost(state)


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(number, marks=[pytest.mark.slow] if number % 4 else [])  # five processes each
        for number in range(20)
    ],
)
def test_death_before_any_meeting_or_exchange_ends_all_at_the_same_step(number: int) -> None:
    victim = number % 5
    survivors = [rank for rank in range(5) if rank != victim]
    with Members(TWO_HOSTS) as members:
        members.join(1)
        for survivor in survivors:
            members.tell(survivor, steps_until_lost)
        members.tell(victim, dies_at_call, number)
        done = [members.answer(survivor) for survivor in survivors]
        members.processes[victim].join(10)
        assert members.processes[victim].exitcode == -signal.SIGKILL
        assert max(done) - min(done) <= 1
        members.join(2, survivors)
        for result in members.each(reduce, "types", 4, members=survivors):
            assert same_bits(result, reference("types", 4))
