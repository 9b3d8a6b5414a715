"""Does every cut keep a graph valid: all inputs exist, no cycle, and the barrier before every
writer and after every seam?
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.opset import merged
from orchestrator.graph.importing.wiring import wiring_faults
from orchestrator.graph.plan import plan
from orchestrator.graph.worker_graph import WorkerGraph
from tests.graph.synthetic import FLOAT, Drawing

CONFIG = RunConfig(source="x", workers=2, input="a:b")


@st.composite
def graphs(draw: st.DrawFn) -> MetaGraphDef:
    """A train op over some layers, with averages tied before, beside or after the gradients, by
    control edges drawn at random.
    """
    drawing = Drawing()
    value = drawing.placeholder("x", (-1, 4))
    drawing.scalar("rate", 0.1)
    averages = [_average(drawing, number, value) for number in range(draw(st.integers(0, 3)))]
    before = [name for name in averages if draw(st.booleans())]
    loss = drawing.node("loss", "Identity", [value, *(f"^{name}" for name in before)], T=FLOAT)
    updates = []
    for number in range(draw(st.integers(1, 4))):
        weights = drawing.variable(f"w{number}", (4, 4))
        waits = [f"^{name}" for name in averages if draw(st.booleans())]
        gradient = drawing.node(
            f"gradients/g{number}", "MatMul", [loss, f"{weights}/read", *waits], T=FLOAT
        )
        clipped = (
            drawing.node(f"clip{number}", "Mul", [gradient, "rate"], T=FLOAT)
            if draw(st.booleans())
            else gradient
        )
        updates.append(
            drawing.node(
                f"update{number}", "ApplyGradientDescent", [weights, "rate", clipped], T=FLOAT
            )
        )
    shadows = [
        _shadow(drawing, number, updates if draw(st.booleans()) else [])
        for number in range(draw(st.integers(0, 2)))
    ]
    drawing.node("train", "NoOp", [f"^{name}" for name in [*updates, *averages, *shadows]])
    drawing.meta.collection_def["train_op"].node_list.value.append("train")
    return drawing.meta


def _average(drawing: Drawing, number: int, value: str) -> str:
    drawing.variable(f"mean{number}", (4, 4), trainable=False)
    turned = AttrValue(b=True)
    squares = drawing.node(
        f"mean{number}/squares", "MatMul", [value, value], T=FLOAT, transpose_a=turned
    )
    scaled = drawing.node(f"mean{number}/scaled", "Mul", [squares, "rate"], T=FLOAT)
    return drawing.node(f"mean{number}/update", "AssignSub", [f"mean{number}", scaled], T=FLOAT)


def _shadow(drawing: Drawing, number: int, after: list[str]) -> str:
    drawing.variable(f"shadow{number}", (4, 4), trainable=False)
    waits = [f"^{name}" for name in after]
    change = drawing.node(f"shadow{number}/change", "Mul", ["w0/read", "rate", *waits], T=FLOAT)
    return drawing.node(f"shadow{number}/update", "AssignSub", [f"shadow{number}", change], T=FLOAT)


def cut(meta: MetaGraphDef) -> tuple[WorkerGraph, Graph]:
    found = plan(meta, CONFIG)
    assert found.worker_graph is not None, found.problems
    rewritten = MetaGraphDef.FromString(found.worker_graph.meta)
    return found.worker_graph, Graph(rewritten, merged(rewritten))


@given(graphs())
@settings(max_examples=40, deadline=None)
def test_cut_graph_has_sound_wiring_and_no_cycle(meta: MetaGraphDef) -> None:
    _, graph = cut(meta)
    assert list(wiring_faults(graph.meta.graph_def, graph.ops)) == []
    assert graph.view.order()[1] == []


@pytest.mark.slow
@given(graphs())
@settings(max_examples=40, deadline=None)
def test_cut_graph_has_its_barrier_after_all_seams_and_before_all_writers(
    meta: MetaGraphDef,
) -> None:
    worker, graph = cut(meta)
    (target,) = worker.targets
    assert target.barrier is not None
    above = graph.view.ancestors([target.barrier])
    seams = {seam.node for seam in target.dense}
    assert seams <= above
    assert graph.writers(above) == []
    for writer in graph.writers(graph.view.ancestors([target.op])):
        assert target.barrier in graph.view.ancestors([writer]), writer


@pytest.mark.slow
@given(graphs())
@settings(max_examples=40, deadline=None)
def test_cut_graph_lets_no_batch_reach_a_writer_except_through_a_seam(meta: MetaGraphDef) -> None:
    worker, graph = cut(meta)
    seams = {seam.node for target in worker.targets for seam in target.dense}
    reached = graph.view.descendants(["x"], control=False, stop=lambda name: name in seams)
    closure = graph.view.ancestors(target.op for target in worker.targets)
    assert graph.writers(reached & closure) == []


@pytest.mark.slow
@given(graphs())
@settings(max_examples=40, deadline=None)
def test_cut_graph_still_runs_every_writer(meta: MetaGraphDef) -> None:
    original = Graph(meta, merged(meta))
    worker, graph = cut(meta)
    wanted = set(original.writers(original.view.ancestors(["train"])))
    assert wanted == set(graph.writers(graph.view.ancestors([worker.targets[0].op])))


@given(graphs())
@settings(max_examples=20, deadline=None)
def test_plan_leaves_the_source_and_what_is_saved_untouched(meta: MetaGraphDef) -> None:
    before = meta.SerializeToString(deterministic=True)
    found = plan(meta, CONFIG)
    assert meta.SerializeToString(deterministic=True) == before
    assert found.worker_graph is not None
    saved = MetaGraphDef.FromString(found.worker_graph.original_meta)
    assert saved.SerializeToString(deterministic=True) == before


@given(graphs())
@settings(max_examples=20, deadline=None)
def test_plan_for_one_worker_adds_a_barrier_alone_and_every_writer_waits_there_for_all_else(
    meta: MetaGraphDef,
) -> None:
    found = plan(meta, RunConfig(source="x", workers=1, input="a:b"))
    assert found.worker_graph is not None
    original = Graph(meta, merged(meta))
    kept = MetaGraphDef.FromString(found.worker_graph.meta)
    graph = Graph(kept, merged(kept))
    added = [node for node in kept.graph_def.node if node.name not in original.view.nodes]
    assert {node.op for node in added} == {"NoOp"}
    assert all(node.name.startswith("tfresume/barrier/") for node in added)
    assert graph.view.order()[1] == []
    closure = original.view.ancestors(["train"])
    writers = original.writers(closure)
    early = {
        name
        for name in closure - original.view.descendants(writers, within=closure)
        if original.view.data[name]
    }
    for writer in writers:
        assert early <= graph.view.ancestors([writer]), writer
