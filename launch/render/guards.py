"""What keeps a run's Pods from being evicted all at once, and from being talked to by anybody?

Rule: budgets and policies find the Pods by the labels that every object of the deployment has.
"""

from __future__ import annotations

from launch.render.pods import Manifest, labels, metadata_of
from launch.render.spec import Deployment


def disruption_budgets(deployment: Deployment) -> list[Manifest]:
    """Both by ``minAvailable`` as a number: for ``maxUnavailable`` or a share Kubernetes asks the
    Pods' owner how many there should be, and a RayCluster has no scale subresource to tell.
    """
    main, standby = deployment.groups
    pods = main.replicas + standby.replicas
    # A drain of nodes has to get on: a run takes the loss of a worker, and moves by it
    kept = max(1, min(main.smallest, pods - 1))
    return [
        _budget(deployment, "head", 1),
        _budget(deployment, "worker", kept if pods > 1 else 0),
    ]


def _budget(deployment: Deployment, node: str, kept: int) -> Manifest:
    suffix = "-head" if node == "head" else "-workers"
    selector = {"matchLabels": {"ray.io/node-type": node, **labels(deployment)}}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata_of(deployment, suffix),
        "spec": {"minAvailable": kept, "selector": selector},
    }


def network_policy(deployment: Deployment) -> Manifest:
    """Lets in the run's own Pods, KubeRay's operator and Prometheus, nobody else."""
    ours = {"podSelector": {"matchLabels": labels(deployment)}}
    operator = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kuberay-system"}}
    }
    monitoring = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata_of(deployment),
        "spec": {
            "podSelector": {"matchLabels": labels(deployment)},
            "policyTypes": ["Ingress"],
            "ingress": [
                {"from": [ours]},
                {"from": [operator], "ports": [{"port": 8265, "protocol": "TCP"}]},
                {"from": [monitoring], "ports": [{"port": 8080, "protocol": "TCP"}]},
            ],
        },
    }
