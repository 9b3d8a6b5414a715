"""What is an operator told of losses whose gradients aren't plain means?"""

from __future__ import annotations

import pytest

from orchestrator.graph.batch_scale import BatchScale, ScaleKind
from orchestrator.graph.repetition.gradient_scale import GradientScale, gradient_seams, is_summed
from orchestrator.graph.repetition.scale_problems import CODES, in_short, scale_problems
from orchestrator.graph.worker_graph import DenseSeam, SparseSeam, TrainTarget

WHY = "it divides by a count"


def target(*kinds: ScaleKind) -> TrainTarget:
    """A gradient of each kind, each of a loss and a variable of its own; the last one's is a table."""
    scales = [
        BatchScale(
            kind,
            "" if kind in ("mean", "sum") else WHY,
            "node",
            (f"{kind}_loss:0",),
            (f"{kind}_weights",),
        )
        for kind in kinds
    ]
    *dense, last = scales
    return TrainTarget(
        "train",
        dense=(
            *(DenseSeam(f"seam/{scale.kind}", "float32", (2,), scale=scale) for scale in dense),
            DenseSeam("seam/average", "float32", None, "update", BatchScale("mean")),
        ),
        sparse=(SparseSeam("seam/values", "seam/indices", "float32", "int64", (2,), last),),
    )


@pytest.mark.parametrize(
    ("kind", "choice", "summed"),
    [
        ("mean", "auto", False),
        ("sum", "auto", True),
        ("mixed", "auto", False),
        ("unknown", "auto", False),
        ("masked", "auto", False),
        ("sum", "mean", False),
        ("mean", "sum", True),
        ("unknown", "sum", True),
    ],
)
def test_gradients_are_added_up_where_it_is_known_or_asked_for(
    kind: ScaleKind, choice: GradientScale, summed: bool
) -> None:
    assert [is_summed(seam, choice) for seam in gradient_seams([target(kind, kind)])] == [
        summed,
        summed,
    ]


@pytest.mark.parametrize(("choice", "summed"), [("auto", True), ("sum", True), ("mean", False)])
def test_what_an_update_takes_is_added_up_where_it_grows_with_the_rows(
    choice: GradientScale, summed: bool
) -> None:
    for kind in ("sum", "mean", "unknown"):
        seam = DenseSeam("seam", "float32", None, "update", BatchScale(kind))
        assert is_summed(seam, choice) == (summed and kind == "sum")


@pytest.mark.parametrize("kind", ["masked", "nonlinear", "unknown"])
def test_update_whose_mean_is_not_the_joint_batchs_is_told_with_its_variable(
    kind: ScaleKind,
) -> None:
    scale = BatchScale(kind, WHY, "node", variables=("largest",))
    update = DenseSeam("seam", "float32", None, "update", scale)
    (problem,) = scale_problems([TrainTarget("train", dense=(update,))], "auto")
    assert (problem.code, problem.severity) == ("averaged-update", "warning")
    assert problem.nodes == ("largest",)
    assert "largest" in problem.message
    assert WHY in problem.message


def test_means_are_not_worth_a_word() -> None:
    assert scale_problems([target("mean", "mean")], "auto") == []


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("choice", ["auto", "mean", "sum"])
def test_each_kind_is_told_once_with_its_loss_and_variables_for_a_group(
    kind: ScaleKind, choice: GradientScale
) -> None:
    (problem,) = scale_problems([target(kind, kind)], choice)
    assert (problem.code, problem.severity, problem.modes) == (CODES[kind], "warning", ("group",))
    assert f"{kind}_loss:0" in problem.message
    assert problem.nodes == (f"{kind}_weights",)
    assert problem.remedy
    if kind != "sum":
        assert WHY in problem.message
        assert "node" in problem.message


def test_a_sum_is_told_to_be_added_up_or_to_lose_by_the_mean() -> None:
    (added,) = scale_problems([target("sum", "sum")], "auto")
    (averaged,) = scale_problems([target("sum", "sum")], "mean")
    assert "adds the gradients of its M batches up" in added.message
    assert "1/M" in averaged.message


def test_a_mean_that_is_added_up_by_the_flag_is_told() -> None:
    codes = [problem.code for problem in scale_problems([target("mean", "sum")], "sum")]
    assert codes == ["mean-added-up", "summed-loss"]


def test_in_short_gradients_that_are_alike_stand_together() -> None:
    found = in_short([target("sum", "sum", "mean")])
    assert [(item["kind"], item["losses"], item["variables"]) for item in found] == [
        ("sum", ["sum_loss:0"], ["sum_weights"]),
        ("mean", ["mean_loss:0"], ["mean_weights"]),
    ]
