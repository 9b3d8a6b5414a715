"""What does a plan say of devices, names, inputs, checkpoints and what is missing, all at once?"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.types_pb2 import DT_BOOL

from orchestrator.config import RunConfig
from orchestrator.graph.plan import GraphPlan, plan
from orchestrator.graph.variables.checkpoint_keys import CheckpointTensor
from tests.graph.synthetic import FLOAT, Drawing

EVERYTHING = {
    name: CheckpointTensor("float32", shape)
    for name, shape in (("w", (4, 4)), ("w/Momentum", (4, 4)))
}


def momentum_graph() -> Drawing:
    """One layer trained by momentum, with a summary and a placeholder that training doesn't need."""
    drawing = Drawing()
    x = drawing.placeholder("x", (-1, 4))
    drawing.placeholder("rate", (1,))
    drawing.placeholder("only_for_evaluation", (3,))
    weights = drawing.variable("w", (4, 4))
    slot = drawing.variable("w/Momentum", (4, 4), trainable=False)
    out = drawing.node("out", "MatMul", [x, f"{weights}/read"], T=FLOAT)
    loss = drawing.node("loss", "Identity", [out], T=FLOAT)
    gradient = drawing.node("gradients/out", "MatMul", [x, loss], T=FLOAT)
    drawing.scalar("lr", 0.1)
    drawing.scalar("momentum", 0.9)
    reshaped = drawing.node("lr/fed", "Mul", ["lr", "rate"], T=FLOAT)
    drawing.node(
        "update", "ApplyMomentum", [weights, slot, reshaped, gradient, "momentum"], T=FLOAT
    )
    drawing.node("train", "NoOp", ["^update"])
    drawing.meta.collection_def["train_op"].node_list.value.append("train")
    drawing.meta.collection_def["losses"].node_list.value.append("loss:0")
    return drawing


def planned(
    meta: MetaGraphDef, *, checkpoint: dict[str, CheckpointTensor] | None = None, **options: object
) -> GraphPlan:
    return plan(meta, RunConfig.model_validate({"source": "x", **options}), checkpoint=checkpoint)


def codes(found: GraphPlan, severity: str = "error") -> list[str]:
    return [problem.code for problem in found.problems if problem.severity == severity]


def test_plan_lists_only_what_training_needs() -> None:
    found = planned(momentum_graph().meta, input="a:b")
    assert found.worker_graph is not None
    assert [(port.name, port.dtype, port.shape) for port in found.worker_graph.inputs] == [
        ("x:0", "float32", (None, 4)),
        ("rate:0", "float32", (1,)),
    ]
    assert found.worker_graph.losses == ("loss:0",)


def test_plan_watches_what_can_be_computed_and_says_what_else_would_need() -> None:
    """One tensor that nobody feeds used to stop every step."""
    drawing = momentum_graph()
    drawing.node("validation", "Add", ["loss", "only_for_evaluation"], T=FLOAT)
    found = planned(drawing.meta, input="a:b", watch=["validation", "out:0"])
    assert found.worker_graph is not None
    assert found.worker_graph.losses == ("out:0",)
    (problem,) = (problem for problem in found.problems if problem.code == "unwatchable")
    assert (problem.severity, problem.nodes) == ("warning", ("validation", "only_for_evaluation:0"))
    given = planned(
        drawing.meta, input="a:b", watch=["validation"], feed={"only_for_evaluation": "[1, 2, 3]"}
    )
    assert given.worker_graph is not None
    assert given.worker_graph.losses == ("validation:0",)
    assert "unwatchable" not in codes(given, "warning")


def test_plan_without_feeds_names_all_that_is_unfed_in_one_problem() -> None:
    found = planned(momentum_graph().meta)
    (problem,) = found.errors
    assert problem.code == "unfed-placeholder"
    assert problem.nodes == ("x:0", "rate:0")
    assert "[?, 4]" in problem.message


def test_plan_with_every_problem_reports_them_all_at_once() -> None:
    found = planned(
        momentum_graph().meta,
        checkpoint={"w": CheckpointTensor("float64", (4, 4))},
        input_map={"nowhere:0": "k"},
    )
    assert set(codes(found)) == {"unknown-tensor", "unfed-placeholder", "variable-dtype"}
    assert codes(found, "warning") == ["slots-missing"]
    assert found.worker_graph is None


def test_plan_with_a_slot_missing_warns_and_goes_on() -> None:
    found = planned(momentum_graph().meta, checkpoint={"w": EVERYTHING["w"]}, input="a:b")
    assert found.worker_graph is not None
    assert codes(found, "warning") == ["slots-missing"]


