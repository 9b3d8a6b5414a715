"""What trained with batch norm, dropout and switches gives, exported, what its own code gives in
inference.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orchestrator.config import parse_config
from orchestrator.exports.frozen import GraphExportResult, export_graph
from tests import forked

pytestmark = [
    pytest.mark.tf,
    pytest.mark.turns(6),
    pytest.mark.usefixtures("forked_tensorflow"),
]
PROGRAM = "tests.exports.switched_graphs"
BY_AVERAGES = "FusedBatchNormV3 normalises by bn/mean and bn/variance"


def _exported(kind: str, room: Path, **config: object) -> GraphExportResult:
    made = forked.run(PROGRAM, kind, room)
    assert made.returncode == 0, made.stderr
    asked = parse_config({"source": str(room / "model.ckpt-3"), **config})
    return export_graph(asked, str(room / "out"), to="frozen", fetches=["prediction"])


@pytest.mark.parametrize(
    ("kind", "switched"),
    [
        ("fused", [BY_AVERAGES]),
        ("fused_debiased", [BY_AVERAGES]),
        ("fused_debiased_resource", [BY_AVERAGES]),
        ("fused_debiased_of_old", [BY_AVERAGES]),
        ("fused_in_cond", ["is_training is set to False"]),
        ("moments_in_cond", ["is_training is set to False"]),
        ("noise_by_default", ["is_training is set to False"]),
        ("noise_by_contrary", ["testing is set to True"]),
        ("dropout_in_loop", ["keep is set to 1.0"]),
    ],
)
def test_export_of_a_trained_graph_gives_what_its_code_gives_in_inference(
    tmp_path: Path, kind: str, switched: list[str]
) -> None:
    found = _exported(kind, tmp_path)
    assert list(found.switched) == switched
    assert found.left == ()
    assert [one.tensor for one in found.inputs] == ["x:0"]
    given, inferred, trained = _given(found, tmp_path)
    assert np.max(np.abs(inferred - trained)) > 0.05  # else the switch would make no difference
    assert np.max(np.abs(given - inferred)) < 1e-5


def test_constant_becomes_an_input_where_it_is_mapped(tmp_path: Path) -> None:
    found = _exported("constant_data", tmp_path, input_map={"x:0": "rows"})
    assert [one.tensor for one in found.inputs] == ["x_0_input:0"]
    given, inferred, _ = _given(found, tmp_path)
    assert np.max(np.abs(given - inferred)) < 1e-5


def _given(found: GraphExportResult, room: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the frozen graph gives, and what its own code does, in inference and in training."""
    output = room / "found.npy"
    told = forked.run(
        *(PROGRAM, "run", room / "out" / "frozen.pb", room / "expected.npz", output),
        *(found.outputs[0].tensor, found.inputs[0].tensor),
    )
    assert told.returncode == 0, told.stderr
    with np.load(room / "expected.npz") as expected:
        return np.load(output), expected["y"], expected["trained"]


def test_switch_and_batch_norm_that_nothing_tells_of_are_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    switch = _exported("doubled_by_switch", tmp_path / "a")
    assert switch.left == (
        "is_training stays an input: the graph doesn't tell which side is inference",
    )
    assert [one.tensor for one in switch.inputs] == ["x:0", "is_training:0"]
    norm = _exported("fused_without_averages", tmp_path / "b")
    assert norm.left == ("FusedBatchNormV3 normalises by the batch, as in training",)
    assert switch.switched == norm.switched == ()
