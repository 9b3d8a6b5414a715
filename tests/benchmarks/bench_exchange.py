"""How long does an exchange take, against a plain copy of the same bytes, and how much memory does it need?"""

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
    source, target = np.ones(megabytes * 2**20 // 4, np.float32), np.empty(megabytes * 2**20 // 4, np.float32)
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
    """Seconds for as many bytes in both directions at once between two processes over loopback, all that a sum of two ranks moves."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = multiprocessing.get_context("spawn").Process(target=_other_side, args=(server.getsockname(), megabytes, rounds))
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


def figures(directory: Path) -> Iterator[Figure]:
    """The figures, one after the other."""
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
        yield Figure(f"exchange of {megabytes} MB by two over a copy in memory", median(sums) / median(copies), 4.0, True, behind)
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
    yield Figure("200 MB over TCP, as a part of a socket pair's speed", median(pair) / median(sums), 0.6, False, behind)
