"""What a pipeline is made of is told from the graph alone, function bodies included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.opset import merged
from orchestrator.graph.inputs.describe import describe
from orchestrator.graph.inputs.pipeline import Pipeline
from tests.graphs.library import CheckpointLibrary

pytestmark = [pytest.mark.tf, pytest.mark.turns(3)]


def described(prefix: Path) -> Pipeline:
    meta = read_meta(Path(f"{prefix}.meta").read_bytes(), name=str(prefix))
    (pipeline,) = describe(Graph(meta, merged(meta)))
    return pipeline


@pytest.mark.parametrize(
    ("kind", "options", "stages"),
    [
        (
            "csv_lines",
            {},
            "TensorSliceDataset > FlatMapDataset(TextLineDataset) > ParallelMapDatasetV2 > RepeatDataset",
        ),
        (
            "records",
            {},
            "TensorSliceDataset > FlatMapDataset(TFRecordDataset) > MapDataset > RepeatDataset > BatchDatasetV2",
        ),
        ("slices", {}, "TensorSliceDataset > ShuffleDataset > RepeatDataset > BatchDatasetV2"),
        ("interleave", {}, "TensorSliceDataset > InterleaveDataset("),
        ("reader_queue", {}, "FIFOQueueV2 > ReaderReadV2 > FIFOQueueV2"),
        ("slice_queue", {}, "FIFOQueueV2 > FIFOQueueV2"),
        (
            "generator",
            {},
            "TensorDataset > FlatMapDataset(GeneratorDataset) > RepeatDataset > BatchDatasetV2",
        ),
    ],
)
def test_describe_names_the_stages_from_the_source_on(
    kind: str, options: dict[str, Any], stages: str, tf1_checkpoint: CheckpointLibrary
) -> None:
    pipeline = described(tf1_checkpoint(kind, **options))
    assert pipeline.summary.startswith(stages)
    assert [(output.dtype, output.shape) for output in pipeline.outputs] in (
        [("float32", (None, 6)), ("int64", (None,))],
        [("float32", (4, 6)), ("int64", (4,))],
    )


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("csv_lines", {}),
        ("records", {}),
        ("interleave", {}),
        ("reader_queue", {}),
        ("reader_queue", {"shuffle": True}),
    ],
)
def test_describe_finds_the_files_through_functions_and_queues(
    kind: str, options: dict[str, Any], tf1_checkpoint: CheckpointLibrary
) -> None:
    prefix = tf1_checkpoint(kind, **options)
    (files,) = described(prefix).files
    assert files.origin == "constant"
    assert {Path(name).name.partition(".")[0] for name in files.names} == {
        "part-0",
        "part-1",
        "part-2",
        "part-3",
    }
    assert {Path(name).parent for name in files.names} == {prefix.parent / "data"}


def test_describe_of_a_file_pattern_says_that_it_is_one(tf1_checkpoint: CheckpointLibrary) -> None:
    pipeline = described(tf1_checkpoint("interleave", pattern=True))
    assert {files.origin for files in pipeline.files} == {"pattern"}
    names = [name for files in pipeline.files for name in files.names]
    assert names
    assert all(name.endswith("*.csv") for name in names)


def test_describe_tells_a_generators_three_callbacks_apart(
    tf1_checkpoint: CheckpointLibrary,
) -> None:
    calls = {call.role: call for call in described(tf1_checkpoint("generator")).calls}
    assert set(calls) == {"generator-start", "generator-next", "generator-end"}
    assert calls["generator-next"].gives == ("float32", "int64")
    assert len({call.generator for call in calls.values()}) == 1


def test_describe_finds_a_py_func_within_a_map_function(tf1_checkpoint: CheckpointLibrary) -> None:
    (call,) = described(tf1_checkpoint("py_augment")).calls
    assert (call.token, call.role, call.takes, call.gives) == (
        "pyfunc_0",
        "function",
        ("float32",),
        ("float32",),
    )


def test_describe_of_a_fed_queue_names_the_placeholders(tf1_checkpoint: CheckpointLibrary) -> None:
    pipeline = described(tf1_checkpoint("fed_queue"))
    assert sorted(pipeline.placeholders) == [("label", "int64", ()), ("row", "float32", (6,))]


@pytest.mark.parametrize(
    ("kind", "options", "unseeded", "endless"),
    [
        ("slices", {}, 0, True),
        ("slices", {"seed": -1}, 1, True),
        ("csv_lines", {"epochs": 1}, 0, False),
        ("reader_queue", {"epochs": 1}, 0, False),
        ("reader_queue", {}, 0, True),
    ],
)
def test_describe_says_what_is_left_to_chance_and_what_ends(
    kind: str,
    options: dict[str, Any],
    unseeded: int,
    endless: bool,
    tf1_checkpoint: CheckpointLibrary,
) -> None:
    pipeline = described(tf1_checkpoint(kind, **options))
    assert len(pipeline.unseeded) == unseeded
    assert pipeline.endless is endless
