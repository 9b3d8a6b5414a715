"""Does a listener take members only, wait for those who come late, and survive whatever strangers
send?
"""

from __future__ import annotations

import contextlib
import secrets
import select
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from orchestrator.errors import PeerLost
from orchestrator.training.group import authentication, calling, listener
from orchestrator.training.group.addresses import Address
from orchestrator.training.group.authentication import DATA, HELLO, MAGIC, Hello, Stranger, call
from orchestrator.training.group.listener import Listener

SECRET = bytes(range(32))


@pytest.fixture
def listeners() -> Iterator[Any]:
    made: list[Listener] = []

    def make(count: int, *, far: bool = True, secret: bytes = SECRET) -> list[Listener]:
        made.extend(
            Listener(secret, "127.0.0.1", machine=f"host{number}" if far else "one")
            for number in range(count)
        )
        return made[-count:]

    yield make
    for each in made:
        each.close()


def joined(members: list[Listener], generation: int = 1, timeout_s: float = 10.0) -> list[Any]:
    """What joining gives or raises, by rank."""
    addresses = [member.address for member in members]

    def join(rank: int) -> Any:
        try:
            return members[rank].join(
                generation, rank, addresses, cancelled=threading.Event(), timeout_s=timeout_s
            )
        except PeerLost as error:
            return error

    with ThreadPoolExecutor(len(members)) as pool:
        return list(pool.map(join, range(len(members))))


def close(groups: list[Any]) -> None:
    for group in groups:
        group.close()


def knock(member: Listener) -> socket.socket:
    address = Address.parse(member.address)
    return socket.create_connection((address.host, address.port), timeout=10)


@pytest.mark.parametrize("far", [False, True])
def test_members_that_come_one_after_the_other_find_each_other(listeners: Any, far: bool) -> None:
    members = listeners(3, far=far)
    addresses = [member.address for member in members]
    with ThreadPoolExecutor(3) as pool:
        asked = []
        for rank in (2, 0, 1):
            asked.append(
                pool.submit(
                    members[rank].join,
                    1,
                    rank,
                    addresses,
                    cancelled=threading.Event(),
                    timeout_s=10.0,
                )
            )
            time.sleep(0.05)
        groups = [each.result() for each in asked]
    assert sorted(group.rank for group in groups) == [0, 1, 2]
    close(groups)


STRANGE = {
    "nothing": b"",
    "one byte": b"x",
    "a browser": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 40,
    "a megabyte": b"\x00" * 2**20,
    "half a greeting": HELLO.pack(MAGIC, 1, 1, 0, DATA, bytes(32))[:30],
    "a greeting without proof": HELLO.pack(MAGIC, 1, 1, 0, DATA, bytes(32)) + bytes(32),
}


