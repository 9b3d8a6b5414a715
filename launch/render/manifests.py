"""Which Kubernetes objects does a deployment become?

Rule: a pure function from `Deployment` to plain data; nothing is read or written here. Only fields
that a default KubeRay operator honours are used: its alpha ones (networkPolicy, tlsOptions, the
RocksDB backend) are silently ignored where their gate is off.
"""

from __future__ import annotations

import yaml

from launch.render.pods import (
    CONFIG_MOUNT,
    CONFIG_PATH,
    CONTAINER_SECURITY,
    HOME,
    MOUNTS,
    POD_SECURITY,
    SUBMITTER_SHAPE,
    TOKEN_KEY,
    TOKEN_SECRET,
    Manifest,
    config_volume,
    environment,
    head_template,
    labels,
    resources,
    secret_environment,
    volumes,
    worker_template,
)
from launch.render.redis import redis_manifests, redis_options
from launch.render.spec import Deployment

ANNOTATIONS_BY_STORAGE: dict[str, Manifest] = {
    "any": {},
    "gcs": {"iam.gke.io/gcp-service-account": "tfresume@PROJECT.iam.gserviceaccount.com"},
    "s3": {"eks.amazonaws.com/role-arn": "arn:aws:iam::ACCOUNT:role/tfresume"},
}


def manifests(deployment: Deployment) -> list[Manifest]:
    """Every object of the deployment, in the order in which they are applied."""
    found = [
        _service_account(deployment),
        _config_map(deployment),
        *_disruption_budgets(deployment),
        _network_policy(deployment),
    ]
    if deployment.kind == "job":
        return [*found, _ray_job(deployment)]
    return [*found, *redis_manifests(deployment), _ray_cluster(deployment), _submitter(deployment)]


def _metadata(deployment: Deployment, suffix: str = "") -> Manifest:
    return {
        "name": deployment.name + suffix,
        "namespace": deployment.namespace,
        "labels": labels(deployment),
    }


def _service_account(deployment: Deployment) -> Manifest:
    annotations = ANNOTATIONS_BY_STORAGE[deployment.storage]
    metadata = _metadata(deployment) | ({"annotations": annotations} if annotations else {})
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata,
        "automountServiceAccountToken": False,
    }


def _config_map(deployment: Deployment) -> Manifest:
    text = yaml.safe_dump(dict(deployment.run), sort_keys=False)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(deployment, "-run"),
        "data": {"run.yaml": text},
    }


def _disruption_budgets(deployment: Deployment) -> list[Manifest]:
    head = {"matchLabels": {"ray.io/node-type": "head", **labels(deployment)}}
    workers = {"matchLabels": {"ray.io/node-type": "worker", **labels(deployment)}}
    return [
        _budget(deployment, "-head", {"maxUnavailable": 0, "selector": head}),
        _budget(deployment, "-workers", {"maxUnavailable": 1, "selector": workers}),
    ]


def _budget(deployment: Deployment, suffix: str, spec: Manifest) -> Manifest:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(deployment, suffix),
        "spec": spec,
    }


def _network_policy(deployment: Deployment) -> Manifest:
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
        "metadata": _metadata(deployment),
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
        "metadata": _metadata(deployment),
        "spec": {
            "submissionMode": "K8sJobMode",
            "entrypoint": f"tfresume resume --config {CONFIG_PATH}/run.yaml",
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
        "metadata": _metadata(deployment),
        "spec": _cluster_spec(deployment),
    }


def _submitter(deployment: Deployment) -> Manifest:
    address = f"http://{deployment.name}-head-svc.{deployment.namespace}.svc:8265"
    command = [
        "tfresume",
        "submit",
        "--config",
        f"{CONFIG_PATH}/run.yaml",
        "--address",
        address,
        "--driver-cpus",
        "1",
        "--follow",
    ]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(deployment, "-submit"),
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
        "volumeMounts": [*MOUNTS, CONFIG_MOUNT],
    }
    if references := secret_environment(deployment):
        container["envFrom"] = references
    if command:
        token = {"secretKeyRef": {"name": TOKEN_SECRET, "key": TOKEN_KEY}}
        container["command"] = command
        container["workingDir"] = HOME
        container["env"] += [
            {"name": "RAY_AUTH_MODE", "value": "token"},
            {"name": "RAY_AUTH_TOKEN", "valueFrom": token},
        ]
    return {
        "metadata": {"labels": labels(deployment)},
        "spec": {
            "serviceAccountName": deployment.name,
            "automountServiceAccountToken": False,
            "restartPolicy": "Never",
            "securityContext": POD_SECURITY,
            "containers": [container],
            "volumes": [*volumes(SUBMITTER_SHAPE), config_volume(deployment)],
        },
    }
