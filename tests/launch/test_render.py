"""Are the rendered manifests what the cluster's own rules allow, and is ``k8s/`` exactly what is
rendered?
"""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import warnings
from collections.abc import Callable
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from launch.cli import build_app, run
from launch.render.kustomize import json_patch, stream, tree
from launch.render.manifests import manifests
from launch.render.rules import pod_specs, violations
from launch.render.spec import BASE, OVERLAYS, Deployment, with_overlays, with_run
from orchestrator.config import parse_config
from orchestrator.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parents[2]
K8S = REPOSITORY / "k8s"
CRDS = REPOSITORY.parent / "shared" / "kuberay-crds"

EXCLUDE = ({"cpu", "gpu"}, {"gcs", "s3"})
COMBINATIONS = [
    names
    for size in range(len(OVERLAYS) + 1)
    for names in combinations(OVERLAYS, size)
    if not any(pair <= set(names) for pair in EXCLUDE)
]
DEPLOYMENTS = [(kind, names) for kind in ("job", "cluster") for names in COMBINATIONS]


def deployment(kind: str, names: tuple[str, ...]) -> Deployment:
    return with_overlays(BASE.model_copy(update={"kind": kind}), names)


def by_identity(objects: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(item["kind"], item["metadata"]["name"]): item for item in objects}


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


def test_operators_schema_refuses_a_field_that_it_does_not_know(
    crd_validators: dict[tuple[str, str], Any],
) -> None:
    item = _job()
    _first_worker(item)["minReplica"] = 1
    (error,) = crd_validators[("ray.io/v1", "RayJob")].iter_errors(item)
    assert "minReplica" in error.message


def test_manifests_of_kubernetes_own_kinds_pass_strict_validation(
    distinct: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import kubernetes_validate
    from kubernetes_validate import utils

    # else it reads 1 MB for each object
    monkeypatch.setattr(utils, "schema_contents", cache(utils.schema_contents))
    pods: dict[str, dict[str, Any]] = {}
    for _, item in distinct:
        if not item["apiVersion"].startswith("ray.io/"):
            kubernetes_validate.validate(item, "1.34", strict=True)
        pods |= {json.dumps(pod, sort_keys=True): pod for pod in pod_specs(item)}
    assert len(pods) > 10
    for pod in pods.values():
        whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}
        kubernetes_validate.validate(whole, "1.34", strict=True)


@pytest.mark.parametrize("name", OVERLAYS)
def test_kustomize_of_an_overlay_gives_the_rendered_objects(name: str) -> None:
    assert kustomized(K8S / "overlays" / name) == by_identity(
        manifests(with_overlays(BASE, (name,)))
    )


@pytest.mark.parametrize(("directory", "kind"), [("base", "job"), ("cluster", "cluster")])
def test_kustomize_of_a_base_gives_the_rendered_objects(directory: str, kind: str) -> None:
    assert kustomized(K8S / directory) == by_identity(manifests(deployment(kind, ())))


@pytest.mark.parametrize("directory", ["base", "cluster"])
def test_kustomize_with_a_prefix_and_another_image_changes_ray_objects_too(
    directory: str, tmp_path: Path
) -> None:
    shutil.copytree(K8S / directory, tmp_path / directory)
    kustomization = {
        "resources": [directory],
        "namePrefix": "team-",
        "images": [{"name": "tfresume", "newName": "example.org/tfresume", "newTag": "9.9.9"}],
        "configurations": [f"{directory}/kuberay-fields.yaml"],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    objects = kustomized(tmp_path)
    for item in objects.values():
        if item["apiVersion"].startswith("ray.io/"):
            for pod in pod_specs(item):
                assert pod["serviceAccountName"] == "team-tfresume"
                assert {container["image"] for container in pod["containers"]} == {
                    "example.org/tfresume:9.9.9"
                }
                names = [
                    volume["configMap"]["name"]
                    for volume in pod["volumes"]
                    if "configMap" in volume
                ]
                assert set(names) <= {"team-tfresume-run"}


def _job() -> dict[str, Any]:
    return by_identity(copy.deepcopy(manifests(deployment("job", ("spot",)))))[
        ("RayJob", "tfresume")
    ]


def _cluster_of(item: dict[str, Any]) -> dict[str, Any]:
    return item["spec"]["rayClusterSpec"]


def _first_worker(item: dict[str, Any]) -> dict[str, Any]:
    return _cluster_of(item)["workerGroupSpecs"][0]


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "mode": (lambda item: item["spec"].update(submissionMode="Job"), "submissionMode"),
    "name": (lambda item: item["metadata"].update(name="x" * 48), "47 characters"),
    "selector": (lambda item: item["spec"].update(clusterSelector={"a": "b"}), "clusterSelector"),
    "interactive": (
        lambda item: item["spec"].update(submissionMode="InteractiveMode"),
        "InteractiveMode",
    ),
    "ttl": (
        lambda item: item["spec"].update(shutdownAfterJobFinishes=False),
        "shutdownAfterJobFinishes",
    ),
    "entrypoint": (lambda item: item["spec"].update(entrypoint=""), "entrypoint"),
    "alpha": (lambda item: _cluster_of(item).update(networkPolicy={}), "alpha"),
    "rocksdb": (
        lambda item: _cluster_of(item).update(gcsFaultToleranceOptions={"backend": "rocksdb"}),
        "RocksDB",
    ),
    "no auth": (lambda item: _cluster_of(item).pop("authOptions"), "remote code execution"),
    "old ray": (lambda item: _cluster_of(item).update(rayVersion="2.51.0"), "2.52"),
    "restart": (
        lambda item: _first_worker(item)["template"]["spec"].update(restartPolicy="Always"),
        "restartPolicy Never",
    ),
    "numbers": (
        lambda item: _first_worker(item)["rayStartParams"].update({"num-cpus": 1}),
        "strings",
    ),
    "replicas": (lambda item: _first_worker(item).pop("replicas"), "write replicas"),
    "order": (lambda item: _first_worker(item).update(replicas=99), "minReplicas <= replicas"),
    "kueue": (
        lambda item: item["metadata"]["labels"].update({"kueue.x-k8s.io/queue-name": "q"}),
        "Kueue",
    ),
    "root": (lambda item: _first_worker(item)["template"]["spec"].pop("securityContext"), "root"),
    "grace": (
        lambda item: _first_worker(item)["template"]["spec"].update(
            terminationGracePeriodSeconds=20
        ),
        "killed after 20 s",
    ),
    "requests": (
        lambda item: _container(item)["resources"].pop("limits"),
        "requests must equal limits",
    ),
    "writable": (lambda item: _container(item).pop("securityContext"), "read-only root"),
    "latest": (lambda item: _container(item).update(image="tfresume:latest"), "isn't pinned"),
    "preStop": (lambda item: _container(item).update(lifecycle={"preStop": {}}), "preStop"),
}


