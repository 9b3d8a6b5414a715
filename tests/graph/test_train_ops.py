"""Which operation is chosen to train, and when is there a question instead?"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.types_pb2 import DT_INT32, DT_INT64

from orchestrator.graph.gradients.sync_replicas import unwrap_accumulators
from orchestrator.graph.gradients.train_ops import TrainChoice, choose_train_ops
from orchestrator.graph.graphdef.edit import Editor
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.opset import merged
from orchestrator.graph.problem import Problem
from tests.graph.synthetic import FLOAT, Drawing


def layer(drawing: Drawing, name: str, optimizer: str = "sgd", trainable: bool = True) -> str:
    """A variable with a gradient and its update; the update's name."""
    drawing.variable(name, (2, 2), trainable)
    gradient = drawing.node(f"gradients/{name}", "Identity", [f"{name}/read"], T=FLOAT)
    rate = f"{optimizer}/rate"
    if rate not in {node.name for node in drawing.meta.graph_def.node}:
        drawing.scalar(rate, 0.1)
    return drawing.node(
        f"{optimizer}/update_{name}", "ApplyGradientDescent", [name, rate, gradient], T=FLOAT
    )


def collect(drawing: Drawing, *names: str) -> None:
    drawing.meta.collection_def["train_op"].node_list.value.extend(names)


def choose(drawing: Drawing, trainable: Iterable[str], asked: Iterable[str] = ()) -> TrainChoice:
    return choose_train_ops(Graph(drawing.meta, merged(drawing.meta)), set(trainable), asked)


def codes(choice: TrainChoice) -> list[str]:
    return [problem.code for problem in choice.problems]


def test_train_ops_duplicated_in_the_collection_are_one() -> None:
    drawing = Drawing()
    drawing.node("train", "NoOp", [f"^{layer(drawing, 'w')}"])
    collect(drawing, "train", "train")
    choice = choose(drawing, ["w"])
    assert choice.targets == (("train", 1),)
    assert codes(choice) == []


def test_train_ops_with_a_sink_downstream_of_the_collection_run_the_sink() -> None:
    drawing = Drawing()
    drawing.node("train", "NoOp", [f"^{layer(drawing, 'w')}"])
    drawing.variable("shadow", (2, 2), trainable=False)
    drawing.node("average", "AssignSub", ["shadow", "w/read", "^train"], T=FLOAT)
    drawing.node("all", "NoOp", ["^average"])
    collect(drawing, "train")
    choice = choose(drawing, ["w"])
    assert choice.targets == (("all", 1),)
    assert choice.candidates[0].also_writes == ("shadow",)


def test_train_ops_ending_in_a_constant_run_the_count_it_feeds() -> None:
    drawing = Drawing()
    update = layer(drawing, "w")
    drawing.variable("step", (), trainable=False)
    value = drawing.scalar("sgd/value", 1.0, [update])
    drawing.node("sgd", "AssignAdd", ["step", value], T=FLOAT)
    collect(drawing, "sgd")
    assert choose(drawing, ["w"]).targets == (("sgd", 1),)


def test_train_ops_that_are_parts_of_one_step_run_their_common_sink() -> None:
    drawing = Drawing()
    drawing.node("wide_part", "NoOp", [f"^{layer(drawing, 'wide', 'ftrl')}"])
    drawing.node("deep_part", "NoOp", [f"^{layer(drawing, 'deep', 'adagrad')}"])
    drawing.node("both", "NoOp", ["^wide_part", "^deep_part"])
    collect(drawing, "deep_part", "wide_part")
    assert choose(drawing, ["wide", "deep"]).targets == (("both", 1),)


def test_train_ops_over_different_variables_all_run_in_order_with_a_warning() -> None:
    drawing = Drawing()
    drawing.node("d_train", "NoOp", [f"^{layer(drawing, 'd', 'one')}"])
    drawing.node("g_train", "NoOp", [f"^{layer(drawing, 'g', 'two')}"])
    collect(drawing, "d_train", "g_train")
    choice = choose(drawing, ["d", "g"])
    assert choice.targets == (("d_train", 1), ("g_train", 1))
    assert codes(choice) == ["several-train-ops"]


def loss_of(drawing: Drawing, name: str, *variables: str) -> str:
    """A gradient that depends on all of ``variables``."""
    return drawing.node(
        f"gradients/{name}",
        "AddN",
        [f"{variable}/read" for variable in variables],
        T=FLOAT,
        N=AttrValue(i=len(variables)),
    )


