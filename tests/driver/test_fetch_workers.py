"""Are the workers of an evaluator put on the node that it asks for, and does each have its share?"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.exceptions import ActorDiedError, RayTaskError

from orchestrator.config import RunConfig, parse_config
from orchestrator.driver import fetch_workers, inference
from orchestrator.driver.fetch_workers import (
    AGAIN,
    Fetcher,
    actors,
    asked_of_ray,
    connected,
    needs_of,
)
from orchestrator.driver.inference import ANYWHERE, BatchValues, NodeWish
from orchestrator.errors import FatalError, PlacementError, UserCodeError, WorkerLost
from orchestrator.store.objects.private import private_directory

pytestmark = pytest.mark.turns(32, "whole runs")

PLACE = NodeWish({"evaluator": 0.5}, {"role": "evaluator"})


def test_actor_asks_for_a_workers_resources_and_the_place() -> None:
    config = parse_config({"source": "s", "workers": {"count": 2, "cpus": 0.5, "gpus": 1}})
    plain = {"num_cpus": 0.5, "num_gpus": 1, "max_restarts": AGAIN, "max_task_retries": AGAIN}
    assert needs_of(config, ANYWHERE) == plain
    assert needs_of(config, PLACE) == plain | {
        "resources": {"evaluator": 0.5},
        "label_selector": {"role": "evaluator"},
    }


def test_what_a_worker_raises_is_no_lost_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(error: Exception) -> None:
        def get(_: object) -> None:
            raise error

        monkeypatch.setattr(ray, "get", get)
        fetch_workers._answer(object(), None)

    with pytest.raises(FatalError) as failed:
        answer(RayTaskError("fetch", "Traceback", KeyError("x")).as_instanceof_cause())
    assert failed.value.message == "a worker that fetched tensors failed: KeyError: 'x'"
    assert failed.value.remedy == (
        "Look at its node with `tfresume doctor`: what runs there has to be what runs here"
    )
    with pytest.raises(WorkerLost) as lost:
        answer(ActorDiedError())
    assert lost.value.message.startswith("a worker that fetched tensors was lost 4 times: Actor")
    assert lost.value.remedy == (
        "Look at its node's memory (`tfresume doctor`), or use more workers"
    )


class Ref:
    """A promise of one of an actor's answers."""

    def __init__(self, actor: FakeActor, call: str, given: tuple[Any, ...]) -> None:
        self.actor, self.call, self.given = actor, call, given


class FakeActor:
    """An actor that was asked for; ``.here.remote()`` and ``.fetch.remote(...)`` give a ``Ref``."""

    def __init__(self, number: int) -> None:
        self.number = number
        for call in ("here", "fetch"):
            asked = SimpleNamespace(remote=partial(self._asked, call))
            setattr(self, call, asked)

    def _asked(self, call: str, *given: Any) -> Ref:
        return Ref(self, call, given)


class FakeRay:
    """Ray, whose actors give the number of their rank's task, the last one first."""

    exceptions = ray.exceptions

    def __init__(self) -> None:
        self.done: list[str] = []
        self.actors: list[FakeActor] = []
        self.needs: list[dict[str, Any]] = []
        self.has_room = True
        self.answer: Any = None
        self.waited: list[float | None] = []
        self.fetches: list[Ref] = []

    def remote(self, **needs: Any) -> Callable[[type], Any]:
        self.needs.append(needs)

        def made(kind: type) -> Any:
            assert kind is Fetcher
            return SimpleNamespace(remote=self._started)

        return made

    def _started(self) -> FakeActor:
        self.actors.append(FakeActor(len(self.actors)))
        return self.actors[-1]

    def wait(self, refs: list[Ref], timeout: float | None = None) -> tuple[list[Ref], list[Ref]]:
        self.waited.append(timeout)
        if timeout is None:
            self.done.append(f"waits for {len(refs)}")
            return [refs[-1]], refs[:-1]
        assert [ref.call for ref in refs] == ["here"] * len(refs)
        return (refs[:1], refs[1:]) if self.has_room else ([], refs)

    def get(self, ref: Ref) -> Any:
        self.fetches.append(ref)
        return self.answer or [BatchValues(ref.actor.number, 0, {})]

    def kill(self, actor: FakeActor, *, no_restart: bool) -> None:
        assert no_restart
        self.done.append(f"ends {actor.number}")


class FakeLink:
    """A connection, as it's made and given up."""

    def __init__(self, done: list[str]) -> None:
        self.done = done

    def wait(self) -> None:
        self.done.append("is connected")

    def close(self) -> None:
        self.done.append("is disconnected")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    found = FakeRay()
    monkeypatch.setattr(fetch_workers, "ray", found)

    def linked(asked: RunConfig) -> FakeLink:
        found.done.append(f"connects for {asked.source}")
        return FakeLink(found.done)

    monkeypatch.setattr(fetch_workers, "RayLink", linked)
    return found


TWO = parse_config({"source": "s", "workers": {"count": 2, "cpus": 0.5, "gpus": 0.25}})
CONNECTED = ["connects for s", "is connected"]


