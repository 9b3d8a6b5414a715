"""Would the operator, Ray or the kernel refuse or misread these manifests?

Rule: what a schema can't say is checked here, before anything is applied: KubeRay's own validation
(1.7), Kueue's webhook, and the relations between numbers that only hurt when a node goes away. Each
violation names the object and the cure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

Manifest = dict[str, Any]

SUBMISSION_MODES = ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
LONGEST_JOB_NAME = 47
"""KubeRay's own limit for the name of a RayJob: it makes longer names of it, and Kubernetes allows
63 characters in a label.
"""
ALPHA_FIELDS = ("networkPolicy", "tlsOptions")
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
ELASTIC_ANNOTATION = "kueue.x-k8s.io/elastic-job"
MOST_GROUPS = 7
"""Kueue's limit: eight sets of Pods, one of them the head's."""
LONGEST_NAME = 63
"""Kubernetes' own limit for what becomes a label or a part of a DNS name."""
_LABEL = re.compile(r"[a-z](?:[-a-z0-9]*[a-z0-9])?")
_IMAGE = re.compile(
    r"(?:[a-zA-Z0-9](?:[-a-zA-Z0-9.]*[a-zA-Z0-9])?(?::\d+)?/)?"
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
    r"(?P<tag>:[\w][\w.-]{0,127})?(?P<digest>@sha256:[0-9a-f]{64})?"
)
"""As the distribution specification writes a reference: host and port, path, tag, digest."""


def violations(manifests: Sequence[Manifest]) -> tuple[str, ...]:
    """Every rule that the manifests break, as sentences; empty where all hold."""
    found: list[str] = []
    for manifest in manifests:
        name = f"{manifest['kind']} {manifest['metadata']['name']}"
        found += [f"{name}: {text}" for text in _of_object(manifest)]
    return tuple(found)


def _of_object(manifest: Manifest) -> Iterator[str]:
    if manifest["kind"] == "RayJob":
        yield from _of_job(manifest)
        cluster = manifest["spec"].get("rayClusterSpec")
    else:
        cluster = manifest["spec"] if manifest["kind"] == "RayCluster" else None
    if cluster is not None:
        yield from _of_cluster(cluster)
        yield from _of_queue(manifest["metadata"], cluster)
    yield from _of_names(manifest)
    if manifest["kind"] == "PodDisruptionBudget":
        yield from _of_budget(manifest["spec"])
    for pod in pod_specs(manifest):
        yield from _of_pod(pod)


def _of_names(manifest: Manifest) -> Iterator[str]:
    for what in ("name", "namespace"):
        if why := why_no_name(what, manifest["metadata"].get(what, "default")):
            yield why


def why_no_name(what: str, value: str) -> str:
    """Why Kubernetes refuses a name or namespace; empty where it takes it."""
    if _LABEL.fullmatch(value) and len(value) <= LONGEST_NAME:
        return ""
    return (
        f"{value!r} is no {what} that Kubernetes takes: small letters, digits and dashes, "
        f"beginning with a letter, {LONGEST_NAME} characters at most"
    )


def _of_queue(metadata: Manifest, cluster: Manifest) -> Iterator[str]:
    """Kueue's webhook: what the autoscaler resizes is admitted as an elastic job only."""
    if QUEUE_LABEL not in metadata.get("labels", {}):
        return
    elastic = metadata.get("annotations", {}).get(ELASTIC_ANNOTATION) == "true"
    if cluster.get("enableInTreeAutoscaling") and not elastic:
        yield f"Kueue refuses its queue label together with enableInTreeAutoscaling without the annotation {ELASTIC_ANNOTATION}"
    if len(cluster.get("workerGroupSpecs", [])) > MOST_GROUPS:
        yield f"Kueue takes {MOST_GROUPS} worker groups at most"


def _of_budget(spec: Manifest) -> Iterator[str]:
    """A share, or ``maxUnavailable``, is asked of the Pods' owner, and a RayCluster can't tell."""
    if "maxUnavailable" in spec or not isinstance(spec.get("minAvailable"), int):
        yield "a budget for a RayCluster's Pods needs minAvailable as a number, else no Pod can ever be evicted"


