"""Is Ray connected with while the driver reads, told by what can be done where it isn't there, and
left as it was found?
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.config import RunConfig, parse_config
from orchestrator.driver import ray_link
from orchestrator.driver.ray_link import ADDRESS_FILE, RayLink
from orchestrator.errors import PlacementError

WITHIN_S = 20.0
"""It takes milliseconds; what never comes is waited for so long."""
QUIET = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}


class FakeRay:
    """Ray, as far as a connection is made and given up."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.is_there = False
        self.answers: Callable[[], None] = lambda: None
        self.thread: threading.Thread | None = None

    def is_initialized(self) -> bool:
        return self.is_there

    def init(self, **options: Any) -> None:
        self.thread = threading.current_thread()
        self.done.append(("init", options))
        self.answers()

    def shutdown(self) -> None:
        self.done.append("shutdown")

    def reach(self, address: str) -> None:
        self.done.append(("reach", address))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    found = FakeRay()
    monkeypatch.setattr(ray_link, "ray", found)
    monkeypatch.setattr(ray_link, "reach", found.reach)
    monkeypatch.setattr(ray_link, "CONNECT_S", WITHIN_S)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.delenv(ADDRESS_FILE, raising=False)
    return found


def config(**settings: Any) -> RunConfig:
    return parse_config({"source": "s", **settings})


@pytest.mark.parametrize(
    ("workers", "machine", "cpus"),
    [
        ({"count": 1}, 2, 2),
        ({"count": 1, "max": 3, "standby": 2}, 2, 5),
        ({"count": 3, "cpus": 1.5}, 2, 5),
        ({"count": 1}, None, 1),
    ],
)
def test_local_ray_is_started_with_a_cpu_for_each_that_was_asked_for(
    fake: FakeRay,
    monkeypatch: pytest.MonkeyPatch,
    workers: dict[str, Any],
    machine: int | None,
    cpus: int,
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: machine)
    link = RayLink(config(workers=workers))
    link.wait()
    assert link.starts_a_ray
    local = {"address": "local", "num_cpus": cpus, "include_dashboard": False}
    assert fake.done == [("init", local | QUIET)]
    link.close()
    assert fake.done[1:] == ["shutdown"]


def test_cluster_is_looked_for_before_ray_is_asked_to_connect(fake: FakeRay) -> None:
    link = RayLink(config(address="head:6379"))
    link.wait()
    assert not link.starts_a_ray
    assert fake.done == [("reach", "head:6379"), ("init", {"address": "head:6379"} | QUIET)]
    link.close()
    assert fake.done[2:] == ["shutdown"]


def test_ray_that_was_connected_before_is_used_and_left_connected(fake: FakeRay) -> None:
    fake.is_there = True
    link = RayLink(config())
    link.wait()
    link.close()
    assert fake.done == []
    assert not link.starts_a_ray


def test_thread_that_started_a_ray_lives_as_long_as_that_and_keeps_no_process_alive(
    fake: FakeRay,
) -> None:
    """A local Ray's processes die with the thread that started them."""
    link = RayLink(config())
    link.wait()
    thread = fake.thread
    assert thread is not None
    assert (thread.name, thread.daemon, thread.is_alive()) == ("tfresume-ray", True, True)
    link.close()
    thread.join(WITHIN_S)
    assert not thread.is_alive()


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once the supervisor's file has been looked for."""
    found = threading.Event()

    class Looked(type(Path())):  # type: ignore[misc]
        def exists(self, **_: Any) -> bool:
            found.set()
            return super().exists()

    monkeypatch.setattr(ray_link, "Path", Looked)
    return found


