"""How is a Pod of this project written down?

Rule: every container is non-root with a read-only root file system and no capabilities, and what it
may write to is a volume of stated size. Secrets are named, never contained.
"""

from __future__ import annotations

from typing import Any

from launch.render.spec import Deployment, Shape, WorkerGroup
from orchestrator.journal.run_events import OUTER_ATTEMPT

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
CODE_PATH = "/etc/tfresume-code"
HEAD_SHAPE = Shape(cpus=4, memory_gib=8)
SUBMITTER_SHAPE = Shape(cpus=1, memory_gib=1)
TOKEN_SECRET, TOKEN_KEY = "ray-token", "auth_token"
REDIS_SERVICE = "TFRESUME_REDIS_SERVICE"
"""Variable of the head's container; KubeRay puts the address that refers to it behind it."""

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


def metadata_of(deployment: Deployment, suffix: str = "") -> Manifest:
    """Name, namespace and labels of one of the deployment's objects."""
    return {
        "name": deployment.name + suffix,
        "namespace": deployment.namespace,
        "labels": labels(deployment),
    }


def pod_labels(deployment: Deployment) -> Manifest:
    """The labels of a Pod: those, and what a cloud's own webhook looks for."""
    found = labels(deployment)
    if deployment.storage == "azure":
        found["azure.workload.identity/use"] = "true"
    return found


def redis_name(deployment: Deployment) -> str:
    """Of a long-lived cluster's Redis: its Service and its StatefulSet."""
    return f"{deployment.name}-redis"


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
    if deployment.region:
        values["AWS_DEFAULT_REGION"] = deployment.region
    if deployment.account:
        values["AZURE_STORAGE_ACCOUNT_NAME"] = deployment.account
    if deployment.code:
        values["PYTHONPATH"] = CODE_PATH
    found: list[Manifest] = [{"name": name, "value": value} for name, value in values.items()]
    if drain_s is not None:
        # KubeRay numbers its tries by nothing, but builds a cluster of another name for each
        tried = {"fieldRef": {"fieldPath": "metadata.labels['ray.io/cluster']"}}
        found.append({"name": OUTER_ATTEMPT, "valueFrom": tried})
    return found


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


def volumes(deployment: Deployment, shape: Shape) -> list[Manifest]:
    """Everything that a container may write to, each with its limit, and what it reads."""
    found: list[Manifest] = [
        {"name": "tmp", "emptyDir": {"sizeLimit": f"{shape.scratch_gib}Gi"}},
        {"name": "home", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{shape.shm_gib}Gi"}},
        {"name": "config", "configMap": {"name": f"{deployment.name}-run"}},
    ]
    if deployment.code:
        found.append({"name": "code", "configMap": {"name": f"{deployment.name}-code"}})
    if deployment.storage == "pvc":
        claim = deployment.claim or f"{deployment.name}-data"
        found.append({"name": "data", "persistentVolumeClaim": {"claimName": claim}})
    return found


def mounts(deployment: Deployment) -> list[Manifest]:
    """Where those are mounted."""
    found: list[Manifest] = [
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "home", "mountPath": HOME},
        {"name": "dshm", "mountPath": "/dev/shm"},
        {"name": "config", "mountPath": CONFIG_PATH, "readOnly": True},
    ]
    if deployment.code:
        found.append({"name": "code", "mountPath": CODE_PATH, "readOnly": True})
    if deployment.storage == "pvc":
        found.append({"name": "data", "mountPath": deployment.data_path})
    return found


def _container(deployment: Deployment, name: str, shape: Shape, drain_s: int) -> Manifest:
    container: Manifest = {
        "name": name,
        "image": deployment.image,
        "env": environment(deployment, drain_s=drain_s),
        "resources": resources(shape),
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": mounts(deployment),
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
    container |= probes("/api/local_raylet_healthz", "52365")
    if deployment.kind == "cluster":
        # By a reference that kustomize knows, so that a prefix to the Service's name reaches it
        container["env"].append({"name": REDIS_SERVICE, "value": redis_name(deployment)})
    spec = _pod(deployment, container, HEAD_SHAPE, HEAD_GRACE_S)
    spec["automountServiceAccountToken"] = True
    spec["nodeSelector"] = _metadata_server(deployment)
    if deployment.spot:
        spec["affinity"] = _not_on_spot(deployment)
    annotations = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", **_scraped()}
    return {
        "metadata": {"labels": pod_labels(deployment), "annotations": annotations},
        "spec": spec,
    }


def worker_template(deployment: Deployment, group: WorkerGroup) -> Manifest:
    """A worker's Pod."""
    drain_s, grace_s = (SPOT_DRAIN_S, SPOT_GRACE_S) if group.spot else (HEAD_DRAIN_S, HEAD_GRACE_S)
    container = _container(deployment, "ray-worker", group.shape, drain_s)
    container["ports"] = [{"containerPort": 8080, "name": "metrics"}]
    container |= probes("/api/local_raylet_healthz", "52365")
    spec = _pod(deployment, container, group.shape, grace_s)
    spec["tolerations"] = _tolerations(deployment, group)
    spec["nodeSelector"] = _node_selector(deployment, group)
    if deployment.spot and not group.spot:
        spec["affinity"] = _not_on_spot(deployment)
    return {
        "metadata": {"labels": pod_labels(deployment), "annotations": _scraped()},
        "spec": spec,
    }


def _pod(deployment: Deployment, container: Manifest, shape: Shape, grace_s: int) -> Manifest:
    spec: Manifest = {
        "serviceAccountName": deployment.name,
        "automountServiceAccountToken": False,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": grace_s,
        "securityContext": POD_SECURITY,
        "containers": [container],
        "volumes": volumes(deployment, shape),
    }
    if deployment.priority_class:
        spec["priorityClassName"] = deployment.priority_class
    return spec


def _scraped() -> Manifest:
    return {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"}


SPOT_NODES: dict[str, tuple[str, str]] = {
    "gke": ("cloud.google.com/gke-spot", "true"),
    "eks": ("eks.amazonaws.com/capacityType", "SPOT"),
    "aks": ("kubernetes.azure.com/scalesetpriority", "spot"),
}
"""The label of each cloud's spot nodes; two of them taint these nodes with it, too."""


def _tolerations(deployment: Deployment, group: WorkerGroup) -> list[Manifest]:
    found: list[Manifest] = []
    if group.shape.gpus:
        found.append({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"})
    if group.spot:
        key, value = SPOT_NODES[deployment.spot]
        found.append({"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"})
    return found


def _node_selector(deployment: Deployment, group: WorkerGroup) -> Manifest:
    found = _metadata_server(deployment) | dict(deployment.node_selector)
    if group.shape.gpus and deployment.gpu_type:
        on_gke = deployment.storage == "gcs" or deployment.spot == "gke"
        key = "cloud.google.com/gke-accelerator" if on_gke else "nvidia.com/gpu.product"
        found[key] = deployment.gpu_type
    if group.spot:
        key, value = SPOT_NODES[deployment.spot]
        found[key] = value
    return found


def _metadata_server(deployment: Deployment) -> Manifest:
    on = deployment.storage == "gcs"
    return {"iam.gke.io/gke-metadata-server-enabled": "true"} if on else {}


def _not_on_spot(deployment: Deployment) -> Manifest:
    key, value = SPOT_NODES[deployment.spot]
    away = [{"key": key, "operator": "NotIn", "values": [value]}]
    return {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": away}]
            }
        }
    }
