"""How is a Pod of this project written down?

Rule: every container is non-root with a read-only root file system and no capabilities, and what it
may write to is a volume of stated size. Secrets are named, never contained.
"""

from __future__ import annotations

from typing import Any

from launch.render.spec import Deployment, Shape, WorkerGroup

HEAD_DRAIN_S, HEAD_GRACE_S = 60, 90
"""A job that is stopped has a minute for its last save, as Ray's job server waits for it
(RAY_JOB_STOP_WAIT_TIME_S); its Pod half a minute more, in which Ray ends.
"""
SPOT_DRAIN_S, SPOT_GRACE_S = 20, 25  # GKE and EC2 give a spot Pod about 25 s that can be relied on
LAST_WORDS_S = 5
"""Taken off the time for the last save (TFRESUME_GRACE_S): what is left to end the workers and to
write the journal's last lines.
"""
USER_ID, GROUP_ID = 1000, 1000
"""The user that the Dockerfile makes."""
HOME = "/home/tfresume"
CONFIG_PATH = "/etc/tfresume"
HEAD_SHAPE = Shape(cpus=4, memory_gib=8)
SUBMITTER_SHAPE = Shape(cpus=1, memory_gib=1)
TOKEN_SECRET, TOKEN_KEY = "ray-token", "auth_token"

Manifest = dict[str, Any]

