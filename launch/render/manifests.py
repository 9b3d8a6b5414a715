"""Which Kubernetes objects does a deployment become?

Rule: a pure function from `Deployment` to plain data; nothing is read or written here. Only fields
that a default KubeRay operator honours are used: its alpha ones (networkPolicy, tlsOptions, the
RocksDB backend) are silently ignored where their gate is off.
"""

from __future__ import annotations

import yaml

from launch.render.guards import disruption_budgets, network_policy
from launch.render.monitoring import monitoring_manifests
from launch.render.pods import (
    CONFIG_PATH,
    CONTAINER_SECURITY,
    HOME,
    POD_SECURITY,
    SUBMITTER_SHAPE,
    TOKEN_KEY,
    TOKEN_SECRET,
    Manifest,
    environment,
    head_template,
    metadata_of,
    mounts,
    pod_labels,
    resources,
    secret_environment,
    volumes,
    worker_template,
)
from launch.render.redis import redis_manifests, redis_options
from launch.render.spec import Deployment

IDENTITY_ANNOTATION = {
    "gcs": "iam.gke.io/gcp-service-account",
    "s3": "eks.amazonaws.com/role-arn",
    "azure": "azure.workload.identity/client-id",
}
RUN_FILES = {"run": "10-run.yaml", "sizing": "20-workers.yaml", "riding": "30-spot.yaml"}
"""The parts of a run's configuration, read in this order: each overlay replaces one of them."""
CLUSTER = "TFRESUME_RAY_CLUSTER"
"""Variable of the submitter's container that holds the RayCluster's name."""
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
ELASTIC = {"kueue.x-k8s.io/elastic-job": "true"}
"""With it Kueue admits what the autoscaler resizes, where ElasticJobsViaWorkloadSlices is on."""


def manifests(deployment: Deployment) -> list[Manifest]:
    """Every object of the deployment, in the order in which they are applied."""
    found = [
        _service_account(deployment),
        _config_map(deployment),
        *_code(deployment),
        *_claim(deployment),
        *disruption_budgets(deployment),
        network_policy(deployment),
        *(monitoring_manifests(deployment) if deployment.monitoring else ()),
    ]
    if deployment.kind == "job":
        return [*found, _ray_job(deployment)]
    return [*found, *redis_manifests(deployment), _ray_cluster(deployment), _submitter(deployment)]


def _queued(deployment: Deployment) -> Manifest:
    metadata = metadata_of(deployment)
    if deployment.queue:
        metadata["labels"] = {**metadata["labels"], QUEUE_LABEL: deployment.queue}
        metadata["annotations"] = dict(ELASTIC)
    return metadata


def _service_account(deployment: Deployment) -> Manifest:
    metadata = metadata_of(deployment)
    if deployment.identity:
        key = IDENTITY_ANNOTATION[deployment.storage]
        metadata["annotations"] = {key: deployment.identity}
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata,
        "automountServiceAccountToken": False,
    }


def _config_map(deployment: Deployment) -> Manifest:
    data = {
        file: yaml.safe_dump(dict(values), sort_keys=False)
        for part, file in RUN_FILES.items()
        if (values := getattr(deployment, part))
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata_of(deployment, "-run"),
        "data": data,
    }


def _code(deployment: Deployment) -> list[Manifest]:
    if not deployment.code:
        return []
    metadata = metadata_of(deployment, "-code")
    data = dict(deployment.code)
    return [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}]


def _claim(deployment: Deployment) -> list[Manifest]:
    if deployment.storage != "pvc" or deployment.claim:
        return []
    asked: Manifest = {
        # The driver and every worker write there, from nodes of their own
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": f"{deployment.claim_gib}Gi"}},
    }
    if deployment.storage_class:
        asked["storageClassName"] = deployment.storage_class
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": metadata_of(deployment, "-data"),
            "spec": asked,
        }
    ]


