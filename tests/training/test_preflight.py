"""Whether a graph's own pipelines run is found out before anything starts, by trying."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.graph.check import CheckReport
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.training.inputs.preflight import preflight
from tests.graphs.library import CheckpointLibrary

pytestmark = [pytest.mark.tf, pytest.mark.turns(6)]

Damage = Callable[[MetaGraphDef], None]


def report_on(
    prefix: Path, damage: Damage | None = None, *, within_s: float = 60.0, **config: Any
) -> CheckReport:
    meta = read_meta(Path(f"{prefix}.meta").read_bytes(), name=str(prefix))
    if damage is not None:
        damage(meta)
    return preflight(meta, RunConfig(source=str(prefix), **config), batch_within_s=within_s)


def errors_of(report: CheckReport) -> dict[str, str]:
    return {
        problem.code: problem.message for problem in report.problems if problem.severity == "error"
    }


def here(prefix: Path) -> dict[str, str]:
    """Declares the files that the maker wrote beside the checkpoint."""
    data = str(prefix.parent / "data")
    return {data: data}


@pytest.mark.parametrize("kind", ["records", "reader_queue"])
def test_preflight_of_a_pipeline_that_runs_resumes(
    kind: str, tf1_checkpoint: CheckpointLibrary
) -> None:
    prefix = tf1_checkpoint(kind)
    report = report_on(prefix, path_map=here(prefix))
    assert errors_of(report) == {}
    assert report.resumes


def test_preflight_of_files_that_are_gone_says_which_without_trying(
    tf1_checkpoint: CheckpointLibrary, tmp_path: Path
) -> None:
    prefix = tf1_checkpoint("records")
    report = report_on(prefix, path_map={str(prefix.parent / "data"): str(tmp_path / "gone")})
    assert f"{tmp_path}/gone/part-0.tfrecord" in errors_of(report)["pipeline-files-missing"]


def test_preflight_of_a_damaged_file_gives_tensorflows_reason(
    tf1_checkpoint: CheckpointLibrary, tmp_path: Path
) -> None:
    prefix = tf1_checkpoint.copy(tmp_path / "copy", "records")
    data = tmp_path / "copy" / "data"
    for file in data.iterdir():
        file.write_bytes(b"no records at all, but long enough")
    report = report_on(prefix, path_map={str(tf1_checkpoint("records").parent / "data"): str(data)})
    assert "DataLossError" in errors_of(report)["pipeline-unbuildable"]


def test_preflight_of_a_dataset_that_this_tensorflow_refuses_gives_its_reason(
    tf1_checkpoint: CheckpointLibrary,
) -> None:
    def make_unusable(meta: MetaGraphDef) -> None:
        for node in meta.graph_def.node:
            if node.name == "batch_size":
                node.attr["value"].tensor.int64_val[:] = [-1]

    report = report_on(tf1_checkpoint("slices"), make_unusable)
    (problem,) = [problem for problem in report.problems if problem.code == "pipeline-unbuildable"]
    assert "atch size must be greater than zero" in problem.message
    assert "--input MODULE:FUNCTION" in problem.remedy


def test_preflight_of_a_pipeline_that_gives_nothing_says_so(
    tf1_checkpoint: CheckpointLibrary, tmp_path: Path
) -> None:
    prefix = tf1_checkpoint.copy(tmp_path / "copy", "csv_lines", epochs=1)
    data = tmp_path / "copy" / "data"
    for file in data.iterdir():
        file.write_text("")
    report = report_on(
        prefix, path_map={str(tf1_checkpoint("csv_lines", epochs=1).parent / "data"): str(data)}
    )
    assert "it gives no batch at all" in errors_of(report)["pipeline-unbuildable"]


def test_preflight_of_a_users_function_that_raises_gives_its_error(
    tf1_checkpoint: CheckpointLibrary,
) -> None:
    report = report_on(
        tf1_checkpoint("py_augment"), py_func={"pyfunc_0": "tests.training.test_preflight:broken"}
    )
    assert "these rows are not for me" in errors_of(report)["pipeline-unbuildable"]


def broken(value: object) -> object:
    raise ValueError("these rows are not for me")


def test_preflight_of_workers_elsewhere_doesnt_judge_by_this_machines_files(
    tf1_checkpoint: CheckpointLibrary, tmp_path: Path
) -> None:
    prefix = tf1_checkpoint("records")
    report = report_on(
        prefix, path_map={str(prefix.parent / "data"): str(tmp_path / "gone")}, address="auto"
    )
    assert errors_of(report) == {}


def test_preflight_of_a_pipeline_that_is_too_slow_gives_up(
    tf1_checkpoint: CheckpointLibrary,
) -> None:
    # far less than TensorFlow takes to import
    report = report_on(tf1_checkpoint("slices"), within_s=0.05)
    assert "it gave no batch within" in errors_of(report)["pipeline-unbuildable"]
