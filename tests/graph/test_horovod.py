"""What becomes of a graph that Horovod trained on several processes?"""

from __future__ import annotations

import pytest
from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.types_pb2 import DT_FLOAT, DT_INT32

from orchestrator.config import RunConfig
from orchestrator.graph.plan import plan
from orchestrator.graph.worker_graph import WorkerGraph
from tests.graph.synthetic import FLOAT, Drawing

INT = AttrValue(type=DT_INT32)


def whole(drawing: Drawing, name: str, value: int) -> str:
    attribute = AttrValue()
    attribute.tensor.dtype = DT_INT32
    attribute.tensor.tensor_shape.SetInParent()
    attribute.tensor.int_val.append(value)
    return drawing.node(name, "Const", dtype=INT, value=attribute)


def reduced_graph(divisor: str, *, compressed: bool = False) -> MetaGraphDef:
    """Gradient descent on what Horovod reduced and then divided: by ``cast`` (a size of 4 that the
    graph casts), ``asked`` (its HorovodSize) or ``float`` (a plain 128.0).
    """
    drawing = Drawing()
    x = drawing.placeholder("x", (-1, 4))
    weights = drawing.variable("w", (4, 4))
    drawing.node("out", "MatMul", [x, f"{weights}/read"], T=FLOAT)
    drawing.node("gradients/out_grad/MatMul", "MatMul", [x, "out"], T=FLOAT)
    drawing.node("allreduce", "HorovodAllreduce", ["gradients/out_grad/MatMul"], T=FLOAT)
    result = "allreduce"
    if compressed:
        result = drawing.node(
            "decompressed", "Cast", [result], SrcT=AttrValue(type=DT_FLOAT), DstT=FLOAT
        )
    if divisor == "float":
        by = drawing.scalar("size", 128.0)
    else:
        size = (
            whole(drawing, "size", 4) if divisor == "cast" else drawing.node("size", "HorovodSize")
        )
        by = drawing.node("size/cast", "Cast", [size], SrcT=INT, DstT=FLOAT)
    drawing.node("average", "RealDiv", [result, by], T=FLOAT)
    drawing.node(
        "update", "ApplyGradientDescent", [weights, drawing.scalar("lr", 0.1), "average"], T=FLOAT
    )
    drawing.node("train", "NoOp", ["^update"])
    drawing.meta.collection_def["train_op"].node_list.value.append("train")
    return drawing.meta


def planned(meta: MetaGraphDef, **options: object) -> WorkerGraph:
    found = plan(meta, RunConfig.model_validate({"source": "x", "input": "a:b", **options}))
    assert found.worker_graph is not None, found.problems
    return found.worker_graph


def saved(graph: WorkerGraph) -> dict[str, NodeDef]:
    return {node.name: node for node in MetaGraphDef.FromString(graph.original_meta).graph_def.node}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("divisor", ["cast", "asked"])
def test_division_by_horovods_size_is_taken_out_of_what_is_trained_and_saved(
    divisor: str, compressed: bool, workers: int
) -> None:
    graph = planned(reduced_graph(divisor, compressed=compressed), workers=workers)
    nodes = saved(graph)
    assert (nodes["average"].op, nodes["allreduce"].op) == ("Identity", "Identity")
    assert any("number of processes" in line for line in graph.repairs), graph.repairs
    assert not any(node.op.startswith("Horovod") for node in nodes.values())


def test_division_by_what_may_be_a_loss_scale_stays_and_is_told() -> None:
    graph = planned(reduced_graph("float"))
    assert saved(graph)["average"].op == "RealDiv"
    assert any("average still divides by 128" in line for line in graph.repairs), graph.repairs


def test_division_goes_although_the_operators_library_runs_horovods_operations() -> None:
    graph = planned(reduced_graph("cast"), load_op_library=["x.so"], force=True)
    nodes = saved(graph)
    assert (nodes["average"].op, nodes["allreduce"].op) == ("Identity", "HorovodAllreduce")
