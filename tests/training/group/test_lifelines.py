"""Do peers learn of a death from the lifeline, and is nothing else tied to it?"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.training.group import lifelines
from orchestrator.training.group.addresses import Address
from orchestrator.training.group.lifelines import Lifeline, Watches
from tests.training.group.members import Members, State
from tests.training.group.test_contract import NOTICED_S, PLACES, gather, reduce, timed


def leaves_a_child_behind(state: State) -> int:
    """A process that has copies of all connections, as one that user code forks has; its number."""
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    return child


def unforked(members: Members, member: int) -> int:
    child: int = members.each(leaves_a_child_behind, members=[member])[0]
    return child


@pytest.mark.parametrize("place", PLACES)
def test_death_is_known_though_a_child_of_the_dead_keeps_its_connections_open(place: str) -> None:
    with Members(PLACES[place](3)) as members:
        members.join(1)
        members.each(reduce, "one", 3)
        child = unforked(members, 0)
        try:
            members.signal(0)
            for survivor in (1, 2):
                members.tell(survivor, timed, "each", 3)
            for seconds, ends in (members.answer(survivor) for survivor in (1, 2)):
                assert ends[-1] == "lost"
                assert seconds < NOTICED_S
            os.kill(child, 0)  # it held them open until now
        finally:
            os.kill(child, signal.SIGKILL)
        members.join(2, [1, 2])
        members.each(gather, b"on", members=[1, 2])


def without_lifelines() -> None:
    lifelines.CLONE_FILES = 0xFFFFFFFF  # the kernel refuses it


@pytest.mark.parametrize("place", ["memory", "sockets"])
def test_without_lifelines_the_connections_themselves_tell(place: str) -> None:
    with Members(PLACES[place](3), prepare=[without_lifelines] * 3) as members:
        assert all(not Address.parse(each).life_name for each in members.addresses)
        members.join(1)
        members.each(reduce, "one", 3)
        members.signal(0)
        for survivor in (1, 2):
            members.tell(survivor, timed, "each", 3)
        for seconds, ends in (members.answer(survivor) for survivor in (1, 2)):
            assert ends[-1] == "lost"
            assert seconds < NOTICED_S


@pytest.fixture
def lifeline() -> Iterator[Lifeline]:
    one = Lifeline("127.0.0.1")
    yield one
    one.close()


def address(lifeline: Lifeline, machine: str = "here") -> Address:
    return Address(machine, "127.0.0.1", 1, "none", True, lifeline.name, lifeline.port)


HERE, AWAY = (Address(machine, "127.0.0.1", 2, "own") for machine in ("here", "away"))


def ends_within(connection: socket.socket, seconds: float) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(seconds * 1000))


@pytest.mark.parametrize("own", [HERE, AWAY], ids=["Unix", "TCP"])
def test_closed_lifeline_ends_for_all_who_hold_on_to_it(lifeline: Lifeline, own: Address) -> None:
    watchers = [Watches() for _ in range(3)]
    held = [each.on({7: address(lifeline)}, own)[7] for each in watchers]
    assert not any(ends_within(each, 0) for each in held)
    lifeline.close()
    assert all(ends_within(each, NOTICED_S) for each in held)
    for each in watchers:
        each.close()


def test_files_that_this_process_closes_are_not_kept_open_by_the_lifeline() -> None:
    reading, writing = os.pipe()
    with contextlib.closing(Lifeline("127.0.0.1")) as lifeline:
        assert lifeline.name, "a thread may have a table of its own here"
        os.close(writing)
        poll = select.poll()
        poll.register(reading, select.POLLIN)
        assert poll.poll(NOTICED_S * 1000)
        assert os.read(reading, 1) == b""
    os.close(reading)


def test_kernel_without_close_range_has_lifelines_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifelines, "CLOSE_RANGE", 99_999)
    test_files_that_this_process_closes_are_not_kept_open_by_the_lifeline()


def test_lifeline_is_in_no_table_of_files_but_its_own(lifeline: Lifeline) -> None:
    listening = Path("/proc/net/unix").read_text()
    line = next(each for each in listening.splitlines() if each.endswith(lifeline.name))
    inode = line.split()[6]

    def has_it(table: Path) -> bool:
        found = []
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread has ended
            for each in os.listdir(table):
                with contextlib.suppress(FileNotFoundError):  # such as that of the listing itself
                    found.append(os.readlink(table / each))
        return f"socket:[{inode}]" in found

    own = [each for each in Path("/proc/self/task").iterdir() if has_it(each / "fd")]
    assert len(own) == 1
    assert not has_it(Path("/proc/self/fd"))


def test_one_connection_lasts_from_generation_to_generation(lifeline: Lifeline) -> None:
    watches = Watches()
    first = watches.on({1: address(lifeline)}, HERE)[1]
    before = len(os.listdir("/proc/self/fd"))
    for generation in range(50):
        assert watches.on({generation: address(lifeline)}, HERE) == {generation: first}
    assert len(os.listdir("/proc/self/fd")) == before
    watches.close()


def test_lifeline_that_was_cut_on_the_way_is_connected_anew(lifeline: Lifeline) -> None:
    watches = Watches()
    first = watches.on({1: address(lifeline)}, AWAY)[1]
    first.shutdown(socket.SHUT_RDWR)
    assert ends_within(first, NOTICED_S)
    second = watches.on({1: address(lifeline)}, AWAY)[1]
    assert second is not first
    assert not ends_within(second, 0)
    watches.close()


def test_peer_whose_lifeline_cannot_be_reached_is_left_out(lifeline: Lifeline) -> None:
    silent = Address("elsewhere", "127.0.0.1", 1, "none", True, "none", 1)
    none = Address("here", "127.0.0.1", 1, "none")
    watches = Watches()
    began = time.monotonic()
    assert list(watches.on({0: silent, 1: none, 2: address(lifeline)}, HERE)) == [2]
    assert time.monotonic() - began < NOTICED_S
    watches.close()
