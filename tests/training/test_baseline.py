"""Do the baselines agree with what is right, bit for bit or nearly, and show what is wrong?"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.config import parse_config
from orchestrator.driver.startup import make_plan, start_point
from orchestrator.driver.verify_verdict import TOLERANCE, report
from orchestrator.errors import ConfigError
from orchestrator.graph.worker_graph import InputPort, WorkerGraph
from orchestrator.store.objects.location import open_location
from tests.graph.traits import batch as wild_batch
from tests.graphs.library import CheckpointLibrary
from tests.training.many_graphs import Case

pytestmark = [pytest.mark.tf, pytest.mark.turns(3)]

INPUTS = {
    "mlp": "tests.end_to_end.inputs:mlp",
    "conv_bn": "tests.end_to_end.inputs:conv_bn",
    "lstm": "tests.end_to_end.inputs:lstm",
    "dropout": "tests.end_to_end.inputs:mlp",
    "ema": "tests.end_to_end.inputs:mlp",
}
WILD_INPUT = f"{__file__}:wild_batches"
STEPS = 3


def wild_batches(ctx: Any) -> Iterator[Mapping[str, Any]]:
    """Batches of six rows, by their number alone."""
    return map(wild_batch, itertools.count(ctx.position + ctx.rank, ctx.world_size))


def batches_by_rank(ctx: Any) -> Iterator[Mapping[str, Any]]:
    """As they must not be: another batch for another number of workers."""
    return map(wild_batch, itertools.count(10 * ctx.world_size))


class Comparison:
    """Trains a checkpoint in this process and asks how far that is from the baselines."""

    def __init__(
        self, prefix: Path, scratch: Path, function: str, *, slots: int = 1, world_size: int = 1
    ) -> None:
        from orchestrator.training.engine.options import TrainingOptions

        self._prefix, self._scratch, self._world_size = prefix, scratch, world_size
        self._options = TrainingOptions(batches_per_step=slots, deterministic=True)
        words = {
            "source": str(prefix),
            "output": str(scratch / "out"),
            "until_step": 0,
            "init_missing": True,
            "input": function,
            "workers": max(2, slots),
        }
        self._config = parse_config(words)
        self.plan = make_plan(
            self._config, start_point(self._config, open_location(self._config.output), None)
        )

    def measured(self, plant: Callable[[Any], None] = lambda trainer: None) -> dict[str, Any]:
        """The answer; ``plant`` puts a bug into the trainer."""
        from orchestrator.training.baseline.baseline import measure
        from orchestrator.training.baseline.dealt_batches import ComparisonTask
        from orchestrator.training.engine.options import GroupSpec
        from orchestrator.training.inputs.feeds import FeedContext, open_batches
        from orchestrator.training.trainer import Trainer
        from tests.training.writing import write_bundle

        trainer = Trainer(self.plan.graph, self._options)
        plant(trainer)
        trainer.join(GroupSpec(1, 0, 1))
        trainer.assign(trainer.load_checkpoint(str(self._prefix), init_missing=True))
        stream = open_batches(
            self._config, self.plan.graph, FeedContext(0, 1, self.plan.step, 0), trainer
        )
        for _ in range(STEPS):
            trainer.step(stream.take(self._options.batches_per_step))
            stream.applied()
        write_bundle(trainer.state(), self.plan.graph, self._scratch, "model-9")
        trainer.close()
        ended, start = str(self._scratch / "model-9"), str(self._prefix)
        return measure(
            ComparisonTask(
                self.plan.graph,
                self._options,
                self._config,
                start,
                self._world_size,
                STEPS,
                self.plan.step,
                ended,
                ended,
                tolerance=TOLERANCE,
            )
        )

    def verdict(self, answer: Mapping[str, Any]) -> str:
        """What is said of it."""
        return report(
            answer, self.plan.graph, self._config, steps=STEPS, start_step=0, tolerance=TOLERANCE
        ).verdict


def _relative(measured: Any) -> dict[str, float]:
    return {item["name"]: item["relative"] for item in measured}


def times(factor: float) -> Callable[[Any], None]:
    """The bug: every gradient of the group is that many times too large."""

    def plant(trainer: Any) -> None:
        exchange = trainer._group._exchange

        def wrong(*args: Any) -> Any:
            fed, watched = exchange(*args)
            return {
                name: (value * factor).astype(value.dtype) for name, value in fed.items()
            }, watched

        trainer._group._exchange = wrong

    return plant


@pytest.mark.parametrize("kind", ["mlp", "conv_bn", "lstm", "ema"])
def test_measure_of_one_worker_against_a_bare_process_finds_no_difference(
    kind: str, tf1_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    answer = Comparison(tf1_checkpoint(kind), tmp_path, INPUTS[kind]).measured()
    assert answer["moved"] > 0
    for comparison in ("slots", "bare", "save"):
        assert set(_relative(answer[comparison]).values()) == {0.0}, comparison


def test_measure_of_a_graph_with_dropout_finds_the_same_bytes_and_another_joint_batch(
    tf1_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    answer = Comparison(
        tf1_checkpoint("dropout"), tmp_path, INPUTS["dropout"], slots=3, world_size=3
    ).measured()
    assert set(_relative(answer["slots"]).values()) == {0.0}
    assert max(_relative(answer["bare"]).values()) > 1e-3
    assert _relative(answer["bare"])["global_step"] == 0
    assert answer["input"] == ""


@pytest.fixture
def made(tmp_path: Path, tf1_checkpoint: CheckpointLibrary) -> Callable[[str], Path]:
    """Makes one of the graphs of rare numbers."""
    return lambda name: Case("numbers", name).source(tf1_checkpoint, tmp_path).prefix


def test_measure_of_a_large_weight_that_hardly_moves_shows_a_wrong_scale_of_its_gradient(
    made: Callable[[str], Path], tmp_path: Path
) -> None:
    comparison = Comparison(made("large"), tmp_path, WILD_INPUT, slots=3, world_size=3)
    right, wrong = comparison.measured(), comparison.measured(times(1.05))
    assert comparison.verdict(right) == "agrees", right["bare"]
    (largest,) = [item["largest"] for item in wrong["bare"] if item["name"] == "weights"]
    assert largest / 1e4 < TOLERANCE, "measured by its size nothing would be seen"
    assert comparison.verdict(wrong | {"slots": right["slots"]}) == "differs", (
        "TensorFlow's joint batch alone shows it"
    )
    assert comparison.verdict(wrong | {"bare": right["bare"]}) == "differs", (
        "and so does one process with the same slots"
    )


def test_measure_of_rows_written_into_the_graph_gives_tensorflows_complaint_as_the_reason(
    made: Callable[[str], Path], tmp_path: Path
) -> None:
    comparison = Comparison(made("fixed_rows"), tmp_path, WILD_INPUT, slots=2, world_size=2)
    answer = comparison.measured()
    assert answer["bare"] is None
    assert "joined into one" in answer["reason"]
    # whichever of the two operations is run first
    assert re.search(
        r"\[6\] vs\. \[12\]|12 values, but the requested shape has 6", answer["reason"]
    )
    assert set(_relative(answer["slots"]).values()) == {0.0}
    assert comparison.verdict(answer) == "explained"


def test_measure_of_a_checkpoint_that_lacks_a_weight_compares_with_one_process_and_not_with_tensorflow(
    made: Callable[[str], Path], tmp_path: Path
) -> None:
    comparison = Comparison(made("large"), tmp_path, WILD_INPUT, slots=2, world_size=2)
    graph = comparison.plan.graph
    moved = tuple(
        replace(each, key="nowhere") if each.name == "weights" else each for each in graph.variables
    )
    comparison.plan = replace(comparison.plan, graph=replace(graph, variables=moved))
    answer = comparison.measured()
    assert answer["bare"] is None
    assert "lacks weights" in answer["reason"]
    assert set(_relative(answer["slots"]).values()) == {0.0}


def test_measure_of_batches_that_follow_from_the_number_of_workers_names_the_first(
    made: Callable[[str], Path], tmp_path: Path
) -> None:
    answer = Comparison(
        made("large"), tmp_path, f"{__file__}:batches_by_rank", slots=2, world_size=2
    ).measured()
    assert answer["input"] == "x:0 of batch 0"


GRAPH = WorkerGraph(
    b"",
    b"",
    (),
    (
        InputPort("x:0", "x:0", "float32", (None, 2)),
        InputPort("fixed:0", "fixed:0", "float32", (3, 2)),
    ),
    (),
)


def test_joined_batches_of_two_ranks_are_one_after_the_other_and_constants_stay() -> None:
    from orchestrator.training.baseline.joint_batch import joined

    first, second = np.zeros((2, 2)), np.ones((3, 2))
    rate = np.float32(0.1)
    found = joined([{"x:0": first, "rate:0": rate}, {"x:0": second, "rate:0": rate}], GRAPH)
    assert found["x:0"].tolist() == [[0, 0]] * 2 + [[1, 1]] * 3
    assert found["rate:0"] == rate


def test_joined_batches_that_happen_to_be_equal_are_rows_all_the_same_and_their_number_is_added_up() -> (
    None
):
    from orchestrator.training.baseline.joint_batch import joined

    same = {
        "labels:0": np.array([1, 0]),
        "size:0": np.int32(2),
        "weights:0": np.ones(3),
        "depth:0": np.int32(7),
    }
    first, second = {"x:0": np.zeros((2, 2)), **same}, {"x:0": np.ones((2, 2)), **same}
    found = joined([first, second], GRAPH)
    assert found["labels:0"].tolist() == [1, 0, 1, 0]
    assert found["size:0"] == 4
    assert len(found["weights:0"]) == 3
    assert found["depth:0"] == 7


def test_joined_batches_all_equal_are_rows_and_what_is_fed_for_the_whole_run_stays() -> None:
    from orchestrator.training.baseline.joint_batch import joined

    batch = {"x:0": np.ones((2, 2)), "weights:0": np.ones(2)}
    found = joined([batch, batch], GRAPH, {"weights:0"})
    assert found["x:0"].shape == (4, 2)
    assert found["weights:0"].shape == (2,)


def test_joined_batches_of_a_baked_in_size_cannot_be_joined() -> None:
    from orchestrator.training.baseline.joint_batch import joined

    with pytest.raises(ConfigError, match="fixed:0"):
        joined([{"fixed:0": np.zeros((3, 2))}, {"fixed:0": np.ones((3, 2))}], GRAPH)


def test_distances_of_odd_values_are_judged_and_never_raise() -> None:
    from orchestrator.training.baseline.distances import distances

    one = {
        "a": np.array([1.0, np.nan]),
        "b": np.array([b"x"], object),
        "c": np.zeros((0,)),
        "d": np.array([2]),
        "e": np.array([np.inf]),
        "f": np.array([0.0]),
    }
    other = {
        "a": np.array([1.5, np.nan]),
        "b": np.array([b"y"], object),
        "c": np.zeros((0,)),
        "d": np.array([2]),
        "e": np.array([1.0]),
        "f": np.array([-0.0]),
    }
    found = {item.name: item for item in distances(one, other, {}, 0)}
    assert {name: item.largest for name, item in found.items()} == {
        "a": 0.5,
        "b": 1.0,
        "c": 0.0,
        "d": 0.0,
        "e": 1.0,
        "f": 0.0,
    }
    assert found["f"].relative > 0, "bit for bit it is another value"
    assert {item.name: item.relative for item in distances(one, other, {}, 1)}["f"] == 0


def test_distances_are_measured_by_the_movement_beyond_what_rounding_does() -> None:
    from orchestrator.training.baseline.distances import distances

    before = {"w": np.full(3, 1e4, np.float32)}
    ours, theirs = {"w": before["w"] + np.float32(1)}, {"w": before["w"] + np.float32(0.5)}
    nearly = {"w": np.nextafter(ours["w"], np.float32(0))}
    (half,), (rounded,), (exact,) = (
        distances(ours, each, before, roundings)
        for each, roundings in ((theirs, 4), (nearly, 4), (nearly, 0))
    )
    assert half.relative == pytest.approx(0.5, abs=0.01)
    assert rounded.relative == 0
    assert exact.relative > 0


@pytest.mark.parametrize(("dtype", "excused"), [(np.float16, True), (np.float32, False)])
def test_distances_excuse_the_rounding_of_a_half_types_gradient(dtype: Any, excused: bool) -> None:
    from orchestrator.training.baseline.distances import distances

    before = {"slot": np.array([0.0, 0.0], dtype)}
    ours, theirs = {"slot": np.array([1.0, 0.010], dtype)}, {"slot": np.array([1.0, 0.012], dtype)}
    (found,) = distances(ours, theirs, before, 4)
    assert (found.relative == 0) == excused
