"""What keeps a long-lived cluster's head recoverable?

Rule: the head's tables go to a Redis with a volume of its own; only then does a driver on a worker
node survive the head. Inside a RayJob it helps little (each retry builds a new cluster), so there
it is left out.
"""

from __future__ import annotations

from launch.render.pods import (
    CONTAINER_SECURITY,
    POD_SECURITY,
    REDIS_SERVICE,
    Manifest,
    labels,
    redis_name,
)
from launch.render.spec import Deployment

REDIS_IMAGE = "redis:7.4.2-alpine3.21"
PASSWORD_SECRET, PASSWORD_KEY = "ray-redis", "password"


def _labels(deployment: Deployment) -> Manifest:
    return {**labels(deployment), "app.kubernetes.io/component": "redis"}


def redis_options(deployment: Deployment) -> Manifest:
    """The cluster's ``gcsFaultToleranceOptions``."""
    password = {"valueFrom": {"secretKeyRef": {"name": PASSWORD_SECRET, "key": PASSWORD_KEY}}}
    return {"redisAddress": f"$({REDIS_SERVICE}):6379", "redisPassword": password}


def redis_manifests(deployment: Deployment) -> list[Manifest]:
    """A Service and a StatefulSet of one Redis with a password and an append-only file."""
    metadata = {
        "name": redis_name(deployment),
        "namespace": deployment.namespace,
        "labels": _labels(deployment),
    }
    selector = {"app.kubernetes.io/name": deployment.name, "app.kubernetes.io/component": "redis"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "selector": selector,
            "ports": [{"name": "redis", "port": 6379, "protocol": "TCP"}],
        },
    }
    asked: Manifest = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "5Gi"}},
    }
    if deployment.storage_class:
        asked["storageClassName"] = deployment.storage_class
    claim = {"metadata": {"name": "data"}, "spec": asked}
    stateful_set = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata,
        "spec": {
            "serviceName": redis_name(deployment),
            "replicas": 1,
            "selector": {"matchLabels": selector},
            "template": {"metadata": {"labels": _labels(deployment)}, "spec": _pod(deployment)},
            "volumeClaimTemplates": [claim],
        },
    }
    return [service, stateful_set]


def _pod(deployment: Deployment) -> Manifest:
    del deployment
    amounts = {"cpu": "500m", "memory": "1Gi"}
    probe = {"tcpSocket": {"port": 6379}, "periodSeconds": 10}
    password = {"valueFrom": {"secretKeyRef": {"name": PASSWORD_SECRET, "key": PASSWORD_KEY}}}
    return {
        "automountServiceAccountToken": False,
        "securityContext": POD_SECURITY,
        "containers": [
            {
                "name": "redis",
                "image": REDIS_IMAGE,
                # The password stays out of the process list: Redis reads its configuration from
                # standard input.
                "command": [
                    "sh",
                    "-c",
                    'printf "requirepass %s\\nappendonly yes\\ndir /data\\n" "$REDIS_PASSWORD" | exec redis-server -',
                ],
                "env": [{"name": "REDIS_PASSWORD", **password}],
                "ports": [{"containerPort": 6379, "name": "redis"}],
                "resources": {"requests": dict(amounts), "limits": dict(amounts)},
                "securityContext": CONTAINER_SECURITY,
                "readinessProbe": probe,
                "livenessProbe": {**probe, "failureThreshold": 6},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }
        ],
    }
