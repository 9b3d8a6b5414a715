"""In which rounds are a graph's seams exchanged, and what is cut at them?"""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.graph.worker_graph import DenseSeam, SparseSeam, TrainTarget

pytestmark = pytest.mark.tf


def target(*dense: str, sparse: tuple[tuple[str, str], ...] = ()) -> TrainTarget:
    seams = tuple(DenseSeam(node, "float32", (2,)) for node in dense)
    return TrainTarget(
        "sink",
        dense=seams,
        sparse=tuple(SparseSeam(one, two, "float32", "int64", (2,)) for one, two in sparse),
    )


def chain(*names: str) -> Any:
    """A graph of Identity nodes, each over the one before."""
    import tensorflow

    graph = tensorflow.Graph()
    with graph.as_default():
        value = tensorflow.zeros([2], name="zero")
        for name in names:
            value = tensorflow.identity(value, name=name)
    return graph


def test_depth_counts_the_seams_before_a_seam() -> None:
    from orchestrator.training.host.depths import seam_depths

    graph = chain("first", "between", "second", "third")
    assert seam_depths(graph, [target("third", "first", "second")]) == {
        "first": 0,
        "second": 1,
        "third": 2,
    }


def test_depths_of_a_graph_with_a_loop_are_found() -> None:
    import tensorflow

    from orchestrator.training.host.depths import seam_depths

    tf1 = tensorflow.compat.v1
    graph = tensorflow.Graph()
    with graph.as_default():
        tf1.disable_control_flow_v2()
        total = tf1.while_loop(
            lambda index: index < 5,
            lambda index: index + 1,
            [tensorflow.identity(0, name="before")],
        )
        tensorflow.identity(total, name="after")
    assert seam_depths(graph, [target("before", "after")]) == {"before": 0, "after": 1}


def test_both_halves_of_a_sparse_seam_go_in_the_later_ones_round() -> None:
    import tensorflow

    from orchestrator.training.host.depths import seam_depths

    graph = tensorflow.Graph()
    with graph.as_default():
        early = tensorflow.identity(tensorflow.zeros([2]), name="early")
        tensorflow.identity(early * 2, name="values")
        indices = tensorflow.identity(tensorflow.zeros([2], tensorflow.int64), name="indices")
        tensorflow.identity(tensorflow.cast(indices, tensorflow.float32), name="behind")
    depths = seam_depths(graph, [target("early", "behind", sparse=(("values", "indices"),))])
    assert depths == {"early": 0, "values": 1, "indices": 1, "behind": 2}


def test_placeholder_stands_at_the_seam_and_the_own_value_is_fetched_before_it() -> None:
    from orchestrator.training.host.seams import Seams

    graph = chain("gradient", "first", "between", "second")
    seams = Seams(graph, [target("first", "second")])
    one, two = seams.levels(0)
    assert (one.dense[0].fetch, two.dense[0].fetch) == ("gradient:0", "between:0")
    assert graph.get_operation_by_name("first").inputs[0].name == one.dense[0].feed
    assert graph.get_operation_by_name("first").inputs[0].op.type == "Placeholder"
    assert [
        seams.round_of(0, f"{name}:0") for name in ("gradient", "first", "between", "second")
    ] == [0, 1, 1, 2]


def test_what_hangs_on_another_targets_seam_cannot_be_shown() -> None:
    from orchestrator.training.host.seams import Seams

    graph = chain("gradient", "first", "between", "second")
    seams = Seams(graph, [target("first"), target("second")])
    assert seams.round_of(1, "between:0") is None
    assert seams.round_of(0, "between:0") == 1


@pytest.mark.parametrize(
    ("way", "kept"),
    [("AssignVariableOp", True), ("Add", False), ("Reshape then AssignVariableOp", True)],
)
def test_value_that_may_become_a_variables_own_memory_is_known(way: str, kept: bool) -> None:
    import tensorflow

    from orchestrator.training.host.seams import Seams

    tf1 = tensorflow.compat.v1
    graph = tensorflow.Graph()
    with graph.as_default():
        variable = tf1.get_variable(
            "w", [2], initializer=tf1.zeros_initializer(), use_resource=True
        )
        value = tensorflow.identity(tensorflow.zeros([2]), name="seam")
        if way == "Add":
            tf1.assign_add(variable, value * 2)
        else:
            tf1.assign(variable, tensorflow.reshape(value, [2]) if "Reshape" in way else value)
    assert Seams(graph, [target("seam")]).levels(0)[0].dense[0].kept is kept