@pytest.mark.parametrize(("init_missing", "severity"), [(False, "error"), (True, "warning")])
def test_plan_with_weights_missing_refuses_unless_they_may_be_initialised(
    init_missing: bool, severity: str
) -> None:
    held = {"w/Momentum": EVERYTHING["w/Momentum"]}
    found = planned(momentum_graph().meta, checkpoint=held, input="a:b", init_missing=init_missing)
    assert codes(found, severity) == ["variables-missing"]
    assert (found.worker_graph is None) == (severity == "error")


def test_plan_with_another_shape_in_the_checkpoint_names_both() -> None:
    found = planned(
        momentum_graph().meta,
        checkpoint={**EVERYTHING, "w": CheckpointTensor("float32", (4, 5))},
        input="a:b",
    )
    (problem,) = found.errors
    assert problem.code == "variable-shape"
    assert "[4, 4]" in problem.message
    assert "[4, 5]" in problem.message


def test_plan_of_a_graph_without_variables_has_nothing_to_resume() -> None:
    drawing = Drawing()
    drawing.placeholder("x", (1,))
    assert codes(planned(drawing.meta)) == ["nothing-to-resume"]


def test_plan_knows_slots_and_trainable_variables() -> None:
    found = planned(momentum_graph().meta, input="a:b")
    assert found.worker_graph is not None
    described = {variable.name: variable for variable in found.worker_graph.variables}
    assert described["w"].trainable
    assert described["w"].initializer == "w/Assign"
    assert described["w/Momentum"].slot_of == "w"
    assert not described["w/Momentum"].trainable


def test_plan_treats_a_constant_feed_as_equal_on_all_ranks_and_averages_one_that_is_served() -> (
    None
):
    served = planned(momentum_graph().meta, workers=2, input="a:b").worker_graph
    constant = planned(
        momentum_graph().meta, workers=2, input="a:b", feed={"rate": "0.5"}
    ).worker_graph
    assert served is not None
    assert constant is not None
    assert [seam.role for seam in served.targets[0].dense] == ["gradient", "update"]
    assert [seam.role for seam in constant.targets[0].dense] == ["gradient"]


def test_plan_with_an_input_map_feeds_the_tensor_under_its_key() -> None:
    found = planned(momentum_graph().meta, input_map={"out:0": "logits"}, input="a:b").worker_graph
    assert found is not None
    (port,) = [port for port in found.inputs if port.origin == "input_map"]
    assert (port.name, port.dtype) == ("logits", "float32")
    nodes = {node.name: node for node in MetaGraphDef.FromString(found.meta).graph_def.node}
    assert list(nodes["loss"].input) == [port.tensor.removesuffix(":0")]


def with_devices() -> MetaGraphDef:
    meta = momentum_graph().meta
    devices: Iterable[str] = (
        "/job:ps/task:0",
        "/job:worker/task:1/device:GPU:2",
        "/job:worker/task:1",
    )
    for node, device in zip(meta.graph_def.node, list(devices) * 40, strict=False):
        node.device = device
    meta.graph_def.node[-1].attr["_class"].list.s.append(b"loc:@gone")
    inner = meta.graph_def.library.function.add()
    inner.signature.name = "body"
    inner.node_def.add(name="inside", op="NoOp", device="/job:ps/task:0")
    return meta


def test_plan_clears_devices_in_function_bodies_too_and_keeps_the_source_as_it_was() -> None:
    meta = with_devices()
    found = planned(meta, input="a:b")
    assert found.worker_graph is not None
    rewritten = MetaGraphDef.FromString(found.worker_graph.meta)
    assert {node.device for node in rewritten.graph_def.node} == {""}
    assert {
        node.device
        for function in rewritten.graph_def.library.function
        for node in function.node_def
    } == {""}
    assert {
        node.device
        for node in MetaGraphDef.FromString(found.worker_graph.original_meta).graph_def.node
    } != {""}
    assert found.devices.moved["/job:ps/task:0", ""] > 1


def test_plan_with_a_device_map_moves_what_matches_and_clears_the_rest() -> None:
    found = planned(with_devices(), input="a:b", device_map={"/job:ps/*": "/CPU:0"})
    assert found.worker_graph is not None
    assert {
        node.device for node in MetaGraphDef.FromString(found.worker_graph.meta).graph_def.node
    } == {"", "/CPU:0"}


def test_plan_under_a_scope_prefixes_every_name_but_our_own_and_keeps_checkpoint_keys() -> None:
    found = planned(
        momentum_graph().meta,
        workers=2,
        import_scope="old",
        input="a:b",
        train_op=["old/train"],
        feed={"rate": "1"},
    )
    graph = found.worker_graph
    assert graph is not None, found.problems
    meta = MetaGraphDef.FromString(graph.meta)
    assert all(node.name.startswith(("old/", "tfresume/")) for node in meta.graph_def.node)
    assert graph.targets[0].op == "old/train"
    assert {variable.name: variable.key for variable in graph.variables}["old/w"] == "w"
    # as the configuration names it
    assert [port.name for port in graph.inputs] == ["old/x:0", "rate:0"]
    assert list(meta.collection_def["train_op"].node_list.value) == ["old/train"]
    names = {node.name for node in meta.graph_def.node}
    assert {
        text.lstrip("^").partition(":")[0] for node in meta.graph_def.node for text in node.input
    } <= names


