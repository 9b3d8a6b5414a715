"""Does the doctor name each fault with its place and its cure, here and on every node of a cluster?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launch.cli import run
from launch.doctor.diagnosis import Finding, diagnosis, passed
from launch.doctor.facts import NodeFacts, StoreProbe, probe_store
from launch.doctor.nodes import told_apart
from tests.launch.conftest import ray_environment

pytestmark = pytest.mark.turns(32, "whole runs")

GIB = 1024**3
VERSIONS = {"tfresume": "0.1.0", "tensorflow": "2.21.0", "ray": "2.60.0", "protobuf": "6.33.0"}
HEALTHY = NodeFacts(
    host="node-a",
    python="3.11.7",
    packages=dict(VERSIONS),
    tensorflow_gpus=0,
    memory_free_bytes=16 * GIB,
    shm_free_bytes=8 * GIB,
    scratch_free_bytes=50 * GIB,
    backends={"gs": True, "s3": True, "az": False},
    ray_cpus=8.0,
    ray_gpus=0.0,
    clock_offset_s=0.01,
    clock_error_s=0.01,
)
WITH_GPU = replace(
    HEALTHY,
    host="node-g",
    tensorflow_gpus=2,
    driver_gpus=2,
    ray_gpus=2.0,
    nccl="2.27.3",
    tensorflow_cuda="12.5.1",
)


def of(findings: tuple[Finding, ...], check: str) -> list[Finding]:
    return [finding for finding in findings if finding.check == check]


def test_diagnosis_of_healthy_nodes_passes_everything() -> None:
    findings = diagnosis([HEALTHY, WITH_GPU], HEALTHY)
    assert [finding for finding in findings if finding.verdict != "ok"] == []
    assert {finding.where for finding in findings} == {"node-a", "node-g", "all nodes"}


@pytest.mark.parametrize(
    ("node", "check", "verdict"),
    [
        (replace(HEALTHY, python="3.10.2"), "Python", "fail"),
        (replace(HEALTHY, packages={**VERSIONS, "tensorflow": None}), "TensorFlow", "fail"),
        (replace(HEALTHY, tensorflow_error="ImportError: libcudart"), "TensorFlow", "fail"),
        (replace(WITH_GPU, tensorflow_gpus=0), "GPUs", "fail"),
        (replace(HEALTHY, ray_gpus=1.0), "GPUs", "fail"),
        (replace(WITH_GPU, ray_gpus=0.0), "GPUs", "warn"),
        (replace(WITH_GPU, nccl=None), "NCCL", "warn"),
        (replace(HEALTHY, memory_free_bytes=GIB), "memory", "warn"),
        (replace(HEALTHY, shm_free_bytes=64 * 1024**2), "/dev/shm", "warn"),
        (replace(HEALTHY, shm_free_bytes=None), "/dev/shm", "warn"),
        (replace(HEALTHY, scratch_free_bytes=GIB), "scratch", "warn"),
        (replace(HEALTHY, clock_offset_s=90.0), "clock", "warn"),
        (
            replace(HEALTHY, store={"gs://b": StoreProbe("gs://b", 0.1, error="403 forbidden")}),
            "store gs://b",
            "fail",
        ),
        (
            replace(
                HEALTHY, store={"gs://b": StoreProbe("gs://b", 0.1, warning="no exclusive create")}
            ),
            "store gs://b",
            "warn",
        ),
        (
            NodeFacts(host="node-a", error="ModuleNotFoundError: No module named 'launch'"),
            "node",
            "fail",
        ),
    ],
)
def test_diagnosis_of_one_fault_names_node_and_cure(
    node: NodeFacts, check: str, verdict: str
) -> None:
    findings = diagnosis([node, replace(HEALTHY, host="node-b")])
    (finding,) = (finding for finding in of(findings, check) if finding.where == node.host)
    assert finding.verdict == verdict
    assert finding.cure
    assert passed(findings) == all(item.verdict != "fail" for item in findings)


@pytest.mark.parametrize("package", ["tfresume", "tensorflow", "ray", "protobuf"])
def test_diagnosis_of_versions_that_differ_fails_and_says_where_which_is(package: str) -> None:
    other = replace(HEALTHY, host="node-b", packages={**VERSIONS, package: "9.9.9"})
    (finding,) = of(diagnosis([HEALTHY, other]), f"{package} agrees")
    assert finding.verdict == "fail"
    assert "9.9.9 on node-b" in finding.found
    assert "node-a" in finding.found


def test_diagnosis_compares_the_asking_machine_too() -> None:
    ours = replace(HEALTHY, host="laptop", packages={**VERSIONS, "ray": "2.40.0"})
    (finding,) = of(diagnosis([HEALTHY], ours), "ray agrees")
    assert "2.40.0 on laptop" in finding.found


def test_diagnosis_of_differing_pythons_fails() -> None:
    (finding,) = of(
        diagnosis([HEALTHY, replace(HEALTHY, host="node-b", python="3.12.1")]), "Python agrees"
    )
    assert finding.verdict == "fail"


def test_diagnosis_clock_within_its_own_measuring_error_passes() -> None:
    (finding,) = of(diagnosis([replace(HEALTHY, clock_offset_s=7.0, clock_error_s=4.0)]), "clock")
    assert finding.verdict == "ok"


def test_probe_store_of_a_writable_directory_leaves_nothing_behind(tmp_path: Path) -> None:
    probe = probe_store(str(tmp_path / "out"))
    assert (probe.error, probe.warning) == ("", "")
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_probe_store_of_what_cannot_be_written_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert probe_store(str(tmp_path / "file" / "out")).error


def test_probe_store_of_an_unknown_scheme_says_so() -> None:
    assert "bogus" in probe_store("bogus://b/x").error


def test_probe_store_with_a_password_is_refused_and_hides_it() -> None:
    probe = probe_store("bogus://me:geheim123@b/x")
    assert "holds a credential" in probe.error
    assert "geheim123" not in probe.error + probe.url


@pytest.mark.tf
def test_doctor_of_this_machine_passes_and_prints_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor", "--url", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for check in ("Python", "TensorFlow", "GPUs", "memory", "/dev/shm", "storage clients", "store"):
        assert check in shown


@pytest.mark.tf
def test_doctor_with_a_store_that_refuses_exits_1_in_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert run(["doctor", "--url", str(tmp_path / "file" / "x"), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["status"] == "failed"
    assert [
        finding["verdict"] for finding in answer["findings"] if finding["check"].startswith("store")
    ] == ["fail"]


@pytest.mark.tf
def test_facts_where_tensorflow_cannot_be_imported_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from launch.doctor.facts import gather

    (tmp_path / "tensorflow.py").write_text("raise ImportError('broken on purpose')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert "broken on purpose" in gather().tensorflow_error


def test_doctor_of_a_cluster_that_is_not_there_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--address", "http://127.0.0.1:1"]) == 2
    assert "no job server answers" in capsys.readouterr().err


@pytest.mark.ray
@pytest.mark.tf
def test_doctor_of_a_clusters_nodes_through_its_job_server(
    job_server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["doctor", "--address", job_server, "--url", str(tmp_path), "--json"])
    shown = capsys.readouterr().out
    assert code == 0, shown
    findings = json.loads(shown)["findings"]
    assert {finding["check"] for finding in findings} >= {
        "Python",
        "TensorFlow",
        "GPUs",
        "clock",
        f"store {tmp_path}",
        "ray",
    }


@pytest.fixture
def two_nodes(tmp_path: Path) -> Iterator[str]:
    """The address of a cluster whose second node has another tfresume and protobuf, a GPU too many
    and no scratch directory.
    """
    from ray.cluster_utils import Cluster

    for package in ("tfresume", "protobuf"):
        metadata = tmp_path / "other" / f"{package}-9.9.9.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 9.9.9\n")
    other = {
        "PYTHONPATH": os.pathsep.join((str(tmp_path / "other"), os.environ.get("PYTHONPATH", ""))),
        "TMPDIR": "/nowhere",
    }
    small = {"object_store_memory": 80 * 1024 * 1024}
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False, "dashboard_port": 0, **small},
    )
    try:
        cluster.add_node(num_cpus=2, num_gpus=1, env_vars=other, **small)
        yield cluster.address
    finally:
        cluster.shutdown()


@pytest.mark.ray
@pytest.mark.tf
def test_doctor_of_two_nodes_names_what_differs_and_where(two_nodes: str, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "launch.cli",
        "doctor",
        "--address",
        two_nodes,
        "--url",
        str(tmp_path / "out"),
        "--json",
    ]
    # elsewhere: a checkout's own metadata, in the driver's directory, would come first on every
    # node
    done = subprocess.run(
        command,
        env=ray_environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    findings = [Finding(**finding) for finding in json.loads(done.stdout)["findings"]]
    (bad,) = (
        finding for finding in findings if finding.check == "GPUs" and finding.verdict == "fail"
    )
    assert "Ray offers 1" in bad.found
    places = {finding.where for finding in findings} - {"all nodes"}
    (good,) = places - {bad.where}
    for package in ("tfresume", "protobuf"):
        (finding,) = of(tuple(findings), f"{package} agrees")
        assert finding.verdict == "fail"
        assert f"9.9.9 on {bad.where}" in finding.found
        assert good in finding.found
    wrong = {
        (finding.check, finding.where)
        for finding in findings
        if finding.verdict != "ok" and finding.where == bad.where
    }
    assert {("GPUs", bad.where), ("scratch", bad.where)} <= wrong
    assert [
        finding for finding in findings if finding.where == good and finding.verdict == "fail"
    ] == []
    probed = [finding for finding in findings if finding.check.startswith("store")]
    assert {(finding.where, finding.verdict) for finding in probed} == {
        (good, "ok"),
        (bad.where, "ok"),
    }
    assert len(of(tuple(findings), "clock")) == 2
    assert all(finding.cure for finding in findings if finding.verdict != "ok")


def test_nodes_of_one_host_are_told_apart() -> None:
    one, other, third = told_apart(
        [
            replace(HEALTHY, node_id="aaaabbbbcccc"),
            replace(HEALTHY, node_id="ddddeeeeffff"),
            replace(HEALTHY, host="node-z"),
        ]
    )
    assert [one.host, other.host, third.host] == ["node-a/aaaabbbb", "node-a/ddddeeee", "node-z"]


def test_doctor_url_with_a_credential_is_not_put_into_a_jobs_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert (
        run(["doctor", "--address", "http://127.0.0.1:1", "--url", "s3://AKIA1:geheim123@b/x"]) == 2
    )
    assert "geheim123" not in "".join(capsys.readouterr())


def test_gathering_on_a_node_imports_no_tensorflow_into_the_asking_process() -> None:
    script = "import sys; import launch.doctor.facts, launch.doctor.diagnosis; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0
