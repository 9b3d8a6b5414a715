"""How long does an exchange take against a plain copy, how much memory does it need, and when is a
loss known?
"""

from __future__ import annotations

import multiprocessing
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
import psutil

from orchestrator.errors import PeerLost
from orchestrator.training.group.collectives import Sum
from orchestrator.training.group.layout import Layout
from tests.benchmarks.figures import Figure, spread
from tests.training.group.members import PLACES, Members, State

SIZES_MB = (1, 20, 200)
HELD = (((0,),), ((1,),))


def exchange_s(state: State, megabytes: int, rounds: int) -> list[float]:
    """Seconds of each sum of that size over two slots."""
    arrays = [np.full(megabytes * 2**20 // 4, 1.0 + state.group.rank, np.float32)]
    wanted = Sum(Layout.of(arrays), 2, HELD, 2.0, 0)
    found: list[float] = []
    for number in range(rounds + 2):
        began = time.perf_counter()
        result = state.group.all_reduce({(state.group.rank,): arrays}, wanted)
        if number >= 2:
            found.append(time.perf_counter() - began)
    assert result[0][0] == result[0][-1] == 1.5
    return found


def copy_s(state: State, megabytes: int, rounds: int) -> list[float]:
    """Seconds of each plain copy of as many bytes."""
    source, target = (
        np.ones(megabytes * 2**20 // 4, np.float32),
        np.empty(megabytes * 2**20 // 4, np.float32),
    )
    found: list[float] = []
    for number in range(rounds + 2):
        began = time.perf_counter()
        np.copyto(target, source)
        if number >= 2:
            found.append(time.perf_counter() - began)
    return found


def shared_bytes(state: State) -> int:
    """Proportional memory of this process: what is shared counts once for all."""
    return int(psutil.Process().memory_full_info().pss)


def socket_pair_s(megabytes: int, rounds: int) -> list[float]:
    """Seconds for as many bytes in both directions at once between two processes over loopback, all
    that a sum of two ranks moves.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = multiprocessing.get_context("spawn").Process(
            target=_other_side, args=(server.getsockname(), megabytes, rounds)
        )
        peer.start()
        connection, _ = server.accept()
    found: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        _both_ways(connection, megabytes)
        found.append(time.perf_counter() - began)
    peer.join()
    connection.close()
    return found


def _other_side(address: tuple[str, int], megabytes: int, rounds: int) -> None:
    with socket.create_connection(address) as connection:
        for _ in range(rounds):
            _both_ways(connection, megabytes)


def _both_ways(connection: socket.socket, megabytes: int) -> None:
    """Half of the bytes to the owner of each half, and the sums back."""
    payload = bytearray(megabytes * 2**20 // 2)
    target = memoryview(bytearray(len(payload)))
    for _ in range(2):
        sender = threading.Thread(target=connection.sendall, args=(payload,))
        sender.start()
        done = 0
        while done < len(payload):
            done += connection.recv_into(target[done:])
        sender.join()


def lost_at(state: State) -> float:
    """Wait in a sum for a member that never comes; when its end was known, by the monotonic clock
    that all processes share.
    """
    world = state.group.world_size
    held = tuple(((rank,),) for rank in range(world))
    arrays = [np.ones(1000, np.float32)]
    try:
        state.group.all_reduce(
            {(state.group.rank,): arrays}, Sum(Layout.of(arrays), world, held, 1.0, 1)
        )
    except PeerLost:
        return time.monotonic()
    raise AssertionError("nobody was lost")


def notice_s(place: str, ranks: int, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds from SIGKILL of a member to PeerLost, of every survivor in each round; and to the end
    of its pipe, in each round.

    The kernel closes what a killed process has open when it has taken its memory apart, so the
    second is the part that isn't ours.
    """
    found: list[float] = []
    ended: list[float] = []
    for number in range(rounds):
        victim = number % ranks
        survivors = [rank for rank in range(ranks) if rank != victim]
        with Members(PLACES[place](ranks)) as members:
            members.join(1)
            for survivor in survivors:
                members.tell(survivor, lost_at)
            time.sleep(0.05)  # they wait in ``poll`` now
            killed = time.monotonic()
            members.signal(victim)
            members.wait_end(victim)
            ended.append(time.monotonic() - killed)
            found += [members.answer(survivor) - killed for survivor in survivors]
    return found, ended


def figures(directory: Path) -> Iterator[Figure]:
    """The figures, one after the other."""
    for place, ranks in (("memory", 3), ("sockets", 3), ("two a host", 4), ("one and the rest", 4)):
        taken_s, ended_s = notice_s(place, ranks, 15)
        behind = f"median {median(taken_s) * 1000:.2g} of {len(taken_s)}; its pipe ends after {spread(ended_s, 'ms', 1000)}"
        yield Figure(
            f"ms from SIGKILL to PeerLost, the worst, {place}",
            max(taken_s) * 1000,
            20.0,
            True,
            behind,
        )
    for megabytes in SIZES_MB:
        rounds = max(5, 400 // megabytes)
        with Members(PLACES["memory"](2)) as members:
            members.join(1)
            copies = members.each(copy_s, megabytes, rounds, members=[0])[0]
            sums = members.each(exchange_s, megabytes, rounds)[0]
            memory = sum(members.each(shared_bytes)) / 2**20
        with Members(PLACES["memory"](2)) as members:
            idle = sum(members.each(shared_bytes)) / 2**20
        behind = f"exchange {spread(sums, 'ms', 1000)}, copy {spread(copies, 'ms', 1000)}"
        yield Figure(
            f"exchange of {megabytes} MB by two over a copy in memory",
            median(sums) / median(copies),
            4.0,
            True,
            behind,
        )
        # Beside the arrays of both ranks themselves, which TensorFlow holds
        taken = memory - idle - 2 * megabytes
        yield Figure(
            f"memory of that exchange on the host, MB over 2 x {megabytes} + 64",
            taken / (2 * megabytes + 64),
            1.0,
            True,
            f"{taken:.0f} MB",
        )
    with Members(PLACES["sockets"](2)) as members:
        members.join(1)
        sums = members.each(exchange_s, 200, 5)[0]
    pair = socket_pair_s(200, 5)
    behind = f"exchange {spread(sums, 'ms', 1000)}, socket pair {spread(pair, 'ms', 1000)}"
    yield Figure(
        "200 MB over TCP, as a part of a socket pair's speed",
        median(pair) / median(sums),
        0.6,
        False,
        behind,
    )
