"""Are the rendered manifests what the cluster's own rules allow, and is ``k8s/`` exactly what is
rendered?
"""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import warnings
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from launch.cli import build_app, run
from launch.flags import merged
from launch.render.kustomize import BASES, json_patch, tree
from launch.render.manifests import manifests
from launch.render.overlays import EXCLUDE, OTHER_CLOUD, OVERLAYS, with_overlays
from launch.render.rules import pod_specs, violations
from launch.render.spec import BASE, Deployment
from orchestrator.config import parse_config
from orchestrator.errors import ConfigError
from orchestrator.journal.run_events import OUTER_ATTEMPT

REPOSITORY = Path(__file__).resolve().parents[2]
K8S = REPOSITORY / "k8s"
CRDS = REPOSITORY.parent / "shared" / "kuberay-crds"
CHOICES = (
    ("", "cpu", "gpu"),
    ("", "spot", "spot-eks", "spot-aks"),
    ("", "gcs", "s3", "azure", "pvc"),
)
COMBINATIONS = [
    tuple(filter(None, names))
    for names in product(*CHOICES)
    if not any(spot in names and set(names) & set(others) for spot, others in OTHER_CLOUD.items())
] + [("kueue",), ("monitoring",), ("gpu", "spot", "gcs", "kueue", "monitoring")]
DEPLOYMENTS = [(kind, names) for kind in ("job", "cluster") for names in COMBINATIONS]
TOGETHER = (
    (),
    ("gpu", "spot", "gcs", "monitoring"),
    ("cpu", "spot-eks", "s3", "kueue"),
    ("gpu", "spot-aks", "azure", "kueue", "monitoring"),
    ("cpu", "pvc", "kueue"),
)
"""Every overlay stands in one of them."""


def deployment(kind: str, names: tuple[str, ...]) -> Deployment:
    return with_overlays(BASE.model_copy(update={"kind": kind}), names)


def by_identity(objects: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(item["kind"], item["metadata"]["name"]): item for item in objects}


def spot_job() -> dict[str, Any]:
    return by_identity(copy.deepcopy(manifests(deployment("job", ("spot",)))))[
        ("RayJob", "tfresume")
    ]


def cluster_of(item: dict[str, Any]) -> dict[str, Any]:
    return item["spec"]["rayClusterSpec"]


def first_worker(item: dict[str, Any]) -> dict[str, Any]:
    return cluster_of(item)["workerGroupSpecs"][0]