def _container(item: dict[str, Any]) -> dict[str, Any]:
    return _first_worker(item)["template"]["spec"]["containers"][0]


@pytest.mark.parametrize("fault", BROKEN)
def test_violations_of_a_broken_manifest_name_the_rule(fault: str) -> None:
    breaks, said = BROKEN[fault]
    item = _job()
    breaks(item)
    assert any(said in text for text in violations([item])), violations([item])


def test_groups_follow_the_runs_elasticity() -> None:
    workers = {
        "count": 3,
        "min": 2,
        "max": 5,
        "standby": 1,
        "cpus": 1.5,
        "memory_bytes": 2 * 1024**3,
    }
    (group,) = with_run(BASE, workers=workers).groups
    assert (group.smallest, group.replicas, group.largest) == (3, 4, 6)
    assert (group.shape.cpus, group.shape.memory_gib) == (2, 4)


def test_groups_on_spot_keep_the_standbys_on_demand() -> None:
    spot, standby = deployment("job", ("spot",)).groups
    assert (spot.spot, spot.smallest, spot.largest) == (True, 1, 8)
    assert (standby.spot, standby.replicas) == (False, 2)


def test_groups_with_gpus_make_room_for_a_standby_in_the_same_pod() -> None:
    (group,) = deployment("job", ("gpu",)).groups
    config = deployment("job", ("gpu",)).config.workers
    assert group.replicas == config.count
    assert group.shape.cpus == 2 * config.cpus


@pytest.mark.parametrize("names", COMBINATIONS)
def test_run_configuration_inside_the_manifests_is_valid(names: tuple[str, ...]) -> None:
    objects = by_identity(manifests(deployment("job", names)))
    parse_config(yaml.safe_load(objects[("ConfigMap", "tfresume-run")]["data"]["run.yaml"]))


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


RUN = ["gs://b/r", "--output", "gs://b/more", "--until-step", "900"]


def test_render_with_a_config_file_sizes_the_groups_from_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert (
        run(
            [
                "render",
                "--config",
                str(REPOSITORY / "configs" / "spot.yaml"),
                "--overlay",
                "spot",
                "--json",
                *RUN,
            ]
        )
        == 0
    )
    objects = by_identity(json.loads(capsys.readouterr().out)["objects"])
    groups = objects[("RayJob", "tfresume")]["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert [(group["groupName"], group["maxReplicas"]) for group in groups] == [
        ("cpu-spot", 8),
        ("standby-ondemand", 2),
    ]
    run_values = yaml.safe_load(objects[("ConfigMap", "tfresume-run")]["data"]["run.yaml"])
    assert (run_values["source"], run_values["address"]) == ("gs://b/r", "auto")


def test_render_to_a_file_writes_one_stream(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "run.yaml"
    assert run(["render", "--overlay", "gpu", "--overlay", "gcs", "--to", str(target)]) == 0
    assert list(yaml.safe_load_all(target.read_text())) == list(
        yaml.safe_load_all(stream(deployment("job", ("gpu", "gcs"))))
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--overlay", "tpu"], "no overlay 'tpu'"),
        (["--overlay", "gcs", "--overlay", "s3"], "exclude each other"),
        (["--name", "x" * 48], "47 characters"),
        (["--image", "tfresume:latest"], "isn't pinned"),
        (["gs://b/r", "--until-step", "9"], "--output is missing"),
        (["gs://b/r", "--output", "gs://b/more"], "the run has no end"),
        ([*RUN, "--input", "feeds.py:batches"], "no Pod has that file"),
    ],
)
def test_render_of_what_would_be_refused_exits_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["render", *words]) == 2
    assert said in capsys.readouterr().err


def test_render_takes_the_flags_of_a_run_into_its_configuration(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert (
        run(
            [
                "render",
                "--json",
                *RUN,
                "--input",
                "my.feeds:batches",
                "--feed",
                "keep_prob:0=0.5",
                "--workers",
                "3",
            ]
        )
        == 0
    )
    objects = by_identity(json.loads(capsys.readouterr().out)["objects"])
    values = parse_config(
        yaml.safe_load(objects[("ConfigMap", "tfresume-run")]["data"]["run.yaml"])
    )
    assert (values.source, values.output, values.until_step, values.workers.count) == (
        "gs://b/r",
        "gs://b/more",
        900,
        3,
    )
    assert (values.input, values.feed) == ("my.feeds:batches", {"keep_prob:0": "0.5"})


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
