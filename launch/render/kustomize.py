"""Which files does ``k8s/`` consist of?

Rule: all of them are computed here. A base holds the objects whole; a component holds, per object,
the JSON patch that is the difference between the base's object and the overlay's. So a base with
components and ``tfresume render --overlay …`` are the same objects, which a test compares.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from launch.render.alerts import rule_groups
from launch.render.dashboard import dashboard
from launch.render.manifests import manifests
from launch.render.overlays import OVERLAYS, with_overlays
from launch.render.spec import BASE, Deployment

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
_POD_PATHS = {
    "RayJob": (
        "spec/rayClusterSpec/headGroupSpec/template/spec",
        "spec/rayClusterSpec/workerGroupSpecs/template/spec",
        "spec/submitterPodTemplate/spec",
    ),
    "RayCluster": ("spec/headGroupSpec/template/spec", "spec/workerGroupSpecs/template/spec"),
}
_EXAMPLE = ("gpu", "spot", "gcs", "monitoring")


def tree() -> dict[str, str]:
    """Every file of ``k8s/``: path below it -> text."""
    files: dict[str, str] = {}
    for directory, base in BASES.items():
        files |= _whole(directory, manifests(base))
    for name in OVERLAYS:
        files |= _component(name)
    return files | _example() | monitoring()


BASES = {"base": BASE, "cluster": BASE.model_copy(update={"kind": "cluster"})}
"""A job, and a cluster that stays; each component fits both."""


def _example() -> dict[str, str]:
    """How a base and components are put together, under a namespace and a prefix of one's own."""
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "research",
        "namePrefix": "team-",
        "resources": ["../base"],
        "components": [f"../components/{name}" for name in _EXAMPLE],
        "images": [{"name": "tfresume", "newName": "registry.example.org/tfresume"}],
    }
    return {"example/kustomization.yaml": HEADER + dump([kustomization])}


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
    """Where KubeRay's kinds, and our own variables, keep names and images: kustomize knows that of
    Kubernetes' own kinds alone.
    """
    paths = [(kind, path) for kind, found in _POD_PATHS.items() for path in found]

    def references(*suffixes: str) -> list[Manifest]:
        return [
            {"kind": kind, "path": f"{path}/{suffix}"}
            for kind, path in paths
            for suffix in suffixes
        ]

    def names(kind: str, fields: list[Manifest], group: str = "") -> Manifest:
        version = {"group": group, "version": "v1"} if group else {"version": "v1"}
        return {"kind": kind, **version, "fieldSpecs": fields}

    submitter = {"kind": "Job", "path": "spec/template/spec/containers/env/value"}
    head = {"kind": "RayCluster", "path": "spec/headGroupSpec/template/spec/containers/env/value"}
    return {
        "images": references("containers[]/image"),
        "nameReference": [
            names("ConfigMap", references("volumes/configMap/name")),
            names("ServiceAccount", references("serviceAccountName")),
            names("PersistentVolumeClaim", references("volumes/persistentVolumeClaim/claimName")),
            names("Secret", references("containers/envFrom/secretRef/name")),
            names("RayCluster", [submitter], "ray.io"),
            names("Service", [head]),
        ],
    }


def _component(name: str) -> dict[str, str]:
    """What an overlay changes of either base, as patches, and what it adds, as resources."""
    patches: dict[tuple[str, str], list[Manifest]] = {}
    added: dict[tuple[str, str], Manifest] = {}
    for base in BASES.values():
        before = {_identity(item): item for item in manifests(base)}
        for item in manifests(with_overlays(base, (name,))):
            if _identity(item) not in before:
                added[_identity(item)] = item
            elif operations := json_patch(before[_identity(item)], item):
                patches[_identity(item)] = operations
    kustomization: Manifest = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
    }
    files: dict[str, str] = {}
    if added:
        kustomization["resources"] = ["added.yaml"]
        files[f"components/{name}/added.yaml"] = HEADER + dump([*added.values()])
    if patches:
        kustomization["patches"] = []
    for (kind, object_name), operations in patches.items():
        file = f"{kind.lower()}-{object_name}.yaml"
        target = {"kind": kind, "name": object_name}
        kustomization["patches"].append({"path": file, "target": target})
        files[f"components/{name}/{file}"] = HEADER + dump([operations])  # type: ignore[list-item]
    files[f"components/{name}/kustomization.yaml"] = HEADER + dump([kustomization])
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
