"""The yardstick's bare process agrees with one worker bit for bit, and joins the batches of several."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from orchestrator.config import parse_config
from orchestrator.driver.startup import make_plan, start_point
from orchestrator.errors import ConfigError
from orchestrator.graph.worker_graph import InputPort, WorkerGraph
from orchestrator.store.location import open_location

pytestmark = pytest.mark.tf

INPUTS = {"mlp": "mlp", "conv_bn": "conv_bn", "lstm": "lstm", "dropout": "mlp"}
STEPS = 3


def _distances(kind: str, prefix: Path, scratch: Path) -> dict[str, float]:
    """Relative distances of one worker's variables from the bare process' after the same steps."""
    from orchestrator.training.bundle_writer import write_bundle
    from orchestrator.training.feeds import FeedContext, open_batches
    from orchestrator.training.options import GroupSpec, TrainingOptions
    from orchestrator.training.trainer import Trainer
    from orchestrator.training.yardstick import Task, measure

    config = parse_config(
        {
            "source": str(prefix),
            "output": str(scratch / "out"),
            "until_step": 0,
            "input": f"tests.end_to_end.inputs:{INPUTS[kind]}",
        }
    )
    plan = make_plan(config, start_point(config, open_location(config.output), None))
    trainer = Trainer(plan.graph, TrainingOptions(deterministic=True))
    trainer.join(GroupSpec(1, 0, 1))
    trainer.assign(trainer.load_checkpoint(str(prefix)))
    stream = open_batches(config, plan.graph, FeedContext(0, 1, plan.step, 0), trainer)
    for _ in range(STEPS):
        trainer.step(stream.take(1))
        stream.applied()
    write_bundle(trainer.state(), plan.graph, scratch, "model-9")
    trainer.close()
    answer = measure(
        Task(
            plan.graph,
            TrainingOptions(),
            config,
            str(prefix),
            1,
            STEPS,
            plan.step,
            str(scratch / "model-9"),
            str(scratch / "model-9"),
        )
    )
    assert answer["moved"] > 0
    assert all(item["relative"] == 0 for item in answer["save"])
    return {item["name"]: item["relative"] for item in answer["bare"]}


@pytest.mark.parametrize("kind", ["mlp", "conv_bn", "lstm"])
def test_measure_of_one_worker_against_a_bare_process_finds_no_difference(
    kind: str, tf1_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    found = _distances(kind, tf1_checkpoint(kind), tmp_path)
    assert found
    assert set(found.values()) == {0.0}


def test_measure_of_a_graph_with_dropout_finds_that_it_differs(tf1_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    found = _distances("dropout", tf1_checkpoint("dropout"), tmp_path)
    assert max(found.values()) > 1e-3
    assert found["global_step"] == 0


GRAPH = WorkerGraph(
    b"", b"", (), (InputPort("x:0", "x:0", "float32", (None, 2)), InputPort("fixed:0", "fixed:0", "float32", (3, 2))), ()
)


def test_joined_batches_of_two_ranks_are_one_after_the_other_and_constants_stay() -> None:
    from orchestrator.training.yardstick import joined

    first, second = np.zeros((2, 2)), np.ones((3, 2))
    rate = np.float32(0.1)
    found = joined([{"x:0": first, "rate:0": rate}, {"x:0": second, "rate:0": rate}], GRAPH)
    assert found["x:0"].tolist() == [[0, 0]] * 2 + [[1, 1]] * 3
    assert found["rate:0"] == rate


def test_joined_batches_that_happen_to_be_equal_are_rows_all_the_same_and_their_number_is_added_up() -> None:
    from orchestrator.training.yardstick import joined

    same = {"labels:0": np.array([1, 0]), "size:0": np.int32(2), "weights:0": np.ones(3), "depth:0": np.int32(7)}
    first, second = {"x:0": np.zeros((2, 2)), **same}, {"x:0": np.ones((2, 2)), **same}
    found = joined([first, second], GRAPH)
    assert found["labels:0"].tolist() == [1, 0, 1, 0]
    assert found["size:0"] == 4
    assert len(found["weights:0"]) == 3
    assert found["depth:0"] == 7


def test_joined_batches_all_equal_are_rows_and_what_is_fed_for_the_whole_run_stays() -> None:
    from orchestrator.training.yardstick import joined

    batch = {"x:0": np.ones((2, 2)), "weights:0": np.ones(2)}
    found = joined([batch, batch], GRAPH, {"weights:0"})
    assert found["x:0"].shape == (4, 2)
    assert found["weights:0"].shape == (2,)


def test_joined_batches_of_a_baked_in_size_cannot_be_joined() -> None:
    from orchestrator.training.yardstick import joined

    with pytest.raises(ConfigError, match="fixed:0"):
        joined([{"fixed:0": np.zeros((3, 2))}, {"fixed:0": np.ones((3, 2))}], GRAPH)


def test_distances_of_odd_values_are_judged_and_never_raise() -> None:
    from orchestrator.training.yardstick import distances

    one = {
        "a": np.array([1.0, np.nan]),
        "b": np.array([b"x"], object),
        "c": np.zeros((0,)),
        "d": np.array([2]),
        "e": np.array([np.inf]),
    }
    other = {
        "a": np.array([1.5, np.nan]),
        "b": np.array([b"y"], object),
        "c": np.zeros((0,)),
        "d": np.array([2]),
        "e": np.array([1.0]),
    }
    assert {item.name: item.largest for item in distances(one, other)} == {"a": 0.5, "b": 1.0, "c": 0.0, "d": 0.0, "e": 1.0}
