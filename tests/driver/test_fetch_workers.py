"""Are the workers of an evaluator put on the node that it asks for?"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.exceptions import ActorDiedError, RayTaskError

from orchestrator.config import parse_config
from orchestrator.driver import fetch_workers
from orchestrator.driver.fetch_workers import AGAIN, actors, connected, needs_of
from orchestrator.driver.inference import ANYWHERE, NodeWish
from orchestrator.errors import FatalError, WorkerLost

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

    with pytest.raises(FatalError, match="a worker that fetched tensors failed: KeyError: 'x'"):
        answer(RayTaskError("fetch", "Traceback", KeyError("x")).as_instanceof_cause())
    with pytest.raises(WorkerLost, match="was lost 4 times"):
        answer(ActorDiedError())


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
