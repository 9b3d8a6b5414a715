"""Is an address where no cluster answers told at once, with what was tried?"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from launch.doctor.nodes import connected
from orchestrator.config import parse_config
from orchestrator.driver.ray_link import RayLink
from orchestrator.errors import ConfigError, PlacementError
from orchestrator.workers.reach import ANSWER_S, CONNECT_S, reach

LIMIT_S = 10.0


@contextmanager
def listening(answer: bytes | None) -> Iterator[str]:
    """The address of a program that accepts, and answers with these bytes; with None it never says
    a word.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepted: list[socket.socket] = []

        def serve() -> None:
            connection, _ = server.accept()
            accepted.append(connection)
            if answer is not None:
                connection.recv(1000)
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join(5)
        for connection in accepted:
            connection.close()


def refused_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def test_reach_where_nobody_listens_says_which_port_was_tried() -> None:
    address = refused_address()
    with pytest.raises(
        PlacementError,
        match=f"tried TCP port {address.rpartition(':')[2]} of 127.0.0.1: Connection refused",
    ):
        reach(address, {})


def test_reach_of_a_name_that_nobody_knows_says_so() -> None:
    with pytest.raises(PlacementError, match=r"the name head\.invalid isn't known"):
        reach("head.invalid:6379", {})


def test_reach_of_another_program_says_so() -> None:
    with (
        listening(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address,
        pytest.raises(PlacementError, match="somebody else's program"),
    ):
        reach(address, {})


@pytest.mark.slow  # it waits
def test_reach_of_a_program_that_stands_still_ends_in_time() -> None:
    begun = time.monotonic()
    with listening(None) as address, pytest.raises(PlacementError, match="no answer within"):
        reach(address, {})
    assert time.monotonic() - begun < LIMIT_S
    assert CONNECT_S + ANSWER_S < LIMIT_S


def test_reach_of_a_server_that_speaks_http2_is_content() -> None:
    with listening(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])) as address:
        reach(address, {})


def test_reach_auto_follows_the_environment() -> None:
    with pytest.raises(PlacementError, match=r"\(RAY_ADDRESS\)"):
        reach("auto", {"RAY_ADDRESS": refused_address()})


@pytest.mark.parametrize("address", ["head", "head:port", ":6379", "tcp://head:6379", "head:99999"])
def test_reach_of_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(PlacementError, match="isn't the address of a Ray cluster"):
        reach(address, {})


def test_driver_with_a_dead_address_is_told_within_ten_seconds() -> None:
    begun = time.monotonic()
    link = RayLink(parse_config({"source": "s", "address": refused_address()}))
    with pytest.raises(PlacementError, match="tried TCP port"):
        link.wait()
    link.close()
    assert time.monotonic() - begun < LIMIT_S


def test_doctor_and_stop_of_a_dead_address_are_told_within_ten_seconds() -> None:
    begun = time.monotonic()
    with pytest.raises(PlacementError, match="tried TCP port"), connected(refused_address()):
        pass
    assert time.monotonic() - begun < LIMIT_S


def test_ray_client_address_is_refused_with_the_reason_and_the_way_that_works() -> None:
    for ask in (
        lambda: parse_config({"source": "s", "address": "ray://head:10001"}),
        lambda: connected("ray://h:1").__enter__(),
    ):
        with pytest.raises(
            ConfigError, match=r"ray:// \(Ray Client\) isn't supported: .*tfresume submit"
        ):
            ask()


@pytest.mark.ray
def test_reach_of_a_real_cluster_is_content(ray_address: str) -> None:
    reach(ray_address, {})
