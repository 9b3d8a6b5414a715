"""Does the exchange between two real network stacks give the same bits, and what is known when one
of them falls silent?
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.errors import PeerLost
from orchestrator.training.group.addresses import Address
from tests.training.group import namespaces
from tests.training.group.members import Members, State
from tests.training.group.namespaces import Inside, TwoHosts
from tests.training.group.test_contract import (
    NOTICED_S,
    gather,
    reduce,
    reference,
    same_bits,
    timed,
    way,
)

MISSING = namespaces.missing()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=MISSING)]
SILENT_S = 1.0


@pytest.fixture
def hosts() -> Iterator[TwoHosts]:
    with TwoHosts() as made:
        yield made


@pytest.fixture
def members(hosts: TwoHosts) -> Iterator[Members]:
    """Ranks 0 and 1 on the one host, 2 and 3 on the other; they find out themselves who shares a
    host.
    """
    places = [(address, "") for address in hosts.addresses for _ in range(2)]
    with Members(places, prepare=[Inside(name) for name in hosts.names for _ in range(2)]) as made:
        yield made


def test_sums_and_messages_of_two_hosts_are_the_trees(members: Members) -> None:
    machines = [Address.parse(each).machine for each in members.addresses]
    assert machines[0] == machines[1] != machines[2] == machines[3]
    members.join(1)
    assert members.each(way) == ["OverHosts"] * 4
    for kind in ("types", "many"):
        for result in members.each(reduce, kind, 6, 2):
            assert same_bits(result, reference(kind, 6, 1))
    sizes = [3, 0, 200_000, 1]
    assert (
        members.each(gather, sizes)
        == [[bytes([rank]) * size for rank, size in enumerate(sizes)]] * 4
    )


def test_kill_of_a_host_is_known_on_the_other_at_once(members: Members) -> None:
    members.join(1)
    members.each(reduce, "one", 4)
    for survivor in (0, 1):
        members.tell(survivor, timed, "one", 1)
    for victim in (2, 3):
        members.signal(victim)
    for survivor in (0, 1):
        seconds, ends = members.answer(survivor)
        assert ends == ["lost"]
        assert seconds < NOTICED_S
    members.join(2, [0, 1])
    assert same_bits(*members.each(reduce, "one", 2, members=[0, 1]))


def abandoned_late(state: State) -> tuple[float, str]:
    """A sum that is called off from outside after a while: how long it waited, and how it ended."""
    began = time.monotonic()
    threading.Timer(SILENT_S, state.group.abandon).start()
    try:
        reduce(state, "one", state.group.world_size)
    except PeerLost as error:
        return time.monotonic() - began, str(error)
    return -1.0, "done"


def test_silent_link_is_waited_for_until_the_group_is_called_off(
    hosts: TwoHosts, members: Members
) -> None:
    members.join(1)
    members.each(reduce, "one", 4)
    hosts.cut()
    for victim in (2, 3):
        members.signal(victim)  # whose end nobody can tell any more
        members.processes[victim].join(10)
        assert members.processes[victim].exitcode == -signal.SIGKILL
    for waited, ending in members.each(abandoned_late, members=[0, 1]):
        assert waited >= SILENT_S * 0.9, "the driver finds it, not the exchange"
        assert "gone" in ending or "left" in ending
    members.join(2, [0, 1])
    assert same_bits(*members.each(reduce, "one", 2, members=[0, 1]))


def moved_port(text: str) -> str:
    machine, host, _, *rest = json.loads(text)
    return json.dumps([machine, host, 1, *rest])  # no member ever has that one


def joins(state: State, rank: int, addresses: list[str]) -> Any:
    return state.listener.join(1, rank, addresses, cancelled=threading.Event(), timeout_s=10.0)


def test_refused_port_is_told_with_both_ends_before_anything_is_exchanged(
    hosts: TwoHosts, members: Members
) -> None:
    addresses = [moved_port(each) for each in members.addresses[:2]] + members.addresses[2:]
    members.tell(2, joins, 2, addresses)
    (outcome,) = members.outcomes([2])
    assert isinstance(outcome, PeerLost)
    one, two = hosts.addresses
    assert f"rank 2 on {two} can't reach rank 0 on {one}:1: " in str(outcome)
    assert "refused" in str(outcome)