def two_optimizers(first_reads: tuple[str, ...], second_reads: tuple[str, ...]) -> TrainChoice:
    drawing = Drawing()
    for number, (variable, reads) in enumerate((("encoder", first_reads), ("head", second_reads))):
        for name in reads:
            if name not in {node.name for node in drawing.meta.graph_def.node}:
                drawing.variable(name, (2, 2))
        rate = drawing.scalar(f"rate_{number}", 0.1)
        update = drawing.node(
            f"update_{variable}",
            "ApplyGradientDescent",
            [variable, rate, loss_of(drawing, variable, *reads)],
            T=FLOAT,
        )
        drawing.node(f"train_{variable}", "NoOp", [f"^{update}"])
    collect(drawing, "train_encoder", "train_head")
    return choose(drawing, ["encoder", "head"])


def test_train_ops_of_which_one_builds_on_the_other_are_phases_and_a_question() -> None:
    """Pre-training and fine-tuning: both used to be trained in each step."""
    choice = two_optimizers(("encoder",), ("encoder", "head"))
    assert choice.targets == ()
    assert codes(choice) == ["phased-train-ops"]
    assert choice.problems[0].nodes == ("train_encoder", "train_head")


@pytest.mark.parametrize(
    ("first", "second"),
    [(("encoder",), ("head",)), (("encoder", "head"), ("head", "encoder"))],
    ids=["apart", "against each other"],
)
def test_train_ops_that_depend_on_each_other_or_not_at_all_run_in_each_step(
    first: tuple[str, ...], second: tuple[str, ...]
) -> None:
    choice = two_optimizers(first, second)
    assert choice.targets == (("train_encoder", 1), ("train_head", 1))
    assert codes(choice) == ["several-train-ops"]


def adding(drawing: Drawing, name: str, *, by_hand: bool) -> str:
    """An ``AssignAdd`` to ``w`` without any gradient scope: of a placeholder, or of what a backward
    pass written by hand gives.
    """
    drawing.node(f"{name}/fed", "Placeholder", dtype=FLOAT)
    value = f"{name}/fed"
    if not by_hand:
        value = drawing.node(f"{name}/delta", "Mul", [value, "w/read"], T=FLOAT)
    return drawing.node(name, "AssignAdd", ["w", value], T=FLOAT)


def test_addition_fed_by_hand_trains_only_where_nothing_else_does() -> None:
    drawing = Drawing()
    drawing.variable("w", (2, 2))
    adding(drawing, "load", by_hand=True)
    assert choose(drawing, ["w"]).targets == (("load", 1),)
    adding(drawing, "learn", by_hand=False)
    choice = choose(drawing, ["w"])
    assert choice.targets == (("learn", 1),)
    assert [one.op for one in choice.candidates] == ["learn"]


def test_train_ops_over_the_same_variables_are_a_question() -> None:
    drawing = Drawing()
    update = layer(drawing, "w", "fast")
    drawing.node("train_fast", "NoOp", [f"^{update}"])
    drawing.scalar("slow/rate", 0.01)
    drawing.node(
        "slow/update_w", "ApplyGradientDescent", ["w", "slow/rate", "gradients/w"], T=FLOAT
    )
    drawing.node("train_slow", "NoOp", ["^slow/update_w"])
    choice = choose(drawing, ["w"])
    assert choice.targets == ()
    assert codes(choice) == ["ambiguous-train-op"]
    assert set(choice.problems[0].nodes) == {"train_fast", "train_slow"}


def test_train_ops_left_over_from_earlier_runs_of_a_notebook_run_the_last_copy() -> None:
    drawing = Drawing()
    for number in ("", "_1", "_2"):
        drawing.node(f"train{number}", "NoOp", [f"^{layer(drawing, f'w{number}', f'sgd{number}')}"])
    choice = choose(drawing, ["w", "w_1", "w_2"])
    assert choice.targets == (("train_2", 1),)
    assert codes(choice) == ["copied-train-ops"]


def test_train_ops_named_by_the_user_keep_order_and_ratio() -> None:
    drawing = Drawing()
    drawing.node("d_train", "NoOp", [f"^{layer(drawing, 'd', 'one')}"])
    drawing.node("g_train", "NoOp", [f"^{layer(drawing, 'g', 'two')}"])
    choice = choose(drawing, ["d", "g"], ["g_train", "d_train:2"])
    assert choice.targets == (("g_train", 1), ("d_train", 2))


