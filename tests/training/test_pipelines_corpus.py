"""Third-party graphs whose pipelines died with their authors' programs: diagnosed, trained on
supplied batches, and brought back.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.config import RunConfig
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.inputs.diagnosis import Outside
from orchestrator.graph.plan import GraphPlan, plan
from orchestrator.graph.worker_graph import InputPort, WorkerGraph
from orchestrator.training.engine.options import GroupSpec, TrainingOptions
from orchestrator.training.inputs.rank_share import Share
from tests.training.conftest import NewRanks

pytestmark = [pytest.mark.tf, pytest.mark.turns(3)]

WINE = "criteo-research__tf-tile/model_dir/model.ckpt-0"
CENSUS = "Lapis-Hong__wide_deep_demo/census_model/model.ckpt-2"
GENERATED = "YHGui__TensorFlow_Estimator_Basics/model/model.ckpt-2000"
FED = "taiguangxing__Wide_n_deep/model/model.ckpt-2010"
DIAGNOSES = {
    WINE: ("pipeline-files-missing", "winequality-red.csv"),
    CENSUS: ("pipeline-files-missing", "./census_data/adult.data"),
    GENERATED: ("pipeline-python-lost", "pyfunc_0, pyfunc_1, pyfunc_2"),
    FED: ("pipeline-fed-by-process", "enqueue_input/Placeholder"),
}


def planned(corpus: Path, entry: str, **config: Any) -> GraphPlan:
    prefix = corpus / entry
    meta = read_meta(Path(f"{prefix}.meta").read_bytes(), name=entry)
    gone = Outside(missing=lambda name: not Path(name).exists())
    return plan(meta, RunConfig(source=str(prefix), **config), outside=gone)


def synthetic(port: InputPort) -> np.ndarray:
    """As the corpus' own feeds: unknown dimensions 4, floats in [0, 1), integers 0 or 1."""
    rng = np.random.default_rng(len(port.name))
    shape = [4 if size is None else size for size in port.shape or (4,)]
    if port.dtype == "string":
        return np.full(shape, b"a", object)
    return (
        rng.random(shape).astype(port.dtype)
        if "float" in port.dtype
        else rng.integers(0, 2, shape).astype(port.dtype)
    )


@pytest.mark.parametrize("entry", DIAGNOSES)
def test_dead_pipeline_of_a_published_graph_gets_its_diagnosis(corpus: Path, entry: str) -> None:
    code, named = DIAGNOSES[entry]
    (problem,) = planned(corpus, entry).errors
    assert problem.code == code
    assert named in problem.message
    assert "--input MODULE:FUNCTION" in problem.remedy


@pytest.mark.parametrize("entry", DIAGNOSES)
def test_published_graph_with_supplied_batches_trains(
    corpus: Path, entry: str, new_ranks: NewRanks
) -> None:
    graph = planned(corpus, entry, input="any:function").worker_graph
    assert graph is not None
    feeds = {port.name: synthetic(port) for port in graph.inputs if not port.optional}
    changed = steps(corpus / entry, graph, TrainingOptions(), new_ranks, lambda process: feeds)
    assert changed > 0


def census_data(directory: Path) -> dict[str, Any]:
    line = "{}, State-gov, {}, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, Male, 2174, 0, 40, United-States, {}"
    rows = [
        line.format(20 + number, 70000 + number, "<=50K" if number % 3 else ">50K")
        for number in range(120)
    ]
    (directory / "adult.data").write_text("\n".join(rows) + "\n")
    return {"path_map": {"./census_data/": f"{directory}/"}}


def wine_data(directory: Path) -> dict[str, Any]:
    rows = [
        ";".join(
            [f"{(number * column) % 7 / 7:.3f}" for column in range(1, 12)] + [str(3 + number % 6)]
        )
        for number in range(200)
    ]
    (directory / "wine.csv").write_text(
        "\n".join([";".join(f"c{column}" for column in range(12)), *rows]) + "\n"
    )
    return {"path_map": {"winequality-red.csv": f"{directory}/wine.csv"}}


def generated_data(directory: Path) -> dict[str, Any]:
    return {"py_func": {"pyfunc_1": "tests.training.test_pipelines_corpus:pairs"}}


def pairs() -> Any:
    """What the generator of that graph gave: two features and a target."""
    for number in range(7):
        yield np.asarray([number, number / 2], np.float32), np.asarray([number % 2], np.float32)


REVIVED: list[tuple[str, Callable[[Path], dict[str, Any]]]] = [
    (CENSUS, census_data),
    (WINE, wine_data),
    (GENERATED, generated_data),
]


@pytest.mark.parametrize(("entry", "bring_back"), REVIVED, ids=["census", "wine", "generated"])
def test_published_graph_whose_data_came_back_trains_on_its_own_pipeline(
    corpus: Path,
    entry: str,
    bring_back: Callable[[Path], dict[str, Any]],
    new_ranks: NewRanks,
    tmp_path: Path,
) -> None:
    config = bring_back(tmp_path)
    result = planned(corpus, entry, **config)
    graph = result.worker_graph
    assert graph is not None, result.errors
    options = TrainingOptions(py_func=config.get("py_func", {}))
    changed = steps(corpus / entry, graph, options, new_ranks, lambda process: process.call("pull"))
    assert changed > 0


def steps(
    prefix: Path,
    graph: WorkerGraph,
    options: TrainingOptions,
    new_ranks: NewRanks,
    batch: Callable[[Any], dict[str, Any]],
) -> int:
    """Take three steps from a checkpoint; how many variables changed."""
    ranks = new_ranks(1)
    ranks.load(graph, options)
    (process,) = ranks.processes
    state = process.call("load_checkpoint", str(prefix))
    process.call("join", GroupSpec(1, 0, 1))
    process.call("assign", state)
    process.call("place_inputs", Share())
    for _ in range(3):
        process.call("step", [batch(process)])
    after = process.call("state")
    return sum(
        not np.array_equal(after.arrays[name], array)
        for name, array in state.arrays.items()
        if name in after.arrays
    )