@pytest.mark.parametrize("is_late", [False, True])
def test_ray_that_the_supervisor_starts_is_taken_where_it_says(
    fake: FakeRay,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    looked: threading.Event,
    is_late: bool,
) -> None:
    file = tmp_path / "address"
    monkeypatch.setenv(ADDRESS_FILE, str(file))
    if not is_late:
        file.write_text(" 10.0.0.1:6379\n")
    link = RayLink(config())
    assert looked.wait(WITHIN_S)
    if is_late:
        file.with_suffix(".new").write_text("10.0.0.1:6379")
        file.with_suffix(".new").rename(file)
    link.wait()
    assert fake.done == [("init", {"address": "10.0.0.1:6379"} | QUIET)]
    link.close()


@pytest.mark.parametrize("is_closed", [False, True])
def test_supervisor_that_never_says_where_its_ray_is_is_told_by_its_file(
    fake: FakeRay,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    looked: threading.Event,
    is_closed: bool,
) -> None:
    monkeypatch.setattr(ray_link, "CONNECT_S", WITHIN_S if is_closed else 0.05)
    file = tmp_path / "address"
    monkeypatch.setenv(ADDRESS_FILE, str(file))
    link = RayLink(config())
    assert looked.wait(WITHIN_S)  # its deadline is set by then
    monkeypatch.setattr(ray_link, "CONNECT_S", WITHIN_S)
    if is_closed:
        link.close()
    with pytest.raises(PlacementError) as failed:
        link.wait()
    assert failed.value.message == (
        f"the local Ray can't be used: TimeoutError: no local Ray has told its address in {file}"
    )
    assert not any(each[0] == "init" for each in fake.done)
    link.close()


CHECK = "Check --address with `ray status`"
BUSY = "Is the machine busy or /tmp full? Try again; `tfresume doctor` looks"


@pytest.mark.parametrize(
    ("address", "where", "remedy"),
    [(None, "the local Ray", BUSY), ("head:6379", "head:6379", CHECK)],
)
def test_ray_that_cannot_be_used_is_told_with_what_to_do(
    fake: FakeRay, address: str | None, where: str, remedy: str
) -> None:
    def fails() -> None:
        raise ConnectionError("no route")

    fake.answers = fails
    link = RayLink(config(address=address))
    with pytest.raises(PlacementError) as failed:
        link.wait()
    assert failed.value.message == f"{where} can't be used: ConnectionError: no route"
    assert failed.value.remedy == remedy
    assert isinstance(failed.value.__cause__, ConnectionError)
    link.close()
    assert fake.done[-1] == "shutdown"


def test_refusal_of_ones_own_is_told_as_it_is(
    fake: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = PlacementError("nobody listens there", remedy="Start one")

    def refuses(_: str) -> None:
        raise refusal

    monkeypatch.setattr(ray_link, "reach", refuses)
    link = RayLink(config(address="head:6379"))
    with pytest.raises(PlacementError) as failed:
        link.wait()
    assert failed.value is refusal
    link.close()


@pytest.mark.parametrize(
    ("address", "where", "waited"), [(None, "the local Ray", 0.02), ("head:6379", "head:6379", 0.0)]
)
def test_ray_that_says_nothing_is_not_waited_for_for_ever(
    fake: FakeRay,
    monkeypatch: pytest.MonkeyPatch,
    address: str | None,
    where: str,
    waited: float,
) -> None:
    go_on = threading.Event()

    def answers() -> None:
        go_on.wait(WITHIN_S)

    fake.answers = answers
    link = RayLink(config(address=address))
    monkeypatch.setattr(ray_link, "CONNECT_S", 0.02)
    monkeypatch.setattr(ray_link, "CLOSE_S", 0.0)
    with pytest.raises(PlacementError) as failed:
        link.wait()
    assert failed.value.message == f"{where} hasn't answered for 0 s"
    assert failed.value.remedy == (BUSY if address is None else CHECK)
    waits: list[float] = []
    done = SimpleNamespace(wait=lambda for_s: waits.append(for_s), set=lambda: None)
    monkeypatch.setattr(link, "_done", done)
    link.close()
    assert waits == [waited]
    assert "shutdown" not in fake.done  # it would wait for the connection that is being made
    go_on.set()