def test_each_task_has_an_actor_that_ends_with_its_answer(
    fake: FakeRay, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["/one", "", "/two"])
    found = asked_of_ray([{"rank": 0}, {"rank": 1}], ("a file",), TWO, PLACE)
    assert found == [[BatchValues(1, 0, {})], [BatchValues(0, 0, {})]]
    assert fake.done == [
        *(*CONNECTED, "waits for 2", "ends 1", "waits for 1", "ends 0"),
        *("ends 0", "ends 1", "is disconnected"),
    ]
    assert fake.needs == [needs_of(TWO, PLACE)] * 2
    assert [ref.given for ref in fake.fetches] == [
        ({"rank": rank}, ("a file",), ["/one", "/two"], str(tmp_path)) for rank in (1, 0)
    ]


def test_error_that_an_actor_gives_is_raised_and_ends_all(fake: FakeRay) -> None:
    fake.answer = UserCodeError("no batch fits")
    with pytest.raises(UserCodeError, match="no batch fits"):
        asked_of_ray([{"rank": 0}, {"rank": 1}], (), TWO, ANYWHERE)
    assert fake.done[-4:] == ["ends 1", "ends 0", "ends 1", "is disconnected"]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (ANYWHERE, "0.5 CPUs, 0.25 GPUs"),
        (PLACE, "0.5 CPUs, 0.25 GPUs, 0.5 evaluator, label role=evaluator"),
    ],
)
def test_cluster_without_room_for_the_first_is_told_with_what_was_asked_for(
    fake: FakeRay, place: NodeWish, said: str
) -> None:
    fake.has_room = False
    with pytest.raises(PlacementError) as refused:
        asked_of_ray([{"rank": 0}, {"rank": 1}], (), TWO, place)
    assert refused.value.message == f"no node had room within 300 s for a worker with {said}"
    assert refused.value.remedy == "Compare it with `ray status`, and ask for less"
    assert fake.done == [*CONNECTED, "ends 0", "ends 1", "is disconnected"]
    assert fake.waited == [fetch_workers.ROOM_S]


class Here:
    """What an actor does beside its process: the environment in which it asks."""

    def __init__(self) -> None:
        self.given: tuple[Any, ...] = ()
        self.directory = self.path = ""
        self.fails: Exception | None = None

    def asked_here(self, *given: Any) -> list[BatchValues]:
        self.given, self.directory = given, os.getcwd()
        self.path = os.environ["PYTHONPATH"]
        if self.fails is not None:
            raise self.fails
        return [BatchValues(0, 4, {})]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Here:
    found = Here()
    monkeypatch.chdir(tmp_path)  # also what puts it back
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.setattr(inference, "asked_here", found.asked_here)
    monkeypatch.setattr(sys, "path", ["", "/own", "/drivers"])
    return found


@pytest.mark.parametrize("is_there", [True, False])
def test_actor_asks_where_the_driver_is_and_finds_what_the_driver_finds(
    here: Here, tmp_path: Path, is_there: bool
) -> None:
    place = tmp_path / "of the driver"
    if is_there:
        place.mkdir()
    found = Fetcher().fetch({"rank": 1}, ("a file",), ["/drivers", "/more"], str(place))
    assert found == [BatchValues(0, 4, {})]
    assert here.given == ({"rank": 1}, ("a file",), private_directory("tfresume-cache"))
    assert here.directory == str(place if is_there else tmp_path)
    assert here.path == os.pathsep.join(["/drivers", "/more", "/own"])


def test_error_of_ones_own_is_an_answer_and_another_is_not(here: Here) -> None:
    here.fails = error = UserCodeError("no batch fits")
    assert Fetcher().fetch({}, (), [], "/nowhere") is error
    here.fails = KeyError("x")
    with pytest.raises(KeyError):
        Fetcher().fetch({}, (), [], "/nowhere")


def test_actor_says_on_which_node_it_is(fake: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    node = SimpleNamespace(get_node_id=lambda: 0xBE)
    monkeypatch.setattr(fake, "get_runtime_context", lambda: node, raising=False)
    assert Fetcher().here() == "190"


@pytest.fixture
def two_nodes() -> Iterator[tuple[str, str]]:
    """A cluster whose second node is the evaluator's: the address, and that node."""
    small = {"include_dashboard": False, "object_store_memory": 100 * 1024 * 1024}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, **small})
    own = cluster.add_node(num_cpus=2, resources={"evaluator": 1}, labels={"role": "evaluator"})
    try:
        yield cluster.address, own.node_id
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.ray
@pytest.mark.slow
def test_actors_are_on_the_evaluators_own_node(two_nodes: tuple[str, str]) -> None:
    address, own = two_nodes
    config = parse_config({"source": "s", "address": address, "workers": {"count": 2, "cpus": 0.5}})
    with connected(config), actors(2, config, PLACE) as found:
        nodes = ray.get([actor.here.remote() for actor in found])
        assert nodes == [own, own]
