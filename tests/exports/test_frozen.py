"""A frozen graph holds no state and no training, and gives what the trained graph gives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.compat.proto.graph_pb2 import GraphDef

from orchestrator.config import parse_config
from orchestrator.driver.infer import infer
from orchestrator.errors import ConfigError, GraphMismatch, GraphRefused, OrchestratorError
from orchestrator.exports import frozen as freezing
from orchestrator.exports.constants import Constants
from orchestrator.exports.frozen import export_graph
from orchestrator.graph.graphdef.opset import merged
from orchestrator.graph.inference.freezing import Frozen, freeze
from orchestrator.store.checkpoints.source import resolve_source
from tests import forked
from tests.conftest import CORPUS
from tests.exports.test_export import _entries

pytestmark = pytest.mark.turns(8)

STATE = ("Variable", "VariableV2", "VarHandleOp", "ReadVariableOp", "RefSwitch", "RefEnter")


def _frozen(entry: Path, *, tables: bool) -> tuple[Any, Frozen]:
    source = resolve_source(str(entry))
    model = freezing._model(source, ())
    value = Constants(source, model.graph).value
    return model, freeze(model.graph, model.outputs, model.cuts, value, tables=tables)


@pytest.mark.slow
@pytest.mark.usefixtures("corpus")
@pytest.mark.parametrize("tables", [False, True])
def test_frozen_graphs_of_third_party_checkpoints_hold_no_state_and_no_training(
    tables: bool,
) -> None:
    refused: dict[str, str] = {}
    entries = _entries()
    for entry in entries:
        try:
            model, frozen = _frozen(CORPUS / entry, tables=tables)
        except OrchestratorError as error:
            refused[entry] = str(error)
            continue
        ops = merged(model.graph.meta)
        names = {node.name for node in frozen.graph.node}
        for node in frozen.graph.node:
            assert node.op not in STATE, (entry, node.name)
            assert not node.op.startswith(("Apply", "ResourceApply", "Save", "Restore")), entry
            assert ops.get(node.op) is not None, (entry, node.op)
            assert (node.device, "_class" in node.attr) == ("", False)
            for text in node.input:
                assert text.lstrip("^").partition(":")[0] in names, (entry, node.name, text)
    if not tables:
        refused = {entry: why for entry, why in refused.items() if "lookup table" not in why}
    assert len(refused) <= len(entries) * 0.05, refused


@pytest.mark.tf
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("mlp", {}),
        ("embedding", {"resource": True}),
        ("embedding", {"partitions": 3}),
        ("dropout", {"resource": True}),
        ("lstm", {}),
        ("tfdata", {"resource": True}),
    ],
)
def test_frozen_graph_gives_what_the_trained_graph_gives(
    tf1_checkpoint: Callable[..., Path], tmp_path: Path, kind: str, options: dict[str, Any]
) -> None:
    prefix = tf1_checkpoint(kind, **options)
    found = export_graph(parse_config({"source": str(prefix)}), str(tmp_path / "out"), to="frozen")
    assert found.difference <= 1e-6
    assert found.compared == 2
    graph = GraphDef.FromString((tmp_path / "out" / "frozen.pb").read_bytes())
    assert [node.name for node in graph.node if node.op in STATE] == []
    assert not {"y:0"} & {one.tensor for one in found.inputs}
    # noise on its input is the author's wish; the mask goes
    assert len(found.left) == (1 if kind == "dropout" else 0)
    assert len(found.switched) == (1 if kind == "dropout" else 0)


@pytest.mark.slow
def test_batch_norm_whose_averages_are_debiased_takes_them_and_not_the_sums_behind_them(
    corpus: Path,
) -> None:
    source = resolve_source(str(corpus / "huqinwei__tensorflow_demo/BN_variables_save.ckpt"))
    model = freezing._model(source, ["batchnorm/add_1:0"])
    assert model.switched.done == (
        "bn_1/moving_mean stands for the batch's own moments/Squeeze:0",
        "bn_1/moving_variance stands for the batch's own moments/Squeeze_1:0",
    )
    assert model.switched.left == ()


@pytest.mark.tf
@pytest.mark.parametrize("style", ["dependencies", "group"])
def test_batch_norm_that_was_built_for_training_takes_its_averages(
    tf1_checkpoint: Callable[..., Path], tmp_path: Path, style: str
) -> None:
    prefix = tf1_checkpoint("conv_bn", style=style)
    found = export_graph(parse_config({"source": str(prefix)}), str(tmp_path / "out"), to="frozen")
    assert {said.partition(" ")[0] for said in found.switched} == {
        "bn/moving_mean",
        "bn/moving_variance",
    }
    assert found.left == ()
    graph = GraphDef.FromString((tmp_path / "out" / "frozen.pb").read_bytes())
    names = {node.name for node in graph.node}
    assert {"bn/moving_mean", "bn/moving_variance"} <= names
    assert [name for name in names if "moments" in name] == []


@pytest.mark.tf
def test_comparison_does_not_outlive_who_asked_for_it(tmp_path: Path) -> None:
    # this process isn't the parent of a fork: as if the parent had been killed
    module = "orchestrator.training.baseline.frozen_check"
    done = forked.run(module, tmp_path / "task", tmp_path / "answer", os.getpid())
    assert done.returncode == -signal.SIGKILL, done.stderr


LOADED = """
import json, sys
import numpy as np, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
signature = model.signatures["serving_default"]
given = np.load(sys.argv[2])
(found,) = signature(**{key: tf.constant(given[key]) for key in given.files}).values()
np.save(sys.argv[3], found.numpy())
"""


@pytest.mark.tf
def test_saved_model_is_loaded_by_tensorflow_and_its_signature_gives_what_infer_gives(
    tf1_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    prefix = tf1_checkpoint("mlp")
    config = parse_config({"source": str(prefix), "input": "tests.end_to_end.inputs:mlp"})
    found = export_graph(config, str(tmp_path / "out"), to="saved-model")
    assert (found.made, found.files) == (False, ("saved_model.pb",))
    assert [one.tensor for one in found.inputs] == ["x:0"]
    batch = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=batch)
    done = forked.run(LOADED, tmp_path / "out", tmp_path / "x.npz", tmp_path / "found.npy")
    assert done.returncode == 0, done.stderr
    feed = {"x:0": json.dumps(batch.tolist())}
    (expected,) = infer(parse_config({"source": str(prefix), "feed": feed}), [])
    (value,) = expected.values()
    assert np.allclose(np.load(tmp_path / "found.npy"), value, rtol=0, atol=1e-6)


@pytest.mark.tf
def test_frozen_graph_that_gives_something_else_is_never_complete(
    tf1_checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed: list[str] = []

    def spoiled(*args: Any, **choices: Any) -> Frozen:
        made = freeze(*args, **choices)
        for node in made.graph.node:
            if node.name in made.variables and not changed:
                tensor = node.attr["value"].tensor
                numbers = np.frombuffer(tensor.tensor_content, np.float32) * np.float32(1.001)
                tensor.tensor_content = numbers.tobytes()
                changed.append(node.name)
        return made

    monkeypatch.setattr(freezing, "freeze", spoiled)
    with pytest.raises(GraphMismatch, match="apart"):
        export_graph(
            parse_config({"source": str(tf1_checkpoint("mlp"))}),
            str(tmp_path / "out"),
            to="frozen",
        )
    assert len(changed) == 1
    assert not (tmp_path / "out").exists()


REMEMBERS = """
import sys
import tensorflow.compat.v1 as tf
tf.disable_eager_execution()
x = tf.placeholder(tf.float32, [None, 3], name="x")
memory = tf.get_variable("memory", [3], initializer=tf.ones_initializer(), use_resource=False)
answer = tf.add(x, memory, name="answer")
with tf.control_dependencies([memory.assign_add([1.0, 1.0, 1.0])]):
    tf.identity(answer, name="remembered")
with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    tf.train.Saver().save(session, sys.argv[1] + "/model.ckpt", global_step=0)
"""


@pytest.mark.tf
def test_frozen_graph_of_a_state_that_goes_from_batch_to_batch_is_refused_with_its_variable(
    tmp_path: Path,
) -> None:
    subprocess.run([sys.executable, "-c", REMEMBERS, str(tmp_path)], check=True)
    config = parse_config({"source": str(tmp_path / "model.ckpt-0")})
    with pytest.raises(GraphMismatch, match="running it writes memory, which an export holds"):
        export_graph(config, str(tmp_path / "out"), to="frozen", fetches=["remembered:0"])
    assert not (tmp_path / "out").exists()


@pytest.mark.tf
def test_frozen_graph_of_an_output_that_is_not_there_is_refused(
    tf1_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    config = parse_config({"source": str(tf1_checkpoint("mlp")), "feed": {"x:0": "0"}})
    for name in ("nothing:0", "x:7"):  # there's no such operation, or it has one output alone
        with pytest.raises(GraphRefused, match=f"no tensor {name}"):
            export_graph(config, str(tmp_path / "out"), to="frozen", fetches=[name])
        with pytest.raises(ConfigError, match=f"no tensor {name}"):
            infer(config, [name])