def _of_job(manifest: Manifest) -> Iterator[str]:
    spec = manifest["spec"]
    mode = spec.get("submissionMode", "K8sJobMode")
    if mode not in SUBMISSION_MODES:
        yield f"submissionMode {mode!r} isn't one of {', '.join(SUBMISSION_MODES)}"
    if len(manifest["metadata"]["name"]) > LONGEST_JOB_NAME:
        yield f"the name is longer than {LONGEST_JOB_NAME} characters, which KubeRay refuses"
    if spec.get("backoffLimit") and (spec.get("clusterSelector") or mode == "InteractiveMode"):
        yield "backoffLimit doesn't go with clusterSelector or InteractiveMode"
    if spec.get("ttlSecondsAfterFinished") and not spec.get("shutdownAfterJobFinishes"):
        yield "ttlSecondsAfterFinished needs shutdownAfterJobFinishes: true"
    if not spec.get("entrypoint") and mode != "InteractiveMode":
        yield "entrypoint is empty"


def _of_cluster(cluster: Manifest) -> Iterator[str]:
    for field in ALPHA_FIELDS:
        if field in cluster:
            yield f"{field} is alpha and ignored by a default operator"
    if cluster.get("gcsFaultToleranceOptions", {}).get("backend") == "rocksdb":
        yield "the RocksDB backend is alpha and ignored by a default operator"
    version = tuple(int(part) for part in cluster["rayVersion"].split(".")[:2])
    if cluster.get("authOptions", {}).get("mode") != "token":
        yield "token authentication is off, and an open dashboard is remote code execution"
    elif version < (2, 52):
        yield "token authentication needs Ray 2.52 or newer"
    autoscaled_v2 = (
        cluster.get("enableInTreeAutoscaling")
        and cluster.get("autoscalerOptions", {}).get("version") == "v2"
    )
    groups = cluster.get("workerGroupSpecs", [])
    for group in groups:
        yield from _of_group(group)
    for group in [cluster["headGroupSpec"], *groups]:
        where = group.get("groupName", "head")
        if autoscaled_v2 and group["template"]["spec"].get("restartPolicy") != "Never":
            yield f"group {where}: autoscaler v2 needs restartPolicy Never"
        if any(not isinstance(value, str) for value in group.get("rayStartParams", {}).values()):
            yield f"group {where}: values of rayStartParams must be strings"


def _of_group(group: Manifest) -> Iterator[str]:
    name = group["groupName"]
    if not {"replicas", "minReplicas", "maxReplicas"} <= set(group):
        yield f"group {name}: write replicas, minReplicas and maxReplicas; the defaults surprise"
    elif not group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]:
        yield f"group {name}: needs minReplicas <= replicas <= maxReplicas"


def pod_specs(manifest: Manifest) -> Iterator[Manifest]:
    """Every Pod specification inside an object, wherever its kind keeps it."""
    if isinstance(manifest, dict):
        if "containers" in manifest:
            yield manifest
        for value in manifest.values():
            yield from pod_specs(value)
    elif isinstance(manifest, list):
        for item in manifest:
            yield from pod_specs(item)


def _of_image(name: str, image: str) -> Iterator[str]:
    found = _IMAGE.fullmatch(image)
    if found is None:
        yield f"container {name}: {image!r} is no image that Kubernetes can pull"
    elif found["digest"] is None and found["tag"] in (None, ":latest"):
        yield f"container {name}: the image {image!r} isn't pinned"


def _of_pod(pod: Manifest) -> Iterator[str]:
    grace_s = pod.get("terminationGracePeriodSeconds", 30)
    if not pod.get("securityContext", {}).get("runAsNonRoot"):
        yield "a Pod may run as root"
    for container in pod["containers"]:
        name = container["name"]
        amounts = container.get("resources", {})
        if not amounts.get("requests") or amounts.get("requests") != amounts.get("limits"):
            yield f"container {name}: requests must equal limits"
        security = container.get("securityContext", {})
        if not security.get("readOnlyRootFilesystem") or security.get(
            "allowPrivilegeEscalation", True
        ):
            yield f"container {name}: needs a read-only root file system and no privilege escalation"
        yield from _of_image(name, container["image"])
        for variable in container.get("env", []):
            if (
                variable["name"] == "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
                and int(variable["value"]) >= grace_s
            ):
                yield f"container {name}: drains {variable['value']} s but is killed after {grace_s} s"
        if "preStop" in container.get("lifecycle", {}):
            yield f"container {name}: a preStop hook delays the SIGTERM that makes Ray drain the node"