@pytest.mark.parametrize("sent", STRANGE.values(), ids=STRANGE)
def test_strangers_are_cut_off_and_the_members_form_their_group_beside_them(
    listeners: Any, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(calling, "GREETING_S", 0.5)
    members = listeners(2)
    strangers = [knock(members[0]) for _ in range(10)]
    for stranger in strangers:
        with contextlib.suppress(OSError):  # it may be cut off while it talks
            stranger.sendall(sent)
    groups = joined(members)
    assert [type(group).__name__ for group in groups] == ["OverSockets"] * 2
    for stranger in strangers:
        with contextlib.suppress(ConnectionError):  # a reset is an end, too
            while stranger.recv(4096):
                pass
        stranger.close()
    assert not members[0]._waiting, "no stranger is kept for later"
    close(groups)


def test_one_who_sends_a_byte_now_and_then_is_not_waited_for(
    listeners: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calling, "GREETING_S", 0.5)
    (member,) = listeners(1)
    stranger = knock(member)
    began = time.monotonic()
    with contextlib.suppress(OSError):
        while time.monotonic() - began < 10:
            stranger.sendall(b"t")
            if select_readable(stranger, 0.05):
                break
    assert time.monotonic() - began < 5
    stranger.close()


def select_readable(connection: socket.socket, seconds: float) -> bool:
    return bool(select.select([connection], [], [], seconds)[0])


def readable(connections: list[socket.socket], number: int) -> list[socket.socket]:
    """Those that can be read once so many can, and those that follow within half a second."""
    deadline_s = time.monotonic() + 60
    while len(select.select(connections, [], [], 0.1)[0]) < number:
        assert time.monotonic() < deadline_s, f"fewer than {number} can be read"
        time.sleep(0.01)
    time.sleep(0.5)
    return select.select(connections, [], [], 0)[0]


def test_crowd_of_strangers_takes_no_more_threads_than_the_bound(
    listeners: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "GREETINGS_AT_ONCE", 8)
    (member,) = listeners(1)
    crowd = [knock(member) for _ in range(20)]
    cut = readable(crowd, 12)
    for each in crowd:
        each.close()
    assert len(cut) == 12, "those beyond the bound are cut off at once"


def test_member_that_meets_a_crowd_at_the_door_comes_in_all_the_same(
    listeners: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "GREETINGS_AT_ONCE", 4)
    monkeypatch.setattr(calling, "GREETING_S", 1.0)
    members = listeners(2)
    crowd = [knock(members[0]) for _ in range(10)]
    assert len(readable(crowd, 6)) >= 6, "the door isn't full"
    groups = joined(members)
    assert [type(group).__name__ for group in groups] == ["OverSockets"] * 2
    close(groups)
    for each in crowd:
        each.close()


def test_unix_socket_before_which_as_many_wait_as_may_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel refuses one more at once, and the peer was taken for gone."""
    with socket.socket(socket.AF_UNIX) as server, contextlib.ExitStack() as crowd:
        server.bind("\0tfresume-test-" + secrets.token_hex(8))
        server.listen(0)
        name = server.getsockname().decode().removeprefix("\0")
        while (waiting := crowd.enter_context(socket.socket(socket.AF_UNIX))).fileno() >= 0:
            waiting.setblocking(False)
            if waiting.connect_ex(f"\0{name}"):
                break
        refused = threading.Event()

        def answered() -> Hello:
            refused.wait(10)
            while True:  # those of the crowd first, who say nothing
                connection, _ = server.accept()
                with connection, contextlib.suppress(Stranger, TimeoutError):
                    return authentication.answer(connection, SECRET, time.monotonic() + 0.3)

        pause = time.sleep

        def paused(seconds: float) -> None:
            refused.set()
            pause(seconds)

        monkeypatch.setattr(time, "sleep", paused)
        own = Address("one", "127.0.0.1", 1, "unused")
        with ThreadPoolExecutor(1) as pool:
            greeted = pool.submit(answered)
            caller = calling.Caller(SECRET, own)
            hello = Hello(1, 1, 0, DATA)
            caller.call(Address("one", "127.0.0.1", 1, name), hello).close()
            assert refused.is_set(), "the door was full"
            assert greeted.result(10) == hello


def test_member_of_another_run_is_refused_by_both_sides(listeners: Any) -> None:
    (ours,) = listeners(1)
    (theirs,) = listeners(1, secret=bytes(32))
    connection = knock(ours)
    with pytest.raises(Stranger, match="doesn't know the run's secret"):
        call(connection, bytes(32), Hello(1, 1, 0, DATA), time.monotonic() + 5)
    connection.close()
    addresses = [ours.address, theirs.address]
    with pytest.raises(PeerLost, match="can't reach rank 0"):
        theirs.join(1, 1, addresses, cancelled=threading.Event(), timeout_s=5.0)
    assert not ours._waiting


def test_greeting_that_was_listened_to_cannot_be_used_again(
    listeners: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (member,) = listeners(1)
    said: list[bytes] = []

    class Recorder:
        def __init__(self, connection: socket.socket) -> None:
            self._connection = connection

        def sendall(self, data: bytes) -> None:
            said.append(bytes(data))
            self._connection.sendall(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

    first = knock(member)
    call(Recorder(first), SECRET, Hello(5, 1, 0, DATA), time.monotonic() + 5)  # type: ignore[arg-type]
    wait_until(lambda: len(member._waiting) == 1)
    again = knock(member)
    for data in said:
        with contextlib.suppress(OSError):
            again.sendall(data)
    again.settimeout(10)
    with contextlib.suppress(ConnectionError):
        while again.recv(4096):
            pass
    assert len(member._waiting) == 1, "the replay wasn't taken for a member"
    first.close()
    again.close()


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_generation_that_was_called_off_is_over_for_those_who_wait_and_those_who_come(
    listeners: Any,
) -> None:
    members = listeners(3)
    addresses = [member.address for member in members]
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(
            members[0].join, 4, 0, addresses, cancelled=threading.Event(), timeout_s=30.0
        )
        wait_until(lambda: not waiting.done())
        members[1].decline(4, 1, addresses)
        with pytest.raises(PeerLost, match="called"):
            waiting.result(10)
        late = members[2].join(4, 2, addresses, cancelled=threading.Event(), timeout_s=30.0)
        with contextlib.closing(late), pytest.raises(PeerLost):
            late.all_gather(b"")


def test_peer_that_does_not_come_in_time_is_named(listeners: Any) -> None:
    members = listeners(2)
    with pytest.raises(PeerLost, match="rank 1 of generation 3 didn't come in time"):
        members[0].join(
            3, 0, [member.address for member in members], cancelled=threading.Event(), timeout_s=0.2
        )


def test_port_that_nobody_answers_at_is_told_with_both_ends(listeners: Any) -> None:
    (member,) = listeners(1)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    gone = Address("elsewhere", "127.0.0.1", port, "gone").as_text()
    with pytest.raises(
        PeerLost, match=rf"rank 1 on 127.0.0.1 can't reach rank 0 on 127.0.0.1:{port}.*refused"
    ):
        member.join(1, 1, [gone, member.address], cancelled=threading.Event(), timeout_s=5.0)


def test_connections_that_wait_are_bounded(listeners: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "WAITING_AT_MOST", 2)
    (member,) = listeners(1)
    connections = [knock(member) for _ in range(5)]
    for peer, connection in enumerate(connections, 1):
        call(connection, SECRET, Hello(9, peer, 0, DATA), time.monotonic() + 5)
    cut = readable(connections, 3)
    assert len(member._waiting) == 2
    assert len(cut) == 3
    for connection in connections:
        connection.close()


def test_every_part_of_a_greeting_is_covered_by_the_proof() -> None:
    first = HELLO.pack(MAGIC, 1, 1, 0, DATA, bytes(32))
    proofs = {
        authentication._mac(SECRET, side, HELLO.pack(MAGIC, *changed, bytes(32)), nonce)
        for side in (b"called", b"caller")
        for changed in (
            (1, 1, 0, DATA),
            (2, 1, 0, DATA),
            (1, 2, 0, DATA),
            (1, 1, 2, DATA),
            (1, 1, 0, 1),
        )
        for nonce in (bytes(32), bytes([1]) * 32)
    }
    assert len(proofs) == 2 * 5 * 2
    assert authentication._mac(SECRET, b"called", first, bytes(32)) in proofs


@pytest.mark.parametrize("addresses", [(), ("",)])
def test_listener_of_a_member_that_is_alone_needs_no_address(addresses: tuple[str, ...]) -> None:
    listener = Listener(SECRET, "127.0.0.1")
    try:
        alone = listener.join(1, 0, addresses, cancelled=threading.Event(), timeout_s=1.0)
        assert (alone.rank, alone.world_size, alone.all_gather(b"x")) == (0, 1, [b"x"])
    finally:
        listener.close()
