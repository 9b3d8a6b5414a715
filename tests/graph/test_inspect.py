"""An inspection tells what a graph and its checkpoint hold, fast and without TensorFlow."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from launch.text.inspect_text import clean, render_inspect
from orchestrator.config import RunConfig
from orchestrator.graph.graphdef.op_traits import is_variable
from orchestrator.graph.graphdef.opset import op_def
from orchestrator.graph.graphdef.tensors import dtype_name, shape_of
from orchestrator.graph.inspect import inspect
from orchestrator.graph.inspect_report import Inspection
from orchestrator.graph.plan import plan
from orchestrator.graph.variables.checkpoint_keys import CheckpointTensor
from tests.graph.fuzzing import seed_graphs
from tests.graph.synthetic import deep_chain

SEEDS = seed_graphs()


def _meta(name: str) -> MetaGraphDef:
    return MetaGraphDef.FromString(SEEDS[name])


def _inspect(name: str, **options: Any) -> Inspection:
    return inspect(_meta(name), source=f"{name}.meta", size_bytes=len(SEEDS[name]), **options)


def _checkpoint(meta: MetaGraphDef) -> dict[str, CheckpointTensor]:
    """What a checkpoint of an unpartitioned graph holds."""
    found = {}
    for node in meta.graph_def.node:
        definition = op_def(node.op)
        if definition is not None and is_variable(definition):
            found[node.name] = CheckpointTensor(
                dtype_name(node.attr["dtype"].type), shape_of(node.attr["shape"].shape)
            )
    return found


def test_inspect_of_an_adam_graph_names_train_op_step_optimizer_and_slots() -> None:
    report = _inspect("mlp")
    assert report.chosen_train_ops == ("Adam",)
    assert report.step is not None
    assert report.step.variable == "global_step"
    (optimizer,) = report.optimizers
    assert (optimizer.op_type, optimizer.scope) == ("ApplyAdam", "Adam")
    assert set(optimizer.variables) == {"hidden/kernel", "hidden/bias", "out/kernel", "out/bias"}
    slots = {variable.name: variable.slot_of for variable in report.variables if variable.slot_of}
    assert slots["hidden/kernel/Adam_1"] == "hidden/kernel"
    kernel = next(variable for variable in report.variables if variable.name == "hidden/kernel")
    assert (kernel.kind, kernel.dtype, kernel.trainable, kernel.needed) == (
        "ref",
        "float32",
        True,
        True,
    )
    assert kernel.shape is not None
    assert kernel.size_bytes == 4 * (kernel.shape[0] or 0) * (kernel.shape[1] or 0)
    assert report.totals.trainable_bytes < report.totals.variable_bytes


def test_inspect_of_inputs_tells_placeholders_queues_and_iterators_apart() -> None:
    placeholders = {entry.name: entry for entry in _inspect("mlp").inputs}
    assert placeholders["x:0"].origin == "placeholder"
    assert placeholders["x:0"].needed
    queues = [
        entry for entry in _inspect("queue").inputs if entry.origin == "queue" and entry.needed
    ]
    assert queues
    assert all(entry.runner and entry.fed_by for entry in queues)
    iterators = [entry for entry in _inspect("tfdata").inputs if entry.origin == "iterator"]
    assert iterators
    assert any("Dataset" in stage for stage in iterators[0].fed_by)


def test_inspect_of_partitioned_resource_variables_names_the_whole() -> None:
    parts = [
        variable
        for variable in _inspect("embedding_partitions_2_resource_true").variables
        if variable.part_of
    ]
    assert len(parts) >= 2
    assert all(variable.kind == "resource" for variable in parts)
    assert all(variable.name != variable.part_of for variable in parts)


def test_inspect_of_devices_counts_nodes_and_says_where_they_go() -> None:
    devices = _inspect("mlp_devices_true_clip_true").devices
    assert {device.becomes for device in devices} == {""}
    assert any("ps" in device.device for device in devices)
    kept = _inspect("mlp_devices_true_clip_true", clear_devices=False).devices
    assert all(device.becomes == device.device for device in kept)


def test_inspect_of_local_metric_variables_marks_them() -> None:
    assert any(variable.local for variable in _inspect("metrics").variables)


def test_inspect_of_a_checkpoint_that_fits_finds_nothing() -> None:
    found = _inspect("mlp", checkpoint=_checkpoint(_meta("mlp"))).checkpoint
    assert found is not None
    assert (found.missing, found.unused, found.different) == ((), (), ())


def test_inspect_of_a_checkpoint_that_does_not_fit_names_every_difference() -> None:
    keys = _checkpoint(_meta("mlp"))
    del keys["hidden/kernel/Adam"]
    keys["hidden/bias"] = CheckpointTensor("float64", keys["hidden/bias"].shape)
    keys["out/bias"] = CheckpointTensor("float32", (77,))
    keys["other"] = CheckpointTensor("float32", (1,))
    report = _inspect("mlp", checkpoint=keys)
    assert report.checkpoint is not None
    assert report.checkpoint.missing == ("hidden/kernel/Adam",)
    assert report.checkpoint.unused == ("other",)
    assert len(report.checkpoint.different) == 2
    states = {variable.name: variable.in_checkpoint for variable in report.variables}
    assert (states["hidden/bias"], states["out/bias"], states["out/kernel"]) == (
        "other type",
        "other shape",
        "yes",
    )


def test_inspect_of_a_damaged_graph_describes_what_stands_in_it() -> None:
    meta = _meta("mlp")
    meta.graph_def.node[5].input.append("nowhere")
    report = inspect(meta, source="x.meta", size_bytes=1)
    assert "unknown-input" in {problem.code for problem in report.problems}
    assert report.totals.nodes == len(meta.graph_def.node)
    assert report.train_ops == ()


@pytest.mark.parametrize("name", SEEDS)
def test_inspect_as_json_and_rendered_is_complete_and_plain(name: str) -> None:
    report = _inspect(name, checkpoint=_checkpoint(_meta(name)))
    plain = json.loads(json.dumps(report.as_dict()))
    assert len(plain["variables"]) == report.totals.variables
    with Path("/dev/null").open("w") as nowhere:
        console = Console(record=True, width=1000, file=nowhere)
        render_inspect(report, console)
        text = console.export_text()
    assert report.chosen_train_ops[0] in text
    assert all(variable.name in text for variable in report.variables[:40])


def test_clean_of_a_hostile_name_has_neither_markup_nor_terminal_codes() -> None:
    assert clean("[red]a\x1b[31mb\u202ec") == "\\[red]a�[31mb�c"


@pytest.mark.slow
def test_inspect_command_ends_without_tensorflow(tmp_path: Path) -> None:
    path = tmp_path / "chain.meta"
    path.write_bytes(deep_chain(900).SerializeToString())
    program = "import sys; sys.modules['tensorflow'] = None; from launch.cli import run; sys.exit(run(['inspect', *sys.argv[1:]]))"
    done = subprocess.run(
        [sys.executable, "-c", program, str(path), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["chosen_train_ops"] == ["train"]


def _calls(meta: MetaGraphDef, asked: Callable[[MetaGraphDef], object]) -> int:
    """How many functions Python calls for an answer: what a clock would say on a machine with
    nothing else to do.
    """
    count = 0

    def counted(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        asked(meta)
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked",
    [
        lambda meta: inspect(meta, source="x.meta", size_bytes=1),
        lambda meta: plan(meta, RunConfig(source="x", workers=2, input="a:b")),
    ],
    ids=["inspect", "plan"],
)
def test_work_for_ten_times_the_nodes_is_ten_times_as_much(
    asked: Callable[[MetaGraphDef], object],
) -> None:
    asked(deep_chain(90))
    small, large = deep_chain(450), deep_chain(4_500)
    ratio = len(large.graph_def.node) / len(small.graph_def.node)
    assert _calls(large, asked) <= 1.1 * ratio * _calls(small, asked)
