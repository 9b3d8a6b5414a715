"""Is one process fed what the slots are fed together, in each form that inputs have?"""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.errors import ConfigError
from orchestrator.graph.worker_graph import InputPort, Shape, WorkerGraph
from orchestrator.training.proof.joining import joint_batches, repeated


def graph(**shapes: Shape) -> WorkerGraph:
    ports = tuple(
        InputPort(f"{name}:0", f"{name}:0", "float32", each) for name, each in shapes.items()
    )
    return WorkerGraph(b"", b"", (), ports, ())


def test_rows_come_one_slot_after_the_other_first_along_the_first_dimension_then_the_second() -> (
    None
):
    wide = graph(x=(None, None, 2), y=(None,))
    batches = [{"x:0": np.full((5, 3, 2), slot), "y:0": np.full(3, slot)} for slot in range(2)]
    first, second = joint_batches(batches, wide, set())
    assert first["x:0"].shape == (10, 3, 2)
    assert second["x:0"].shape == (5, 6, 2)
    assert second["x:0"][0, :, 0].tolist() == [0, 0, 0, 1, 1, 1]
    assert first["y:0"].tolist() == second["y:0"].tolist() == [0, 0, 0, 1, 1, 1]


def test_entries_of_sparse_tensors_get_row_numbers_of_the_whole() -> None:
    batches = [
        {
            "s/indices:0": np.array([[0, 1], [1, 0]]),
            "s/values:0": np.array([1.0, 2.0 + slot]),
            "s/shape:0": np.array([2, 4 + slot]),
        }
        for slot in range(2)
    ]
    (found,) = joint_batches(batches, graph(), set())
    assert found["s/indices:0"].tolist() == [[0, 1], [1, 0], [2, 1], [3, 0]]
    assert found["s/shape:0"].tolist() == [4, 5]


def test_inputs_without_room_for_more_rows_and_ragged_ones_are_told() -> None:
    fixed = graph(x=(3, 2))
    with pytest.raises(ConfigError, match="x:0"):
        next(joint_batches([{"x:0": np.zeros((3, 2))}, {"x:0": np.ones((3, 2))}], fixed, set()))
    with pytest.raises(ConfigError, match="no input has room"):
        next(joint_batches([{"x:0": np.zeros((3, 2))}] * 2, fixed, set()))
    with pytest.raises(ConfigError, match="where rows begin"):
        next(joint_batches([{"r/row_splits_0:0": np.array([0, 1])}] * 2, graph(), set()))


def test_repeated_batch_has_its_rows_so_many_times() -> None:
    found = repeated({"x:0": np.array([[1.0], [2.0]])}, 3, graph(x=(None, 1)), set())
    assert found["x:0"].tolist() == [[1], [2], [1], [2], [1], [2]]
