"""Does a dry run say what ``resume`` would do, by the run's record, and touch nothing?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import RunConfig, parse_config
from orchestrator.driver import dry_run as module
from orchestrator.driver.dry_run import dry_run
from orchestrator.driver.startup import Plan, StartPoint
from orchestrator.errors import ConfigError
from orchestrator.graph.worker_graph import (
    DenseSeam,
    InputPort,
    SparseSeam,
    TrainTarget,
    WorkerGraph,
)
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.run_record import create_run_record
from tests.driver.seed_sources import record_of, save, write_seed


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text("def batches(ctx): ...\n")
    return write_seed(tmp_path / "run", number=50)


def config_for(source: Path, **settings: Any) -> RunConfig:
    place = source.parent.parent
    known = {"source": str(source), "output": str(place / "out"), "steps": 4}
    return parse_config(known | {"input": f"{place}/mine.py:batches"} | settings)


def test_first_start_is_told_as_plain_data_and_writes_nothing(source: Path) -> None:
    config = config_for(
        source,
        workers=2,
        save_steps=7,
        init_missing=True,
        feed={"y:0": [0] * 4},
        freeze=["out/bias"],
    )
    before = sorted(source.parent.parent.rglob("*"))
    found = dry_run(config)
    assert sorted(source.parent.parent.rglob("*")) == before
    told = found.pop("warnings")
    assert told[0] == "the name says step 50, the data says 3; the data counts"
    assert "as asked: froze out/bias" in told
    assert found == {
        "source": str(source),
        "output": config.output,
        "goes_on": False,
        "checkpoint": str(source),
        "start_step": 3,
        "until_step": 7,
        "train_ops": found["train_ops"],
        "inputs": [
            {
                "name": "x:0",
                "dtype": "float32",
                "shape": (None, 6),
                "origin": "placeholder",
                "served_by": "input",
            },
            {
                "name": "y:0",
                "dtype": "int64",
                "shape": (None,),
                "origin": "placeholder",
                "served_by": "feed",
            },
        ],
        "exchange": 3,
        "one_worker_only": "",
        "workers": config.workers.model_dump(),
        "save": {"steps": 7, "seconds": None},
    }
    assert len(found["train_ops"]) == 1


def test_later_start_goes_on_as_the_record_says(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scattered, dense = SparseSeam("v", "i", "float32", "int64", (8,)), DenseSeam("g", "float32", ())
    target = TrainTarget("train", dense=(dense, dense), sparse=(scattered,))
    graph = WorkerGraph(b"", b"", (target, target), (), (), group_refused="it draws")

    def planned(asked: RunConfig, start: StartPoint) -> Plan:
        assert asked.batches_per_step == 2
        return Plan(graph, start.step, None, ("a warning",))

    monkeypatch.setattr(module, "make_plan", planned)
    config = config_for(source, workers=1)
    output = open_location(config.output)
    create_run_record(output, record_of(source, started_step=1, batches_per_step=2))
    label = save(output, source, 4, tmp_path)
    found = dry_run(config)
    assert (found["goes_on"], found["start_step"], found["until_step"]) == (True, 4, 5)
    assert found["checkpoint"] == f"{config.output}/{label}"
    assert (found["exchange"], found["train_ops"]) == (6, ["train", "train"])
    assert (found["one_worker_only"], found["warnings"]) == ("it draws", ["a warning"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"output": ""}, "--output is missing"),
        ({"steps": None}, "the run has no end"),
        ({"input": "m"}, "isn't of the form"),
    ],
)
def test_what_resume_refuses_is_refused(source: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        dry_run(config_for(source, **settings))
    if "output" in settings:
        assert refused.value.message == said
        assert refused.value.remedy == "Name the directory URL for the checkpoints to come"


@pytest.mark.parametrize(
    ("port", "settings", "served_by"),
    [
        ({"pull": "dequeue:0"}, {"feed": {"x:0": "1"}}, "the graph's own pipeline"),
        ({}, {"feed": {"x:0": "1"}}, "feed"),
        ({}, {"array": {"x:0": "x.npy"}, "batch_size": 1, "input": "m:f"}, "array"),
        ({}, {"array": {"y:0": "x.npy"}, "batch_size": 1, "input": "m:f"}, "input"),
        ({"optional": True}, {"input": "m:f"}, "input"),
        ({"optional": True}, {}, "its default"),
        ({}, {"feed": {"y:0": "1"}}, "nothing"),
    ],
)
def test_input_is_told_by_what_serves_it(
    port: dict[str, Any], settings: dict[str, Any], served_by: str
) -> None:
    asked = InputPort("x:0", "x:0", "float32", None, **port)
    assert module._served_by(asked, parse_config({"source": "s", **settings})) == served_by
