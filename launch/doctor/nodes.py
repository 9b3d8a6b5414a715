"""How are all nodes of a cluster asked?

Rule: one small actor without resources on every node, so that a full cluster answers too; a
deadline for each, since an actor on a node that is going away stays pending for ever. What doesn't
answer is a finding.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from launch.doctor.facts import NodeFacts, gather
from orchestrator.config import NO_RAY_CLIENT
from orchestrator.errors import ConfigError
from orchestrator.redaction import redacted
from orchestrator.workers.reach import reach

ANSWER_DEADLINE_S = 180.0
"""A probe imports TensorFlow (``facts.PROBE_TIMEOUT_S``), after a worker process was started for
it, all nodes side by side.
"""


def refuse_dead(address: str) -> None:
    """Raises ConfigError where no cluster can answer, within ten seconds."""
    if address.startswith("ray://"):
        raise ConfigError(NO_RAY_CLIENT, remedy="Give HOST:PORT, or auto on a node of the cluster")
    reach(address)


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray, connected to a running cluster.

    Raises:
        ConfigError: no cluster answers there.
    """
    refuse_dead(address)
    import ray

    try:
        ray.init(
            address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False
        )
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise ConfigError(
            f"no Ray cluster answers at {redacted(address)}: {redacted(str(error)).splitlines()[0]}",
            remedy="Give a running cluster's address (auto, HOST:PORT), or its job server's http://HEAD:8265",
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def ask_nodes(
    ray: Any, url: str | None = None, deadline_s: float = ANSWER_DEADLINE_S
) -> tuple[NodeFacts, ...]:
    """The facts of every living node of the connected cluster."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    class Asker:
        def gather(self, url: str | None) -> NodeFacts:
            return gather(url)

        def time(self) -> float:
            return time.time()

    remote = ray.remote(num_cpus=0, max_restarts=0)(Asker)
    living = [node for node in ray.nodes() if node["Alive"]]
    askers = {
        node["NodeID"]: remote.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote()
        for node in living
    }
    asked = {node_id: asker.gather.remote(url) for node_id, asker in askers.items()}
    end = time.monotonic() + deadline_s
    return told_apart(
        [_answer(ray, node, askers[node["NodeID"]], asked[node["NodeID"]], end) for node in living]
    )


def told_apart(nodes: Sequence[NodeFacts]) -> tuple[NodeFacts, ...]:
    """The nodes with a name each: several on one host are told apart by the beginning of Ray's
    identifier.
    """
    hosts = Counter(node.host for node in nodes)
    return tuple(
        replace(node, host=f"{node.host}/{node.node_id[:8]}") if hosts[node.host] > 1 else node
        for node in nodes
    )


def _answer(ray: Any, node: dict[str, Any], asker: Any, asked: Any, end: float) -> NodeFacts:
    resources = node.get("Resources", {})
    known = {
        "node_id": node["NodeID"],
        "ray_cpus": float(resources.get("CPU", 0)),
        "ray_gpus": float(resources.get("GPU", 0)),
    }
    try:
        facts: NodeFacts = ray.get(asked, timeout=max(1.0, end - time.monotonic()))
        before = time.time()
        theirs = ray.get(asker.time.remote(), timeout=10)
        after = time.time()
    except (ray.exceptions.RayError, TimeoutError) as error:
        said = redacted(str(error)).strip().splitlines()
        return NodeFacts(
            host=node.get("NodeManagerHostname", "?"),
            error=said[-1] if said else type(error).__name__,
            **known,
        )
    finally:
        ray.kill(asker)
    return replace(
        facts,
        clock_offset_s=theirs - (before + after) / 2,
        clock_error_s=(after - before) / 2,
        **known,
    )