def _cluster_spec(deployment: Deployment) -> Manifest:
    small = {"cpu": "500m", "memory": "512Mi"}
    spec: Manifest = {
        "rayVersion": deployment.ray_version,
        "authOptions": {"mode": "token", "secretName": TOKEN_SECRET},
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {
            "version": "v2",
            "idleTimeoutSeconds": 300,
            "resources": {"requests": dict(small), "limits": dict(small)},
            "securityContext": CONTAINER_SECURITY,
        },
        "headGroupSpec": {
            "rayStartParams": {
                "num-cpus": "0",
                "dashboard-host": "0.0.0.0",
                "metrics-export-port": "8080",
            },
            "template": head_template(deployment),
        },
        "workerGroupSpecs": [
            {
                "groupName": group.name,
                "replicas": group.replicas,
                "minReplicas": group.smallest,
                "maxReplicas": group.largest,
                "priority": group.priority,
                "rayStartParams": {"metrics-export-port": "8080"},
                "labels": {"pool": "spot" if group.spot else "on-demand"},
                "template": worker_template(deployment, group),
            }
            for group in deployment.groups
        ],
    }
    if deployment.kind == "cluster":
        spec["gcsFaultToleranceOptions"] = redis_options(deployment)
    return spec


def _ray_job(deployment: Deployment) -> Manifest:
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": _queued(deployment),
        "spec": {
            "submissionMode": "K8sJobMode",
            "entrypoint": f"tfresume resume --config {CONFIG_PATH}",
            "backoffLimit": 5,
            "preRunningDeadlineSeconds": 3600,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 600,
            "submitterConfig": {"backoffLimit": 2},
            "submitterPodTemplate": _submitter_template(deployment, "ray-job-submitter", None),
            "rayClusterSpec": _cluster_spec(deployment),
        },
    }


def _ray_cluster(deployment: Deployment) -> Manifest:
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": _queued(deployment),
        "spec": _cluster_spec(deployment),
    }


def _submitter(deployment: Deployment) -> Manifest:
    # KubeRay names the head's Service after the cluster; by a variable that kustomize knows a prefix
    # reaches it, and without a namespace it's looked up in the Pod's own
    address = f"http://$({CLUSTER})-head-svc:8265"
    command = [
        "tfresume",
        "submit",
        "--config",
        CONFIG_PATH,
        "--address",
        address,
        "--driver-cpus",
        "1",
        "--follow",
    ]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata_of(deployment, "-submit"),
        "spec": {
            # Submitting again attaches to the run that is there, so a retry of this Job costs
            # nothing.
            "backoffLimit": 20,
            "ttlSecondsAfterFinished": 86400,
            "template": _submitter_template(deployment, "submit", command),
        },
    }


def _submitter_template(deployment: Deployment, name: str, command: list[str] | None) -> Manifest:
    container: Manifest = {
        "name": name,
        "image": deployment.image.removesuffix("-gpu"),
        "env": environment(deployment),
        "resources": resources(SUBMITTER_SHAPE),
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": mounts(deployment),
    }
    if references := secret_environment(deployment):
        container["envFrom"] = references
    if command:
        token = {"secretKeyRef": {"name": TOKEN_SECRET, "key": TOKEN_KEY}}
        container["command"] = command
        container["workingDir"] = HOME
        container["env"] += [
            {"name": CLUSTER, "value": deployment.name},
            {"name": "RAY_AUTH_MODE", "value": "token"},
            {"name": "RAY_AUTH_TOKEN", "valueFrom": token},
        ]
    return {
        "metadata": {"labels": pod_labels(deployment)},
        "spec": {
            "serviceAccountName": deployment.name,
            "automountServiceAccountToken": False,
            "restartPolicy": "Never",
            "securityContext": POD_SECURITY,
            "containers": [container],
            "volumes": volumes(deployment, SUBMITTER_SHAPE),
        },
    }