POD_SECURITY: Manifest = {
    "runAsNonRoot": True,
    "runAsUser": USER_ID,
    "runAsGroup": GROUP_ID,
    "fsGroup": GROUP_ID,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY: Manifest = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def labels(deployment: Deployment) -> Manifest:
    """The labels by which Services, budgets and policies find this deployment's Pods."""
    return {"app.kubernetes.io/name": deployment.name, "app.kubernetes.io/part-of": "tfresume"}


def resources(shape: Shape) -> Manifest:
    """Requests equal to limits."""
    amounts: Manifest = {"cpu": str(shape.cpus), "memory": f"{shape.memory_gib}Gi"}
    if shape.gpus:
        amounts["nvidia.com/gpu"] = str(shape.gpus)
    return {"requests": dict(amounts), "limits": dict(amounts)}


def environment(deployment: Deployment, *, drain_s: int | None = None) -> list[Manifest]:
    """The variables of every container: where it may write, how long it drains, and which storage
    settings hold.
    """
    values = {
        "HOME": HOME,
        "RAY_USAGE_STATS_ENABLED": "0",
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    }
    if drain_s is not None:
        values["RAY_JOB_STOP_WAIT_TIME_S"] = str(HEAD_DRAIN_S)
        values["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] = str(drain_s)
        # How long a driver that gets SIGTERM may take for its last save, before Ray or the kubelet
        # ends it
        values["TFRESUME_GRACE_S"] = str(drain_s - LAST_WORDS_S)
    if deployment.storage == "s3":
        values["AWS_DEFAULT_REGION"] = "REGION"
    return [{"name": name, "value": value} for name, value in values.items()]


def secret_environment(deployment: Deployment) -> list[Manifest]:
    """Secrets that become variables, by reference. S3 keys are optional there: a role needs none."""
    if deployment.storage != "s3":
        return []
    return [{"secretRef": {"name": f"{deployment.name}-s3", "optional": True}}]


def probes(*paths: str) -> Manifest:
    """Readiness and liveness over Ray's own health addresses, which need no token."""
    check: Manifest = {
        "httpGet": {"path": paths[0], "port": int(paths[1])},
        "periodSeconds": 10,
        "timeoutSeconds": 5,
    }
    return {
        "readinessProbe": {**check, "failureThreshold": 6},
        "livenessProbe": {**check, "initialDelaySeconds": 60, "failureThreshold": 12},
    }


def volumes(shape: Shape) -> list[Manifest]:
    """Everything that a container may write to, each with its limit."""
    return [
        {"name": "tmp", "emptyDir": {"sizeLimit": f"{shape.scratch_gib}Gi"}},
        {"name": "home", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{shape.shm_gib}Gi"}},
    ]


MOUNTS: list[Manifest] = [
    {"name": "tmp", "mountPath": "/tmp"},
    {"name": "home", "mountPath": HOME},
    {"name": "dshm", "mountPath": "/dev/shm"},
]
CONFIG_MOUNT: Manifest = {"name": "config", "mountPath": CONFIG_PATH, "readOnly": True}


def config_volume(deployment: Deployment) -> Manifest:
    """The run's configuration file."""
    return {"name": "config", "configMap": {"name": f"{deployment.name}-run"}}


def _container(deployment: Deployment, name: str, shape: Shape, drain_s: int) -> Manifest:
    container: Manifest = {
        "name": name,
        "image": deployment.image,
        "env": environment(deployment, drain_s=drain_s),
        "resources": resources(shape),
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": list(MOUNTS),
    }
    if references := secret_environment(deployment):
        container["envFrom"] = references
    return container


def head_template(deployment: Deployment) -> Manifest:
    """The head's Pod: the driver runs here, no worker does, and the autoscaler beside it may use
    the API server.
    """
    container = _container(deployment, "ray-head", HEAD_SHAPE, HEAD_DRAIN_S)
    container["ports"] = [
        {"containerPort": 6379, "name": "gcs-server"},
        {"containerPort": 8265, "name": "dashboard"},
        {"containerPort": 10001, "name": "client"},
        {"containerPort": 8080, "name": "metrics"},
    ]
    container["volumeMounts"] = [*MOUNTS, CONFIG_MOUNT]
    container |= probes("/api/local_raylet_healthz", "52365")
    spec: Manifest = {
        "serviceAccountName": deployment.name,
        "automountServiceAccountToken": True,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": HEAD_GRACE_S,
        "securityContext": POD_SECURITY,
        "containers": [container],
        "volumes": [*volumes(HEAD_SHAPE), config_volume(deployment)],
    }
    if deployment.spot:
        spec["affinity"] = _not_on_spot()
    if deployment.storage == "gcs":
        spec["nodeSelector"] = {"iam.gke.io/gke-metadata-server-enabled": "true"}
    annotations = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", **_scraped()}
    return {"metadata": {"labels": labels(deployment), "annotations": annotations}, "spec": spec}


def worker_template(deployment: Deployment, group: WorkerGroup) -> Manifest:
    """A worker's Pod."""
    drain_s, grace_s = (SPOT_DRAIN_S, SPOT_GRACE_S) if group.spot else (HEAD_DRAIN_S, HEAD_GRACE_S)
    container = _container(deployment, "ray-worker", group.shape, drain_s)
    container["ports"] = [{"containerPort": 8080, "name": "metrics"}]
    container |= probes("/api/local_raylet_healthz", "52365")
    spec: Manifest = {
        "serviceAccountName": deployment.name,
        "automountServiceAccountToken": False,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": grace_s,
        "securityContext": POD_SECURITY,
        "containers": [container],
        "volumes": volumes(group.shape),
    }
    if tolerations := _tolerations(group):
        spec["tolerations"] = tolerations
    if selector := _node_selector(deployment, group):
        spec["nodeSelector"] = selector
    if deployment.spot and not group.spot:
        spec["affinity"] = _not_on_spot()
    return {"metadata": {"labels": labels(deployment), "annotations": _scraped()}, "spec": spec}


def _scraped() -> Manifest:
    return {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"}


def _tolerations(group: WorkerGroup) -> list[Manifest]:
    found: list[Manifest] = []
    if group.shape.gpus:
        found.append({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"})
    if group.spot:
        found.append(
            {
                "key": "cloud.google.com/gke-spot",
                "operator": "Equal",
                "value": "true",
                "effect": "NoSchedule",
            }
        )
    return found


def _node_selector(deployment: Deployment, group: WorkerGroup) -> Manifest:
    found: Manifest = {}
    if group.shape.gpus:
        found["cloud.google.com/gke-accelerator"] = "nvidia-l4"
    if group.spot:
        found["cloud.google.com/gke-spot"] = "true"
    if deployment.storage == "gcs":
        found["iam.gke.io/gke-metadata-server-enabled"] = "true"
    return found


def _not_on_spot() -> Manifest:
    away = [{"key": "cloud.google.com/gke-spot", "operator": "DoesNotExist"}]
    return {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": away}]
            }
        }
    }