def run_of(objects: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    """The run's configuration, as ``--config`` with the mounted directory reads it."""
    values: dict[str, Any] = {}
    data = objects[("ConfigMap", "tfresume-run")]["data"]
    for name in sorted(data):
        values = merged(values, yaml.safe_load(data[name]))
    return values


def kustomized(directory: Path) -> dict[tuple[str, str], dict[str, Any]]:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl isn't on this machine's PATH")
    done = subprocess.run(
        ["kubectl", "kustomize", str(directory)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return by_identity(list(yaml.safe_load_all(done.stdout)))


def files_below(directory: Path) -> dict[str, str]:
    return {
        str(file.relative_to(directory)): file.read_text()
        for file in directory.rglob("*")
        if file.is_file()
    }


def test_tree_in_the_repository_is_what_is_rendered() -> None:
    assert files_below(K8S) == tree(), "run `tfresume render --tree k8s`"


def test_render_tree_writes_the_repositorys_files(tmp_path: Path) -> None:
    assert run(["render", "--tree", str(tmp_path)]) == 0
    assert files_below(tmp_path) == tree()


@pytest.fixture(scope="module")
def rendered() -> dict[str, list[dict[str, Any]]]:
    """The objects of every deployment there is, by its name (``job+gpu+s3``)."""
    return {
        "+".join((kind, *names)): manifests(deployment(kind, names)) for kind, names in DEPLOYMENTS
    }


@pytest.fixture(scope="module")
def distinct(rendered: dict[str, list[dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """Each different object once, with the first deployment that holds it: combinations share most
    of theirs.
    """
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for name, objects in rendered.items():
        for item in objects:
            found.setdefault(json.dumps(item, sort_keys=True), (name, item))
    return list(found.values())


def test_manifests_of_every_combination_break_no_rule(
    rendered: dict[str, list[dict[str, Any]]],
) -> None:
    assert {
        name: broken for name, objects in rendered.items() if (broken := violations(objects))
    } == {}


@pytest.fixture(scope="module")
def crd_validators() -> dict[tuple[str, str], Any]:
    """The operator's schemas as strict JSON Schema validators, by API version and kind."""
    if not CRDS.is_dir():
        pytest.skip("KubeRay's CRDs (../shared/kuberay-crds) are not on this machine")
    import importlib.util

    spec = importlib.util.spec_from_file_location("kuberay_validate", CRDS / "validate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with warnings.catch_warnings():
        # the validator leaves its files to the garbage collector
        warnings.simplefilter("ignore", ResourceWarning)
        return {
            **module.load(str(CRDS / "ray.io_rayclusters.yaml")),
            **module.load(str(CRDS / "ray.io_rayjobs.yaml")),
        }


@pytest.mark.slow
def test_manifests_pass_the_operators_schema_strictly(
    distinct: list[tuple[str, dict[str, Any]]], crd_validators: dict[tuple[str, str], Any]
) -> None:
    ours = [(name, item) for name, item in distinct if item["apiVersion"].startswith("ray.io/")]
    assert {item["kind"] for _, item in ours} == {"RayJob", "RayCluster"}
    found = [
        f"{name}: {item['kind']}/{'/'.join(map(str, error.absolute_path))}: {error.message}"
        for name, item in ours
        for error in crd_validators[(item["apiVersion"], item["kind"])].iter_errors(item)
    ]
    assert found == []


@pytest.mark.slow
def test_operators_schema_refuses_a_field_that_it_does_not_know(
    crd_validators: dict[tuple[str, str], Any],
) -> None:
    item = spot_job()
    first_worker(item)["minReplica"] = 1
    (error,) = crd_validators[("ray.io/v1", "RayJob")].iter_errors(item)
    assert "minReplica" in error.message


@pytest.mark.slow
def test_manifests_of_kubernetes_own_kinds_pass_strict_validation(
    distinct: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import kubernetes_validate
    from kubernetes_validate import utils

    # else it reads 1 MB for each object
    monkeypatch.setattr(utils, "schema_contents", cache(utils.schema_contents))
    pods: dict[str, dict[str, Any]] = {}
    for _, item in distinct:
        if not item["apiVersion"].startswith(("ray.io/", "monitoring.coreos.com/")):
            kubernetes_validate.validate(item, "1.34", strict=True)
        pods |= {json.dumps(pod, sort_keys=True): pod for pod in pod_specs(item)}
    assert len(pods) > 10
    for pod in pods.values():
        whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}
        kubernetes_validate.validate(whole, "1.34", strict=True)


@pytest.mark.slow
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("names", TOGETHER, ids="+".join)
def test_kustomize_of_a_base_with_components_gives_the_rendered_objects(
    base: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    found = by_identity(kustomized_copy(tmp_path, base, names))
    assert found == by_identity(manifests(with_overlays(BASES[base], names)))


def kustomized_copy(
    directory: Path, base: str, names: tuple[str, ...], **more: Any
) -> list[dict[str, Any]]:
    """A kustomization of a user's own, beside a copy of ``k8s/``."""
    shutil.copytree(K8S, directory / "k8s", dirs_exist_ok=True)
    kustomization = {
        "resources": [f"../k8s/{base}"],
        "components": [f"../k8s/components/{name}" for name in names],
        **more,
    }
    (directory / "own").mkdir(exist_ok=True)
    (directory / "own" / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return list(kustomized(directory / "own").values())


@pytest.mark.slow
def test_example_of_the_tree_is_put_together_by_kustomize() -> None:
    found = kustomized(K8S / "example")
    assert ("RayJob", "team-tfresume") in found
    assert {item["metadata"]["namespace"] for item in found.values()} == {"research"}


@pytest.mark.slow
@pytest.mark.parametrize("base", BASES)
def test_references_between_objects_survive_a_prefix_and_a_namespace(
    base: str, tmp_path: Path
) -> None:
    objects = kustomized_copy(
        tmp_path,
        base,
        ("gpu", "pvc", "monitoring"),
        namePrefix="team-",
        namespace="research",
        images=[{"name": "tfresume", "newName": "example.org/tfresume", "newTag": "9.9.9"}],
    )
    names = set(by_identity(objects))
    assert all(name.startswith("team-") for _, name in names)
    assert {item["metadata"]["namespace"] for item in objects} == {"research"}
    assert violations(objects) == ()
    pods = [pod for item in objects for pod in pod_specs(item)]
    ours = [pod for pod in pods if "serviceAccountName" in pod]
    assert len(ours) >= 4
    for pod in ours:
        assert ("ServiceAccount", pod["serviceAccountName"]) in names
        assert {container["image"] for container in pod["containers"]} == {
            "example.org/tfresume:9.9.9"
        }
        for volume in pod["volumes"]:
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in names
            if "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                assert ("PersistentVolumeClaim", claim) in names
    text = yaml.safe_dump_all(objects)
    assert ".train." not in text
    if base == "cluster":
        variables = {
            variable["name"]: variable.get("value")
            for pod in ours
            for container in pod["containers"]
            for variable in container["env"]
        }
        assert ("RayCluster", variables["TFRESUME_RAY_CLUSTER"]) in names
        assert ("Service", variables["TFRESUME_REDIS_SERVICE"]) in names
        assert "redisAddress: $(TFRESUME_REDIS_SERVICE):6379" in text
        assert "http://$(TFRESUME_RAY_CLUSTER)-head-svc:8265" in text


def test_groups_follow_the_runs_elasticity() -> None:
    workers = {
        "count": 3,
        "min": 2,
        "max": 5,
        "standby": 1,
        "cpus": 1.5,
        "memory_bytes": 2 * 1024**3,
    }
    group, standby = BASE.model_copy(update={"sizing": {"workers": workers}}).groups
    assert (group.smallest, group.replicas, group.largest) == (2, 3, 5)
    assert (standby.smallest, standby.replicas, standby.largest) == (1, 1, 1)
    assert (group.shape.cpus, group.shape.memory_gib) == (2, 4)


def test_groups_on_spot_keep_the_standbys_on_demand() -> None:
    spot, standby = deployment("job", ("spot",)).groups
    assert (spot.spot, spot.smallest, spot.largest) == (True, 1, 8)
    assert (standby.spot, standby.replicas) == (False, 2)


def test_groups_with_gpus_make_room_for_a_standby_in_the_same_pod() -> None:
    group, standby = deployment("job", ("gpu",)).groups
    assert standby.replicas == 0
    config = deployment("job", ("gpu",)).config.workers
    assert group.replicas == config.count
    assert group.shape.cpus == 2 * config.cpus


@pytest.mark.parametrize("names", COMBINATIONS)
def test_run_configuration_inside_the_manifests_is_valid(names: tuple[str, ...]) -> None:
    objects = by_identity(manifests(deployment("job", names)))
    parse_config(run_of(objects))


def test_commands_inside_the_manifests_exist_with_their_flags(
    distinct: list[tuple[str, dict[str, Any]]],
) -> None:
    commands = {tuple(words) for _, item in distinct for words in _commands(item)}
    assert {words[1] for words in commands} == {"resume", "submit"}
    app = build_app()
    for words in commands:
        command, bound, ignored = app.parse_args(words[1:], exit_on_error=False, print_error=False)
        assert callable(command)
        assert bound is not None
        assert ignored is not None


def _commands(item: dict[str, Any]) -> list[list[str]]:
    if item["kind"] == "RayJob":
        return [item["spec"]["entrypoint"].split()]
    return [
        container["command"]
        for pod in pod_specs(item)
        for container in pod["containers"]
        if container.get("command", [""])[0] == "tfresume"
    ]


def test_secrets_in_the_manifests_are_references_only(
    distinct: list[tuple[str, dict[str, Any]]],
) -> None:
    seen = set()
    for _, item in distinct:
        assert item["kind"] != "Secret"
        for variable in (
            variable
            for pod in pod_specs(item)
            for container in pod["containers"]
            for variable in container.get("env", [])
        ):
            if any(word in variable["name"] for word in ("TOKEN", "PASSWORD", "SECRET", "KEY")):
                seen.add(variable["name"])
                assert set(variable) == {"name", "valueFrom"}, variable["name"]
    assert seen


def test_pods_of_ray_tell_a_driver_which_try_of_kuberays_it_is(
    rendered: dict[str, list[dict[str, Any]]],
) -> None:
    field = {"fieldRef": {"fieldPath": "metadata.labels['ray.io/cluster']"}}
    cluster = cluster_of(by_identity(rendered["job"])[("RayJob", "tfresume")])
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        assert {"name": OUTER_ATTEMPT, "valueFrom": field} in container["env"]


def test_budgets_name_a_number_that_a_rayclusters_pods_can_be_counted_by() -> None:
    for count, least, standby, kept in ((4, 2, 1, 2), (2, 2, 0, 1), (2, 2, 1, 2), (1, 1, 0, 0)):
        workers = {"count": count, "min": least, "standby": standby}
        objects = manifests(BASE.model_copy(update={"sizing": {"workers": workers}}))
        budgets = [item for item in objects if item["kind"] == "PodDisruptionBudget"]
        assert [item["spec"]["minAvailable"] for item in budgets] == [1, kept]
    budgets[0]["spec"] = {"maxUnavailable": 1, "selector": {}}
    assert "minAvailable" in violations(budgets)[0]


def test_exclusions_and_combinations_name_overlays_that_are_there() -> None:
    assert {name for names in TOGETHER for name in names} == set(OVERLAYS)
    assert {name for group in EXCLUDE for name in group} | {
        name for spot, others in OTHER_CLOUD.items() for name in (spot, *others)
    } <= set(OVERLAYS)


@pytest.mark.parametrize("names", COMBINATIONS)
def test_every_rendered_run_has_what_resume_asks_for(names: tuple[str, ...]) -> None:
    values = deployment("job", names).config
    assert values.source
    assert values.output
    assert values.until_step is not None


def test_with_overlays_of_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="Choose from cpu"):
        with_overlays(BASE, ("tpu",))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("a/~", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("a/~b", min_size=1, max_size=2), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(PLAIN, PLAIN)
def test_json_patch_applied_gives_the_second_document(before: Any, after: Any) -> None:
    document = {"root": copy.deepcopy(before)}
    for operation in json_patch({"root": before}, {"root": after}):
        _apply(document, operation)
    assert document == {"root": after}
    assert json.dumps(document, sort_keys=True) == json.dumps({"root": after}, sort_keys=True)


def _apply(document: Any, operation: dict[str, Any]) -> None:
    """RFC 6902, as far as `json_patch` uses it."""
    *parents, last = [
        part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
    ]
    for part in parents:
        document = document[int(part) if isinstance(document, list) else part]
    key: Any = last if isinstance(document, dict) or last == "-" else int(last)
    if operation["op"] == "remove":
        del document[key]
    elif key == "-":
        document.append(operation["value"])
    else:
        assert operation["op"] == "add" or isinstance(document, list) or key in document
        document[key] = operation["value"]
