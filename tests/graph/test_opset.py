"""The installed TensorFlow's operations are known without importing it."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.graph.graphdef import opset


def test_op_def_of_known_operation_has_inputs_attributes_and_defaults() -> None:
    conv = opset.op_def("Conv2D")
    assert conv is not None
    assert [argument.name for argument in conv.input_arg] == ["input", "filter"]
    assert {attribute.name: attribute.HasField("default_value") for attribute in conv.attr}[
        "strides"
    ] is False
    assert {attribute.name: attribute.default_value.s for attribute in conv.attr}[
        "data_format"
    ] == b"NHWC"


def test_op_def_of_unknown_operation_is_none() -> None:
    assert opset.op_def("HorovodAllreduce") is None


def test_installed_matches_the_installed_distribution_and_is_not_stale() -> None:
    assert opset.installed().tensorflow == opset.installed_version()
    assert opset.installed().stale == ""


def test_installed_is_read_without_importing_tensorflow() -> None:
    program = "import sys; from orchestrator.graph.graphdef import opset; opset.installed(); sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_merged_adds_the_graphs_own_operations_as_foreign_and_keeps_the_installed_ones() -> None:
    meta = MetaGraphDef()
    meta.meta_info_def.stripped_op_list.op.add(name="HorovodAllreduce")
    meta.meta_info_def.stripped_op_list.op.add(name="Conv2D")
    ops = opset.merged(meta)
    assert ops.get("HorovodAllreduce") is not None
    assert not ops.registered("HorovodAllreduce")
    assert ops.registered("Conv2D")
    assert len(ops.ops["Conv2D"].input_arg) == 2


def test_installed_of_another_version_that_cannot_be_asked_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(opset, "installed_version", lambda: "9.9.9")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(opset.sys, "executable", str(tmp_path / "no-python"))  # type: ignore[attr-defined]
    found = opset.installed.__wrapped__()
    assert "9.9.9 couldn't be asked" in found.stale
    assert found.registered("Conv2D")


def test_installed_of_another_version_is_read_from_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(opset, "installed_version", lambda: "9.9.9")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = opset.cache_path("9.9.9")
    path.parent.mkdir(parents=True)
    content = {
        "tensorflow": "9.9.9",
        "graph_def_version": 1,
        "min_producer": 0,
        "gpu_only": [],
        "without_kernel": [],
        "ops": "",
    }
    path.write_bytes(gzip.compress(json.dumps(content).encode()))
    found = opset.installed.__wrapped__()
    assert (found.tensorflow, found.stale, len(found.ops)) == ("9.9.9", "", 0)


@pytest.mark.tf
def test_shipped_operations_are_those_that_tensorflow_lists(tmp_path: Path) -> None:
    path = tmp_path / "opset.json.gz"
    command = [sys.executable, "-m", "orchestrator.training.engine.opset_export", str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    asked, shipped = opset.read_opset(path.read_bytes()), opset.installed()
    assert asked.ops == shipped.ops
    assert asked.gpu_only == shipped.gpu_only
