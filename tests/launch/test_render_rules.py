"""Is each rule that a manifest could break told by its name?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from launch.render.rules import violations
from tests.launch.test_render import cluster_of, first_worker, spot_job

BROKEN: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "mode": (lambda item: item["spec"].update(submissionMode="Job"), "submissionMode"),
    "name": (lambda item: item["metadata"].update(name="x" * 48), "47 characters"),
    "selector": (lambda item: item["spec"].update(clusterSelector={"a": "b"}), "clusterSelector"),
    "interactive": (
        lambda item: item["spec"].update(submissionMode="InteractiveMode"),
        "InteractiveMode",
    ),
    "ttl": (
        lambda item: item["spec"].update(shutdownAfterJobFinishes=False),
        "shutdownAfterJobFinishes",
    ),
    "entrypoint": (lambda item: item["spec"].update(entrypoint=""), "entrypoint"),
    "alpha": (lambda item: cluster_of(item).update(networkPolicy={}), "alpha"),
    "rocksdb": (
        lambda item: cluster_of(item).update(gcsFaultToleranceOptions={"backend": "rocksdb"}),
        "RocksDB",
    ),
    "no auth": (lambda item: cluster_of(item).pop("authOptions"), "remote code execution"),
    "old ray": (lambda item: cluster_of(item).update(rayVersion="2.51.0"), "2.52"),
    "restart": (
        lambda item: first_worker(item)["template"]["spec"].update(restartPolicy="Always"),
        "restartPolicy Never",
    ),
    "numbers": (
        lambda item: first_worker(item)["rayStartParams"].update({"num-cpus": 1}),
        "strings",
    ),
    "replicas": (lambda item: first_worker(item).pop("replicas"), "write replicas"),
    "order": (lambda item: first_worker(item).update(replicas=99), "minReplicas <= replicas"),
    "kueue": (
        lambda item: item["metadata"]["labels"].update({"kueue.x-k8s.io/queue-name": "q"}),
        "Kueue",
    ),
    "root": (lambda item: first_worker(item)["template"]["spec"].pop("securityContext"), "root"),
    "grace": (
        lambda item: first_worker(item)["template"]["spec"].update(
            terminationGracePeriodSeconds=20
        ),
        "killed after 20 s",
    ),
    "requests": (
        lambda item: _container(item)["resources"].pop("limits"),
        "requests must equal limits",
    ),
    "writable": (lambda item: _container(item).pop("securityContext"), "read-only root"),
    "image": (lambda item: _container(item).update(image="tf resume:1"), "can pull"),
    "case": (lambda item: item["metadata"].update(name="Run_7"), "small letters"),
    "namespace": (lambda item: item["metadata"].update(namespace="a.b"), "no namespace"),
    "latest": (lambda item: _container(item).update(image="tfresume:latest"), "isn't pinned"),
    "preStop": (lambda item: _container(item).update(lifecycle={"preStop": {}}), "preStop"),
}


def _container(item: dict[str, Any]) -> dict[str, Any]:
    return first_worker(item)["template"]["spec"]["containers"][0]


@pytest.mark.parametrize("fault", BROKEN)
def test_violations_of_a_broken_manifest_name_the_rule(fault: str) -> None:
    breaks, said = BROKEN[fault]
    item = spot_job()
    breaks(item)
    assert any(said in text for text in violations([item])), violations([item])