def test_plan_of_a_graph_with_horovod_operations_bypasses_them() -> None:
    drawing = momentum_graph()
    for node in drawing.meta.graph_def.node:
        if node.name == "update":
            node.input[3] = "allreduce"
    drawing.node("allreduce", "HorovodAllreduce", ["gradients/out"], T=FLOAT)
    found = planned(drawing.meta, workers=2, input="a:b")
    assert found.worker_graph is not None, found.problems
    assert {
        node.op for node in MetaGraphDef.FromString(found.worker_graph.meta).graph_def.node
    }.isdisjoint({"HorovodAllreduce"})
    assert "HorovodAllreduce" in found.worker_graph.repairs[0]
    assert [seam.role for seam in found.worker_graph.targets[0].dense][:1] == ["gradient"]


def test_plan_of_a_graph_whose_gradients_take_a_writers_result_is_refused_for_a_group_and_runs_alone() -> (
    None
):
    drawing = Drawing()
    x = drawing.placeholder("x", (-1, 4))
    drawing.variable("w", (4, 4))
    drawing.variable("state", (4, 4), trainable=False)
    drawing.scalar("rate", 0.1)
    carried = drawing.node("carried", "Assign", ["state", x], T=FLOAT)
    gradient = drawing.node("gradients/w", "MatMul", [carried, "w/read"], T=FLOAT)
    drawing.node("train", "ApplyGradientDescent", ["w", "rate", gradient], T=FLOAT)
    together = planned(drawing.meta, workers=2, input="a:b")
    alone = planned(drawing.meta, input="a:b")
    assert codes(together) == ["group-refused"]
    assert "carried" in together.group_refused
    assert alone.worker_graph is not None
    assert alone.worker_graph.group_refused == together.group_refused
    assert codes(alone, "warning") == ["group-refused"]


def test_plan_of_several_batches_a_step_on_one_worker_has_the_seams_at_which_they_are_added() -> (
    None
):
    alone = planned(momentum_graph().meta, input="a:b").worker_graph
    several = planned(momentum_graph().meta, input="a:b", batches_per_step=4).worker_graph
    assert alone is not None
    assert several is not None
    assert not alone.targets[0].dense
    assert several.targets[0].dense


def test_plan_of_several_batches_a_step_on_one_worker_leaves_a_graph_that_cannot_be_cut_as_it_is() -> (
    None
):
    drawing = Drawing()
    x = drawing.placeholder("x", (-1, 4))
    drawing.variable("w", (4, 4))
    drawing.variable("state", (4, 4), trainable=False)
    drawing.scalar("rate", 0.1)
    carried = drawing.node("carried", "Assign", ["state", x], T=FLOAT)
    gradient = drawing.node("gradients/w", "MatMul", [carried, "w/read"], T=FLOAT)
    drawing.node("train", "ApplyGradientDescent", ["w", "rate", gradient], T=FLOAT)
    alone, several = (
        planned(drawing.meta, input="a:b", batches_per_step=count).worker_graph for count in (1, 4)
    )
    assert alone is not None
    assert several is not None
    assert several.group_refused
    assert several.meta == alone.meta


@pytest.mark.parametrize("default", [False, True])
@pytest.mark.parametrize("feed", [{}, {"is_training": "True"}])
def test_plan_says_of_a_switch_that_is_off_by_default_that_its_default_holds(
    default: bool, feed: dict[str, str]
) -> None:
    drawing = momentum_graph()
    boolean = AttrValue(type=DT_BOOL)
    value = AttrValue()
    value.tensor.dtype = DT_BOOL
    value.tensor.tensor_shape.SetInParent()
    value.tensor.bool_val.append(default)
    shape = AttrValue()
    shape.shape.SetInParent()
    drawing.node("is_training/input", "Const", dtype=boolean, value=value)
    drawing.node(
        "is_training", "PlaceholderWithDefault", ["is_training/input"], dtype=boolean, shape=shape
    )
    for node in drawing.meta.graph_def.node:
        if node.name == "train":
            node.input.append("^is_training")
    found = planned(drawing.meta, input="a:b", feed=feed)
    told = [problem for problem in found.problems if problem.code == "default-off"]
    assert bool(told) == (not default and not feed)
    assert all(problem.nodes == ("is_training:0",) for problem in told)
