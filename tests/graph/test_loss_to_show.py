"""Does the loss find itself where no collection names it?"""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.types_pb2 import DT_STRING

from orchestrator.config import RunConfig
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.inspect import inspect
from orchestrator.graph.plan import plan
from tests.graph.synthetic import FLOAT, Drawing


def trained(*, scoped: bool = True, collection: bool = False) -> Drawing:
    """``loss`` is what the gradients are of, where their names tell; a summary calls another
    tensor a loss.
    """
    names = ("Fill", "loss_grad/Mul", "out_grad/MatMul")
    first, second, third = (
        f"gradients/{name}" if scoped else f"back_{number}" for number, name in enumerate(names)
    )
    drawing = Drawing()
    x = drawing.placeholder("x", (-1, 4))
    weights = drawing.variable("w", (4, 4))
    out = drawing.node("out", "MatMul", [x, f"{weights}/read"], T=FLOAT)
    loss = drawing.node("loss", "Mul", [out, out], T=FLOAT)
    drawing.node("other", "Neg", [out], T=FLOAT)
    ones = drawing.node(first, "OnesLike", [loss], T=FLOAT)
    back = drawing.node(second, "Mul", [ones, out], T=FLOAT)
    gradient = drawing.node(third, "MatMul", [x, back], T=FLOAT)
    drawing.scalar("lr", 0.1)
    drawing.node("update", "ApplyGradientDescent", [weights, "lr", gradient], T=FLOAT)
    drawing.node("train", "NoOp", ["^update"])
    drawing.meta.collection_def["train_op"].node_list.value.append("train")
    tag = AttrValue()
    tag.tensor.dtype = DT_STRING
    tag.tensor.tensor_shape.SetInParent()
    tag.tensor.string_val.append(b"validation/loss")
    drawing.node("tag", "Const", dtype=AttrValue(type=DT_STRING), value=tag)
    drawing.node("summary", "ScalarSummary", ["tag", "other"], T=FLOAT)
    if collection:
        drawing.meta.collection_def["losses"].node_list.value.append("out:0")
    return drawing


def shown(meta: MetaGraphDef, **options: object) -> tuple[str, ...]:
    config = RunConfig.model_validate({"source": "x", "input": "a:b", **options})
    found = plan(meta, config)
    assert found.worker_graph is not None, found.problems
    return found.worker_graph.losses


@pytest.mark.parametrize("workers", [1, 2])
def test_loss_is_what_the_gradients_are_of(workers: int) -> None:
    assert shown(trained().meta, workers={"count": workers}) == ("loss:0",)


def test_collection_and_the_user_go_before_it() -> None:
    assert shown(trained(collection=True).meta) == ("out:0",)
    assert shown(trained().meta, watch=["other:0"]) == ("other:0",)


def test_summary_that_is_called_a_loss_is_shown_where_no_gradient_tells() -> None:
    assert shown(trained(scoped=False).meta) == ("other:0",)


def test_inspect_names_it_as_well() -> None:
    found = inspect(trained().meta, source="x", size_bytes=1, checkpoint=None)
    assert found.losses == ("loss:0",)


LOSSES = {
    "model.tflearn.meta": ("Crossentropy/Mean:0",),
    "bar-30300.meta": ("Square:0",),
}


@pytest.mark.slow
def test_losses_of_other_peoples_graphs_are_found(corpus: Path) -> None:
    """Of 30 graphs, 29 compute gradients; each of them names its loss."""
    found: dict[str, tuple[str, ...]] = {}
    for file in sorted(corpus.rglob("*.meta")):
        if file.stat().st_size < 1_000_000:
            meta = read_meta(file.read_bytes(), name=file.name)
            report = inspect(meta, source=file.name, size_bytes=1, checkpoint=None)
            if report.chosen_train_ops:
                found[file.name] = report.losses
    assert {name: found[name] for name in LOSSES} == LOSSES
    without = [name for name, losses in found.items() if not losses]
    assert len(without) <= 1, without
    assert len(found) >= 20
