"""Do the flags of ``render`` arrive where they belong in the manifests, and the user's code with them?"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from launch.cli import run
from launch.render.kustomize import stream
from launch.render.manifests import RUN_FILES
from launch.render.pods import CODE_PATH, CONFIG_PATH
from launch.render.rules import pod_specs
from orchestrator.config import parse_config
from tests.graphs.library import CheckpointLibrary
from tests.launch.test_render import (
    REPOSITORY,
    by_identity,
    cluster_of,
    deployment,
    first_worker,
    run_of,
)
from tests.turns import quick_in_turn

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
                "--overlay",
                "gpu",
                "--json",
                *RUN,
            ]
        )
        == 0
    )
    objects = by_identity(json.loads(capsys.readouterr().out)["objects"])
    groups = objects[("RayJob", "tfresume")]["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert [(group["groupName"], group["maxReplicas"]) for group in groups] == [
        ("workers", 8),
        ("standby", 2),
    ]
    run_values = run_of(objects)
    assert (run_values["source"], run_values["address"]) == ("gs://b/r", "auto")


def test_render_to_a_file_writes_one_stream(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "run.yaml"
    assert run(["render", "--overlay", "gpu", "--overlay", "gcs", "--to", str(target)]) == 0
    assert list(yaml.safe_load_all(target.read_text())) == list(
        yaml.safe_load_all(stream(deployment("job", ("gpu", "gcs"))))
    )


@pytest.mark.parametrize(
    ("words", "said"),
    quick_in_turn(
        [
            (["--overlay", "tpu"], "no overlay 'tpu'"),
            (["--overlay", "gcs", "--overlay", "s3"], "exclude each other"),
            (["--overlay", "spot", "--overlay", "s3"], "Name spot-eks beside s3"),
            (["--overlay", "spot-aks", "--overlay", "gcs"], "another cloud's nodes"),
            (["--name", "x" * 48], "47 characters"),
            (["--name", "Run_7"], "error: --name: 'Run_7' is no name that Kubernetes takes"),
            (["--namespace", "a b"], "no namespace that Kubernetes takes"),
            (["--image", "tfresume:latest"], "isn't pinned"),
            (["--image", "example.org/tf resume:1"], "no image that Kubernetes can pull"),
            (["gs://b/r", "--until-step", "9"], "--output is missing"),
            (["gs://b/r", "--output", "gs://b/more"], "the run has no end"),
            ([*RUN, "--workers.gpus", "1"], "Add --overlay gpu"),
            ([*RUN, "--overlay", "gpu", "--workers.gpus", "0"], "take --overlay cpu"),
            ([*RUN, "--overlay", "s3"], "isn't in the store that the s3 overlay gives rights to"),
            (["/data/r", *RUN[1:]], "is a path of this machine, and no Pod has it"),
            (["/home/me/r", *RUN[1:], "--overlay", "pvc"], "below /data"),
            (["/data/../etc/r", *RUN[1:], "--overlay", "pvc"], "below /data"),
            (
                [*RUN, "--array", "x:0=/home/me/x.npy", "--batch-size", "4"],
                "--array /home/me/x.npy",
            ),
            ([*RUN, "--input", "absent.py:batches"], "there is no"),
            ([*RUN, "--gpu-type", "nvidia-l4"], "uses --gpu-type"),
            ([*RUN, "--claim", "mine"], "uses --claim"),
            ([*RUN, "--data-path", "/mnt"], "uses --data-path"),
            ([*RUN, "--overlay", "kueue"], "--queue NAME"),
            ([*RUN, "--node-selector", "pool"], "LABEL=VALUE"),
        ],
        3,
    ),
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
    values = parse_config(run_of(objects))
    assert (values.source, values.output, values.until_step, values.workers.count) == (
        "gs://b/r",
        "gs://b/more",
        900,
        3,
    )
    assert (values.input, values.feed) == ("my.feeds:batches", {"keep_prob:0": "0.5"})


def test_render_with_values_puts_them_where_they_belong_and_leaves_no_name_to_replace(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--overlay", "gpu", "--overlay", "gcs", "--gpu-type", "nvidia-l4", "--queue", "team-a"]
    words += ["--node-selector", "pool=train", "--priority-class", "high"]
    assert run(["render", *RUN, *words]) == 0
    text = capsys.readouterr().out
    assert not re.search(r"\b(?:BUCKET|PROJECT|ACCOUNT|REGION|QUEUE|CLIENT_ID)\b", text)
    objects = by_identity(list(yaml.safe_load_all(text)))
    job = objects[("RayJob", "tfresume")]
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert job["metadata"]["annotations"] == {"kueue.x-k8s.io/elastic-job": "true"}
    pod = first_worker(job)["template"]["spec"]
    assert pod["priorityClassName"] == "high"
    assert pod["nodeSelector"]["pool"] == "train"
    assert pod["nodeSelector"]["cloud.google.com/gke-accelerator"] == "nvidia-l4"
    assert set(objects[("ConfigMap", "tfresume-run")]["data"]) == {RUN_FILES["run"]}


@pytest.mark.parametrize(("count", "expected"), [(20, (2, 20, 20)), (1, (1, 1, 8))])
def test_render_with_more_or_fewer_workers_than_the_overlay_suggests_widens_its_bounds(
    count: int, expected: tuple[int, int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["render", *RUN, "--overlay", "cpu", "--workers", str(count), "--json"]) == 0
    objects = by_identity(json.loads(capsys.readouterr().out)["objects"])
    group = first_worker(objects[("RayJob", "tfresume")])
    assert (group["minReplicas"], group["replicas"], group["maxReplicas"]) == expected


def test_render_with_gpus_and_an_image_by_its_digest_keeps_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = "example.org/run7@sha256:" + "0a" * 32
    assert run(["render", *RUN, "--overlay", "gpu", "--image", image, "--json"]) == 0
    objects = by_identity(json.loads(capsys.readouterr().out)["objects"])
    pods = list(pod_specs(objects[("RayJob", "tfresume")]))
    assert {container["image"] for pod in pods for container in pod["containers"]} == {image}


def test_render_with_a_claim_of_ones_own_makes_none(capsys: pytest.CaptureFixture[str]) -> None:
    there = ["/mnt/r", "--output", "/mnt/more", "--steps", "9", "--overlay", "pvc"]
    assert run(["render", *there, "--data-path", "/mnt", "--claim", "shared", "--json"]) == 0
    objects = json.loads(capsys.readouterr().out)["objects"]
    assert "PersistentVolumeClaim" not in {item["kind"] for item in objects}
    pod = first_worker(by_identity(objects)[("RayJob", "tfresume")])["template"]["spec"]
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "shared"}} in pod["volumes"]
    assert {"name": "data", "mountPath": "/mnt"} in pod["containers"][0]["volumeMounts"]
    made = ["--data-path", "/mnt", "--storage-class", "fast"]
    assert run(["render", *there, *made, "--json"]) == 0
    objects = json.loads(capsys.readouterr().out)["objects"]
    (claim,) = [item for item in objects if item["kind"] == "PersistentVolumeClaim"]
    assert claim["spec"]["storageClassName"] == "fast"


def test_render_ships_the_input_functions_file_and_its_own_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    text = "def batches(ctx):\n    yield {}\n"
    for name in ("own/feeds.py", "more_feeds.py"):
        (tmp_path / name).write_text(text)
    words = ["--input", "own/feeds.py:batches", "--py-func", "t=more_feeds:batches"]
    assert run(["render", "--json", *RUN, *words]) == 0
    objects = by_identity(json.loads(capsys.readouterr().out)["objects"])
    assert objects[("ConfigMap", "tfresume-code")]["data"] == {
        "feeds.py": text,
        "more_feeds.py": text,
    }
    assert run_of(objects)["input"] == f"{CODE_PATH}/feeds.py:batches"
    cluster = cluster_of(objects[("RayJob", "tfresume")])
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        assert {"name": "PYTHONPATH", "value": CODE_PATH} in container["env"]
        assert CODE_PATH in {mount["mountPath"] for mount in container["volumeMounts"]}
    held = ["/data/r", "--output", "/data/m", "--steps", "1", "--overlay", "pvc"]
    assert run(["render", "--json", *held, "--input", "/data/own/feeds.py:batches"]) == 0
    objects = by_identity(json.loads(capsys.readouterr().out)["objects"])
    assert run_of(objects)["input"] == "/data/own/feeds.py:batches"
    assert ("ConfigMap", "tfresume-code") not in objects
    (tmp_path / "my feeds.py").write_text(text)
    assert run(["render", *RUN, "--input", "my feeds.py:batches"]) == 2
    assert "can't be a ConfigMap's key" in capsys.readouterr().err
    (tmp_path / "large.py").write_text("#" * 1_000_000)
    assert run(["render", *RUN, "--input", "large.py:batches"]) == 2
    assert "a ConfigMap takes 900000" in capsys.readouterr().err
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text(text)
    assert run(["render", *RUN, "--input", "pack:batches"]) == 2
    assert "Build an image" in capsys.readouterr().err


@pytest.mark.tf
def test_rendered_run_passes_a_dry_run_in_the_pods_file_system(
    tf1_checkpoint: CheckpointLibrary,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The claim and the ConfigMap are directories here; nothing else is changed."""
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    tf1_checkpoint.copy(data / "run", "mlp", optimizer="adam")
    (tmp_path / "feeds.py").write_text("def batches(ctx):\n    yield {}\n")
    words = [str(data / "run"), "--output", str(data / "more"), "--steps", "5", "--workers", "2"]
    words += ["--input", "feeds.py:batches", "--overlay", "pvc", "--data-path", str(data)]
    assert run(["render", *words, "--json"]) == 0
    objects = by_identity(json.loads(capsys.readouterr().out)["objects"])
    mounted = tmp_path / "etc"
    mounted.mkdir()
    for name, text in objects[("ConfigMap", "tfresume-run")]["data"].items():
        (mounted / name).write_text(text)
    entrypoint = objects[("RayJob", "tfresume")]["spec"]["entrypoint"]
    assert entrypoint == f"tfresume resume --config {CONFIG_PATH}"
    there = entrypoint.replace(CONFIG_PATH, str(mounted)).split()[1:]
    assert run([*there, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["until_step"] - plan["start_step"] == 5
    assert plan["workers"]["count"] == 2
    assert "input" in {port["served_by"] for port in plan["inputs"]}


def test_submitter_of_a_rendered_cluster_finds_the_code_and_ships_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "feeds.py").write_text("def batches(ctx):\n    yield {}\n")
    assert run(["render", "--kind", "cluster", *RUN, "--input", "feeds.py:batches", "--json"]) == 0
    objects = by_identity(json.loads(capsys.readouterr().out)["objects"])
    (pod,) = pod_specs(objects[("Job", "tfresume-submit")])
    (container,) = pod["containers"]
    held = {volume["name"]: volume.get("configMap", {}).get("name") for volume in pod["volumes"]}
    command = " ".join(container["command"])
    for mount in container["volumeMounts"]:
        if named := held[mount["name"]]:
            place = tmp_path / mount["name"]
            place.mkdir()
            for name, text in objects[("ConfigMap", named)]["data"].items():
                (place / name).write_text(text.replace(CODE_PATH, str(tmp_path / "code")))
    there = command.replace(CONFIG_PATH, str(tmp_path / "config")).replace("$(", "x").split()[1:]
    (tmp_path / "feeds.py").unlink()
    words = [word.replace("xTFRESUME_RAY_CLUSTER)", "x") for word in there if word != "--follow"]
    assert run([*words, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["job"]["run"]["input"] == "feeds.py:batches"
    assert plan["job"]["files"] == {"feeds.py": str(tmp_path / "code" / "feeds.py")}