def test_train_ops_named_wrongly_list_the_candidates() -> None:
    drawing = Drawing()
    drawing.node("train", "NoOp", [f"^{layer(drawing, 'w')}"])
    choice = choose(drawing, ["w"], ["trian"])
    assert codes(choice) == ["no-train-op"]
    assert choice.problems[0].nodes == ("train",)
    assert "train" in choice.problems[0].remedy


def test_train_ops_of_scatters_alone_are_found() -> None:
    drawing = Drawing()
    drawing.variable("table", (4, 2))
    indices = AttrValue()
    indices.type = 3
    drawing.node("ids", "Placeholder", dtype=indices)
    rows = drawing.node("gradients/rows", "Identity", ["table/read"], T=FLOAT)
    drawing.node("sgd/update", "ScatterSub", ["table", "ids", rows], T=FLOAT, Tindices=indices)
    drawing.node("train", "NoOp", ["^sgd/update"])
    choice = choose(drawing, ["table"])
    assert choice.targets == (("train", 1),)
    assert choice.candidates[0].optimizers == ("ScatterSub",)


def test_train_ops_of_a_graph_that_only_predicts_are_none() -> None:
    drawing = Drawing()
    drawing.variable("w", (2, 2))
    choice = choose(drawing, ["w"])
    assert codes(choice) == ["no-train-op"]


def accumulated(required: int, *, tokens: bool = False) -> Drawing:
    """A gradient that one operation adds to an accumulator and another takes out of it, as soon as
    so many are there; with tokens for the next step as SyncReplicasOptimizer hands them out.
    """
    drawing = Drawing()
    drawing.variable("w", (2, 2))
    drawing.scalar("sgd/rate", 0.1)
    x = drawing.placeholder("x", (-1, 2))
    drawing.node("out", "MatMul", [x, "w/read"], T=FLOAT)
    drawing.node("gradients/out_grad/MatMul", "MatMul", [x, "out"], T=FLOAT)
    drawing.node("kept", "ConditionalAccumulator", dtype=FLOAT)
    for name in ("stamp", "required"):
        value = AttrValue()
        value.tensor.dtype = DT_INT32 if name == "required" else DT_INT64
        value.tensor.tensor_shape.SetInParent()
        (value.tensor.int_val if name == "required" else value.tensor.int64_val).append(required)
        drawing.node(name, "Const", dtype=AttrValue(type=value.tensor.dtype), value=value)
    drawing.node(
        "add",
        "AccumulatorApplyGradient",
        ["kept", "stamp", "gradients/out_grad/MatMul"],
        dtype=FLOAT,
    )
    drawing.node("take", "AccumulatorTakeGradient", ["kept", "required"], dtype=FLOAT)
    update = drawing.node(
        "sgd/update_w", "ApplyGradientDescent", ["w", "sgd/rate", "take"], T=FLOAT
    )
    waits = [f"^{update}"]
    if tokens:
        drawing.node("queue", "FIFOQueueV2")
        drawing.node("tokens", "QueueEnqueueManyV2", ["queue", "stamp", f"^{update}"])
        waits.append("^tokens")
    drawing.node("train", "NoOp", waits)
    return drawing


def unwrapped(drawing: Drawing) -> tuple[Graph, tuple[Problem, ...]]:
    editor = Editor(drawing.meta)
    found = unwrap_accumulators(editor, editor.graph(merged(drawing.meta)))
    return editor.graph(merged(drawing.meta)), found


def test_accumulator_of_an_author_that_waits_for_several_runs_stays_and_is_asked_about() -> None:
    graph, problems = unwrapped(accumulated(3))
    assert problems == ()
    assert graph.view.data["sgd/update_w"][2].node == "take"
    for asked in ([], ["train"]):
        choice = choose_train_ops(graph, {"w"}, asked)
        assert codes(choice) == ["accumulated-gradients"]
        assert "add:RUNS" in choice.problems[0].remedy
    assert codes(choose_train_ops(graph, {"w"}, ["add:3", "train"])) == []


def test_accumulator_after_which_tokens_are_handed_out_is_bypassed() -> None:
    graph, problems = unwrapped(accumulated(3, tokens=True))
    assert [problem.code for problem in problems] == ["sync-replicas-unwrapped"]
    assert graph.view.data["sgd/update_w"][2].node == "gradients/out_grad/MatMul"
