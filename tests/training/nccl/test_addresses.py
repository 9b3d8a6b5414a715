"""Is a reserved port ours until the server takes it, and are only the group's connections cut?"""

from __future__ import annotations

import socket
from typing import Any

import psutil
import pytest

from orchestrator.training.nccl.addresses import LOWEST_PORT, cut_connections, port_of, reserve


def connected(listener: socket.socket) -> tuple[socket.socket, socket.socket]:
    client = socket.create_connection(listener.getsockname())
    return client, listener.accept()[0]


@pytest.fixture
def listener() -> socket.socket:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    return listening


def address(listening: socket.socket) -> str:
    return f"127.0.0.1:{listening.getsockname()[1]}"


def test_reserved_port_cannot_be_taken_until_it_is_released() -> None:
    reservation = reserve()
    with socket.socket() as other:
        with pytest.raises(OSError, match="in use"):
            other.bind(("", reservation.port))
        reservation.release()
        other.bind(("", reservation.port))


def test_reserved_ports_differ_and_lie_above_rays() -> None:
    reservations = [reserve(seed=1) for _ in range(20)]
    ports = [reservation.port for reservation in reservations]
    for reservation in reservations:
        reservation.release()
    assert len(set(ports)) == 20
    assert min(ports) >= LOWEST_PORT


@pytest.mark.parametrize(("text", "port"), [("node-1:20001", 20001), ("[fe80::1]:20002", 20002)])
def test_port_of_an_address_is_what_follows_the_last_colon(text: str, port: int) -> None:
    assert port_of(text) == port


def test_cut_ends_connections_to_the_own_address_and_leaves_others_alone(
    listener: socket.socket,
) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        mine, theirs = connected(listener)
        kept, kept_peer = connected(stranger)

        cut_connections(address(listener), frozenset(), listener=True)

        assert theirs.recv(1) == b""
        assert mine.recv(1) == b""
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(listener.getsockname(), timeout=5)
        kept.sendall(b"x")
        assert kept_peer.recv(1) == b"x"
        for connection in (mine, theirs, kept, kept_peer, listener):
            connection.close()


def test_cut_that_keeps_the_door_open_ends_connections_and_accepts_new_ones(
    listener: socket.socket,
) -> None:
    mine, theirs = connected(listener)
    cut_connections(address(listener), frozenset(), listener=False)
    assert theirs.recv(1) == b""
    again, accepted = connected(listener)
    again.sendall(b"x")
    assert accepted.recv(1) == b"x"
    for connection in (mine, theirs, again, accepted, listener):
        connection.close()


def test_cut_ends_connections_to_the_other_ranks(listener: socket.socket) -> None:
    mine, theirs = connected(listener)
    cut_connections("127.0.0.1:1", frozenset({address(listener)}), listener=True)
    assert mine.recv(1) == b""
    for connection in (mine, theirs, listener):
        connection.close()


def test_cut_ends_a_connection_that_a_peer_makes_while_it_works(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer that loses its connection comes back at once, also between the look at the sockets and
    the listener's end.
    """
    look = psutil.Process.net_connections
    late: list[socket.socket] = []

    def looked(process: psutil.Process, kind: str) -> Any:
        found = look(process, kind)
        if not late:
            late.extend(connected(listener))
        return found

    monkeypatch.setattr(psutil.Process, "net_connections", looked)
    mine, theirs = connected(listener)
    cut_connections(address(listener), frozenset(), listener=True)
    assert len(late) == 2
    for end in (mine, theirs, *late):
        assert end.recv(1) == b"", "a connection outlived the cut"
        end.close()
    listener.close()
