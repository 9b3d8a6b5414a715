"""Which files does ``k8s/`` consist of?

Rule: all of them are computed here. A base holds the objects whole; an overlay holds, per object,
the JSON patch that is the difference between the base's object and the overlay's. So ``kubectl
kustomize k8s/overlays/gpu`` and ``tfresume render --overlay gpu`` are the same objects, which a
test compares.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from launch.render.alerts import rule_groups
from launch.render.dashboard import dashboard
from launch.render.manifests import manifests
from launch.render.spec import BASE, OVERLAYS, Deployment, with_overlays

Manifest = dict[str, Any]

HEADER = "# Rendered: change launch/render/ and run `tfresume render --tree k8s`, not this file.\n"

_FILE_OF_KIND = {
    "ServiceAccount": "access",
    "NetworkPolicy": "access",
    "PodDisruptionBudget": "access",
    "ConfigMap": "run-config",
    "RayJob": "rayjob",
    "RayCluster": "raycluster",
    "Job": "submit-job",
    "Service": "redis",
    "StatefulSet": "redis",
}

_CLUSTER_PODS = ("headGroupSpec/template/spec", "workerGroupSpecs/template/spec")
_POD_PATHS = {
    "RayJob": (
        *(f"spec/rayClusterSpec/{path}" for path in _CLUSTER_PODS),
        "spec/submitterPodTemplate/spec",
    ),
    "RayCluster": tuple(f"spec/{path}" for path in _CLUSTER_PODS),
}


def tree() -> dict[str, str]:
    """Every file of ``k8s/``: path below it -> text."""
    job, cluster = manifests(BASE), manifests(BASE.model_copy(update={"kind": "cluster"}))
    files = _whole("base", job) | _whole("cluster", cluster)
    for name in OVERLAYS:
        files |= _overlay(name, job, manifests(with_overlays(BASE, (name,))))
    return files | monitoring()


def monitoring() -> dict[str, str]:
    """What a Prometheus and a Grafana take as it is, on Kubernetes or not."""
    page = json.dumps(dashboard(), indent=1) + "\n"
    rules = HEADER + dump([rule_groups()])
    return {"monitoring/alerts.yaml": rules, "monitoring/dashboard.json": page}


def stream(deployment: Deployment) -> str:
    """The deployment as one YAML stream for ``kubectl apply -f -``."""
    return dump(manifests(deployment))


def dump(objects: Sequence[Manifest]) -> str:
    """Objects as a YAML stream without anchors."""
    return "---\n".join(
        yaml.dump(item, Dumper=_NoAnchors, sort_keys=False, width=130) for item in objects
    )


class _NoAnchors(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    )


_NoAnchors.add_representer(str, _text)


def _whole(directory: str, objects: Sequence[Manifest]) -> dict[str, str]:
    by_file: dict[str, list[Manifest]] = {}
    for item in objects:
        by_file.setdefault(_FILE_OF_KIND[item["kind"]], []).append(item)
    files = {f"{directory}/{name}.yaml": HEADER + dump(items) for name, items in by_file.items()}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{name}.yaml" for name in by_file],
        "configurations": ["kuberay-fields.yaml"],
    }
    files[f"{directory}/kustomization.yaml"] = HEADER + dump([kustomization])
    files[f"{directory}/kuberay-fields.yaml"] = HEADER + dump([_field_paths()])
    return files


def _field_paths() -> Manifest:
    """Where KubeRay's kinds keep names and images: kustomize knows that of Kubernetes' own kinds
    alone.
    """
    paths = [(kind, path) for kind, found in _POD_PATHS.items() for path in found]

    def references(*suffixes: str) -> list[Manifest]:
        return [
            {"kind": kind, "path": f"{path}/{suffix}"}
            for kind, path in paths
            for suffix in suffixes
        ]

    return {
        "images": references("containers[]/image"),
        "nameReference": [
            {
                "kind": "ConfigMap",
                "version": "v1",
                "fieldSpecs": references(
                    "volumes/configMap/name", "containers/envFrom/configMapRef/name"
                ),
            },
            {
                "kind": "ServiceAccount",
                "version": "v1",
                "fieldSpecs": references("serviceAccountName"),
            },
            {
                "kind": "Secret",
                "version": "v1",
                "fieldSpecs": references("containers/envFrom/secretRef/name"),
            },
        ],
    }


def _overlay(name: str, base: Sequence[Manifest], changed: Sequence[Manifest]) -> dict[str, str]:
    files: dict[str, str] = {}
    patches: list[Manifest] = []
    after = {_identity(item): item for item in changed}
    for item in base:
        kind, object_name = _identity(item)
        operations = json_patch(item, after[(kind, object_name)])
        if operations:
            file = f"{kind.lower()}-{object_name}.yaml"
            patches.append({"path": file, "target": {"kind": kind, "name": object_name}})
            files[f"overlays/{name}/{file}"] = HEADER + dump([operations])  # type: ignore[list-item]
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["../../base"],
        "patches": patches,
    }
    files[f"overlays/{name}/kustomization.yaml"] = HEADER + dump([kustomization])
    return files


def _identity(item: Manifest) -> tuple[str, str]:
    return item["kind"], item["metadata"]["name"]


def json_patch(before: Any, after: Any, path: str = "") -> list[Manifest]:
    """The RFC 6902 operations that turn ``before`` into ``after``; empty where they are equal."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        operations: list[Manifest] = []
        for key in before:
            if key not in after:
                operations.append({"op": "remove", "path": f"{path}/{_escaped(key)}"})
            else:
                operations += json_patch(before[key], after[key], f"{path}/{_escaped(key)}")
        operations += [
            {"op": "add", "path": f"{path}/{_escaped(key)}", "value": after[key]}
            for key in after
            if key not in before
        ]
        return operations
    if isinstance(before, list) and isinstance(after, list):
        operations = []
        for index, (one, other) in enumerate(zip(before, after, strict=False)):
            operations += json_patch(one, other, f"{path}/{index}")
        operations += [
            {"op": "remove", "path": f"{path}/{index}"}
            for index in reversed(range(len(after), len(before)))
        ]
        return operations + [
            {"op": "add", "path": f"{path}/-", "value": item} for item in after[len(before) :]
        ]
    same = before == after and type(before) is type(after)
    return [] if same else [{"op": "replace", "path": path, "value": after}]


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
