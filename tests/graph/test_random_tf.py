"""Do rewritten random operations draw by key alone: again the same for the same step, other for
another rank, step or loop iteration?
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.config import RunConfig
from orchestrator.graph.check import check
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.plan import plan
from orchestrator.graph.random.deterministic import without_chance
from orchestrator.graph.worker_graph import WorkerGraph

pytestmark = pytest.mark.tf


def _graph(draw: Any) -> Any:
    """A graph whose loss is what ``draw`` gives times a weight; its MetaGraphDef."""
    import tensorflow

    tf = tensorflow.compat.v1
    tf.disable_control_flow_v2()
    with tf.Graph().as_default():
        weights = tf.get_variable("w", [], initializer=tf.ones_initializer(), use_resource=False)
        loss = tf.reduce_sum(tf.cast(tf.identity(draw(tf), name="drawn"), tf.float32)) * weights
        tf.train.GradientDescentOptimizer(0.1).minimize(loss)
        tf.train.Saver()
        return tf.train.export_meta_graph()


def _planned(draw: Any, tmp_path: Path, workers: int = 1) -> WorkerGraph:
    meta = read_meta(_graph(draw).SerializeToString(), name="drawn")
    found = plan(meta, RunConfig(source="x", workers=workers)).worker_graph
    assert found is not None
    return found


def _drawn(graph: WorkerGraph, *keys: tuple[int, int]) -> list[np.ndarray]:
    """What the graph draws with each key, in a fresh session."""
    import tensorflow

    tf = tensorflow.compat.v1
    with tf.Graph().as_default() as imported, tf.Session(graph=imported) as session:
        tf.import_graph_def(tf.MetaGraphDef.FromString(graph.meta).graph_def, name="")
        return [session.run("drawn:0", {graph.rng_feed: np.array(key, np.int64)}) for key in keys]


DRAWS = {
    "uniform": lambda tf: tf.random_uniform([200]),
    "normal": lambda tf: tf.random_normal([200], dtype=tf.float64),
    "truncated": lambda tf: tf.truncated_normal([200]),
    "integers": lambda tf: tf.random_uniform([200], 0, 1000, tf.int32),
    "multinomial": lambda tf: tf.multinomial(tf.zeros([4, 50]), 50),
    "gamma": lambda tf: tf.random_gamma([100], [0.5, 2.0]),
    "poisson": lambda tf: tf.random_poisson([3.0, 30.0], [100]),
    "shuffle": lambda tf: tf.random_shuffle(tf.range(200)),
    "shuffled_rows": lambda tf: tf.random_shuffle(tf.reshape(tf.range(400), [200, 2])),
    "dropout": lambda tf: tf.nn.dropout(tf.ones([200]), rate=0.5),
}


@pytest.mark.parametrize("kind", sorted(DRAWS))
def test_random_operation_with_the_same_key_draws_the_same_and_with_another_draws_anew(
    kind: str, tmp_path: Path
) -> None:
    graph = _planned(DRAWS[kind], tmp_path)
    assert graph.random_nodes
    assert graph.stateful_random == ()
    first, again, other = _drawn(graph, (1, 5), (1, 5), (2, 5))
    (restarted,) = _drawn(graph, (1, 5))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, restarted)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("kind", "mean", "deviation"),
    [("uniform", 0.5, 0.29), ("normal", 0.0, 1.0), ("truncated", 0.0, 0.88), ("dropout", 1.0, 1.0)],
)
def test_random_operation_keeps_its_distribution(
    kind: str, mean: float, deviation: float, tmp_path: Path
) -> None:
    graph = _planned(DRAWS[kind], tmp_path)
    values = np.concatenate(_drawn(graph, *((3, step) for step in range(50))))
    assert abs(values.mean() - mean) < 0.05
    assert abs(values.std() - deviation) < 0.05


def test_random_shuffle_gives_every_row_once(tmp_path: Path) -> None:
    (rows,) = _drawn(_planned(DRAWS["shuffled_rows"], tmp_path), (1, 1))
    np.testing.assert_array_equal(rows[np.argsort(rows[:, 0])], np.arange(400).reshape(200, 2))
    assert not np.array_equal(rows, np.arange(400).reshape(200, 2))


def test_gamma_appends_the_shape_of_its_parameter(tmp_path: Path) -> None:
    (values,) = _drawn(_planned(DRAWS["gamma"], tmp_path), (1, 1))
    assert values.shape == (100, 2)
    assert values[:, 1].mean() > values[:, 0].mean()


def _in_a_loop(tf: Any) -> Any:
    def body(index: Any, rows: Any) -> tuple[Any, Any]:
        return index + 1, rows.write(index, tf.random_uniform([3]))

    rows = tf.TensorArray(tf.float32, 5)
    return tf.while_loop(lambda index, _: index < 5, body, [0, rows])[1].stack()


def _in_two_loops(tf: Any) -> Any:
    def outer(index: Any, rows: Any) -> tuple[Any, Any]:
        def inner(step: Any, total: Any) -> tuple[Any, Any]:
            return step + 1, tf.concat([total[1:], tf.random_uniform([1])], 0)

        drawn = tf.while_loop(lambda step, _: step < 3, inner, [0, tf.zeros([3])])[1]
        return index + 1, rows.write(index, drawn)

    rows = tf.TensorArray(tf.float32, 4)
    return tf.while_loop(lambda index, _: index < 4, outer, [0, rows])[1].stack()


@pytest.mark.parametrize("draw", [_in_a_loop, _in_two_loops], ids=["one", "nested"])
def test_random_operation_in_a_loop_draws_anew_in_each_iteration(draw: Any, tmp_path: Path) -> None:
    graph = _planned(draw, tmp_path)
    assert graph.stateful_random == ()
    first, again, other = _drawn(graph, (1, 5), (1, 5), (1, 6))
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(first)) == first.size
    assert len(np.unique(np.concatenate([first, other]))) == 2 * first.size


def _sampled(tf: Any) -> Any:
    classes = tf.constant([[1]], tf.int64)
    return tf.nn.log_uniform_candidate_sampler(classes, 1, 4, True, 100, name="sampler")[1]


def test_random_operation_without_a_stateless_form_is_listed_and_named_by_check(
    tmp_path: Path,
) -> None:
    graph = _planned(_sampled, tmp_path)
    assert graph.stateful_random == ("sampler",)
    assert graph.rng_feed is None
    report = check(
        read_meta(_graph(_sampled).SerializeToString(), name="drawn"), RunConfig(source="x")
    )
    assert report.resumes
    (problem,) = [problem for problem in report.problems if problem.code == "stateful-random"]
    assert problem.nodes == ("sampler",)


def test_noise_added_to_gradients_is_keyed_without_the_rank(tmp_path: Path) -> None:
    import tensorflow

    tf = tensorflow.compat.v1
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, 2], name="x")
        weights = tf.get_variable(
            "w", [2, 1], initializer=tf.ones_initializer(), use_resource=False
        )
        optimizer = tf.train.GradientDescentOptimizer(0.1)
        ((gradient, _),) = optimizer.compute_gradients(
            tf.reduce_mean(tf.matmul(tf.nn.dropout(x, rate=0.5), weights))
        )
        optimizer.apply_gradients([(gradient + tf.random_normal([2, 1], name="noise"), weights)])
        tf.train.Saver()
        meta = read_meta(tf.train.export_meta_graph().SerializeToString(), name="noisy")
    graph = plan(meta, RunConfig(source="x", workers=2, input="a:b")).worker_graph
    assert graph is not None
    assert graph.rng_feed == "tfresume/rng:0"
    assert graph.group_rng_feed == "tfresume/group_rng:0"
    assert [seam.role for seam in graph.targets[0].dense] == ["gradient"]


def _with_functions(draw: Any) -> Any:
    """The graph of ``draw`` with conditionals and loops of the second kind, whose branches and
    bodies are functions.
    """

    def made(tf: Any) -> Any:
        tf.enable_control_flow_v2()
        try:
            return draw(tf)
        finally:
            tf.disable_control_flow_v2()

    return made


def _in_a_branch(tf: Any) -> Any:
    training = tf.placeholder_with_default(True, [], name="training")
    return tf.cond(
        training, lambda: tf.nn.dropout(tf.ones([200]), rate=0.5), lambda: tf.ones([200])
    )


def _in_a_case(tf: Any) -> Any:
    which = tf.placeholder_with_default(1, [], name="which")
    branches = [
        lambda: tf.zeros([200]),
        lambda: tf.random_normal([200]),
        lambda: tf.random_shuffle(tf.range(200.0)),
    ]
    return tf.switch_case(which, branches)


def _in_a_called_function(tf: Any) -> Any:
    import tensorflow

    inner = tensorflow.function(lambda: tf.random_gamma([100], 2.0))
    return tensorflow.function(lambda: inner() + tf.random_uniform([100]))()


def _in_a_defun(tf: Any) -> Any:
    from tensorflow.python.framework import function

    @function.Defun(tf.float32)
    def jittered(value: Any) -> Any:
        return value + tf.random_uniform([200])

    return jittered(tf.zeros([200]))


BODIES = {
    "branch": _with_functions(_in_a_branch),
    "case": _with_functions(_in_a_case),
    "called": _in_a_called_function,
    "defun": _in_a_defun,
}


@pytest.mark.parametrize("kind", sorted(BODIES))
def test_random_operation_in_a_function_body_draws_by_key(kind: str, tmp_path: Path) -> None:
    graph = _planned(BODIES[kind], tmp_path)
    assert graph.random_nodes
    assert graph.stateful_random == ()
    first, again, other = _drawn(graph, (1, 5), (1, 5), (2, 5))
    (restarted,) = _drawn(graph, (1, 5))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, restarted)
    assert not np.array_equal(first, other)
    assert len(np.unique(first)) > 1


@pytest.mark.parametrize("draw", [_in_a_loop, _in_two_loops], ids=["one", "nested"])
def test_random_operation_in_the_body_of_a_loop_of_functions_draws_anew_in_each_iteration(
    draw: Any, tmp_path: Path
) -> None:
    graph = _planned(_with_functions(draw), tmp_path)
    assert graph.stateful_random == ()
    first, again, other = _drawn(graph, (1, 5), (1, 5), (1, 6))
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(first)) == first.size
    assert len(np.unique(np.concatenate([first, other]))) == 2 * first.size


def test_gradients_through_a_function_that_draws_train_still(tmp_path: Path) -> None:
    graph = _planned(BODIES["branch"], tmp_path, workers=2)
    assert graph.targets[0].dense
    assert graph.group_refused == ""


STILL_DRAWS = {
    **{
        kind: draw
        for kind, draw in DRAWS.items()
        if kind not in ("multinomial", "gamma", "poisson")
    },
    "sampler": _sampled,
    "loop": _in_a_loop,
    "branch": BODIES["branch"],
    "loop_of_functions": _with_functions(_in_a_loop),
}


@pytest.mark.parametrize("kind", sorted(STILL_DRAWS))
def test_graph_held_still_gives_the_same_values_in_every_run_and_of_the_same_shape(
    kind: str,
) -> None:
    import tensorflow

    tf = tensorflow.compat.v1
    meta = read_meta(_graph(STILL_DRAWS[kind]).SerializeToString(), name="drawn")
    deterministic = without_chance(meta)
    assert deterministic.left == ()
    shapes = []
    for proto in (meta, deterministic.meta):
        with tf.Graph().as_default() as imported, tf.Session(graph=imported) as session:
            tf.import_graph_def(
                tf.MetaGraphDef.FromString(proto.SerializeToString()).graph_def, name=""
            )
            first, again = session.run("drawn:0"), session.run("drawn:0")
            shapes.append((first.shape, first.dtype))
    np.testing.assert_array_equal(first, again)
    assert shapes[0] == shapes[1]


def test_graph_held_still_names_what_it_cannot_hold() -> None:
    meta = read_meta(_graph(DRAWS["gamma"]).SerializeToString(), name="drawn")
    assert without_chance(meta).left == ("random_gamma/RandomGamma",)
