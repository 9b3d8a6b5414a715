"""Are tensors fetched of the batches that were asked for, by as many processes as share them, and
their answers put together as one process would give them?
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.config import RunConfig, parse_config
from orchestrator.driver import fetch_workers, inference
from orchestrator.driver.infer import infer
from orchestrator.driver.inference import (
    ANYWHERE,
    BatchValues,
    NodeWish,
    asked_here,
    check_batches,
    fetch_plan,
    fetched,
    in_order,
    needs_ray,
)
from orchestrator.errors import ConfigError, GraphRefused, SourceError
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.inference.outputs import predictions
from orchestrator.store.checkpoints.source import Source, resolve_source
from orchestrator.training.engine.options import TrainingOptions
from tests.driver.seed_sources import write_seed


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return resolve_source(str(write_seed(tmp_path / "run", number=50)))


def config_for(source: Source, **settings: Any) -> RunConfig:
    return parse_config({"source": source.url, "input": "mine:batches", **settings})


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ({}, False),
        ({"workers": 1}, False),
        ({"workers": 2}, True),
        ({"address": "head:6379"}, True),
        ({"address": "head:6379", "workers": 2}, True),
    ],
)
def test_several_workers_or_a_cluster_take_ray(settings: dict[str, Any], needed: bool) -> None:
    assert needs_ray(parse_config({"source": "s", **settings})) is needed


def test_number_of_batches_may_be_none_for_all_and_not_negative() -> None:
    check_batches(0)
    check_batches(1)
    with pytest.raises(ConfigError, match="--batches is -1") as refused:
        check_batches(-1)
    assert refused.value.remedy == "Give how many, or 0 for all until the input ends"


def numbered(*numbers: int) -> list[BatchValues]:
    return [BatchValues(number, 4, {}) for number in numbers]


@pytest.mark.parametrize(
    ("given", "found"),
    [((), 0), ((0,), 1), ((0, 2, 1), 3), ((0, 2, 4, 1), 3), ((1, 3), 0), ((0, 3, 1), 2)],
)
def test_answers_of_several_ranks_are_in_order_up_to_the_first_batch_that_nobody_had(
    given: tuple[int, ...], found: int
) -> None:
    assert in_order(numbered(*given)) == numbered(*range(found))


# -- what is fetched


def test_prediction_is_fetched_where_nothing_is_named(
    source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "tfresume"):
        (name,) = fetch_plan(source, config_for(source), ()).fetches
    best, *_ = predictions(read_meta(source.meta_data, name="it"), "it")
    assert caplog.messages == [f"{name} is fetched: {best.why}"]
    assert name == best.name
    assert fetch_plan(source, config_for(source), (), losses_first=True).fetches != (name,)


def test_graph_in_which_nothing_looks_like_a_prediction_asks_for_a_name(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "predictions", lambda *_: ())
    with pytest.raises(GraphRefused, match=r"m-50\.meta: no tensor looks like a pred") as refused:
        fetch_plan(source, config_for(source), ())
    assert refused.value.remedy == "Name one with --fetch TENSOR"


@pytest.mark.parametrize(
    ("fetches", "said", "problems"),
    [
        (["nothing"], r"m-50\.meta: the graph has no tensor nothing$", 1),
        (["nothing", "nobody"], r"m-50\.meta: the graph has no tensor nothing \(and 1 more\)$", 2),
    ],
)
def test_tensors_that_are_not_there_are_refused_with_all_of_them(
    source: Source, fetches: list[str], said: str, problems: int
) -> None:
    with pytest.raises(GraphRefused) as refused:
        fetch_plan(source, config_for(source), fetches)
    assert re.search(said, refused.value.message), refused.value.message
    assert len(refused.value.details["problems"]) == problems
    assert refused.value.details["problems"][0]["nodes"]
    assert refused.value.remedy


def test_graph_that_cannot_be_read_is_named(source: Source) -> None:
    with pytest.raises(SourceError, match=r"m-50\.meta"):
        fetch_plan(replace(source, meta_data=b"nothing of the kind"), config_for(source), ())


# -- who is asked, and what comes back


class Asked:
    """Stands for the processes: keeps what each was asked for."""

    def __init__(self) -> None:
        self.tasks: list[Mapping[str, Any]] = []
        self.more: list[Any] = []

    def here(self, task: Mapping[str, Any], files: Any) -> list[BatchValues]:
        self.tasks.append(task)
        self.more.append(files)
        return numbered(0)

    def of_ray(
        self, tasks: list[Mapping[str, Any]], files: Any, config: RunConfig, place: NodeWish
    ) -> list[list[BatchValues]]:
        self.tasks += tasks
        self.more += [files, config, place]
        return [numbered(1), numbered(0, 2)]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    found = Asked()
    monkeypatch.setattr(inference, "asked_here", found.here)
    monkeypatch.setattr(fetch_workers, "asked_of_ray", found.of_ray)
    return found


def test_one_process_of_this_machine_is_asked_for_all_batches(source: Source, asked: Asked) -> None:
    config = config_for(
        source,
        import_modules=["mine"],
        load_op_library=["ops.so"],
        py_func={"pyfunc_0": "mine:read"},
    )
    plan = fetch_plan(source, config, ["loss"], losses_first=True)
    assert fetched(source, config, plan, batches=3) == numbered(0)
    (task,) = asked.tasks
    assert task == {
        "graph": plan.graph,
        "options": TrainingOptions(
            import_modules=("mine",),
            load_op_library=("ops.so",),
            py_func={"pyfunc_0": "mine:read"},
        ),
        "config": config,
        "fetches": plan.fetches,
        "batches": 3,
        "step": 3,
        "rank": 0,
        "world_size": 1,
        "means": False,
    }
    assert asked.more == [source.files]
    assert [each.keys() for each in infer(config, ["loss"], batches=0)] == [{}.keys()]
    assert asked.tasks[1]["batches"] == 0
    infer(config, ["loss"])
    assert asked.tasks[2]["batches"] == 1
    with pytest.raises(ConfigError, match="--batches is -2"):
        fetched(source, config, plan, batches=-2)


def test_several_processes_share_the_batches_by_rank(source: Source, asked: Asked) -> None:
    config = config_for(source, workers=2)
    plan = fetch_plan(source, config, ["loss"])
    place = NodeWish({"evaluator": 1.0})
    found = fetched(source, config, plan, batches=3, means=True, place=place)
    assert found == numbered(0, 1, 2)
    assert [(task["rank"], task["world_size"], task["means"]) for task in asked.tasks] == [
        (0, 2, True),
        (1, 2, True),
    ]
    assert asked.more == [source.files, config, place]
    fetched(source, config, plan, batches=3)
    assert asked.more[-1] is ANYWHERE


@pytest.mark.parametrize("is_shared", [False, True])
def test_process_gets_the_staged_checkpoint_and_its_answer_is_read_by_batch(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_shared: bool
) -> None:
    seen: dict[str, Any] = {}

    def answers(module: str, task: Mapping[str, Any], answer: Path, *more: Any) -> None:
        seen.update(task, module=module, more=more)
        seen["files"] = sorted(path.name for path in Path(task["prefix"]).parent.glob("m-50.*"))
        arrays: dict[str, Any] = {
            "rows": np.array([[1, 4], [0, 8], [2, 0]]),
            "0|a:0": np.array([1, 2], np.float32),
            "0|b|c:0": np.array(3.0),
            "1|a:0": np.array([5], np.float32),
        }
        np.savez(answer, **arrays)

    monkeypatch.setattr(inference, "ask_tensorflow", answers)
    cache = tmp_path / "cache"
    found = asked_here({"rank": 1}, source.files, cache if is_shared else None)
    assert seen["rank"] == 1
    assert seen["module"] == "orchestrator.training.baseline.inference"
    assert seen["more"] == (inference.TIMEOUT_S, str(os.getpid()))
    assert seen["files"] == ["m-50.data-00000-of-00001", "m-50.index"]
    # Without others who want them they are gone with the answer
    assert (Path(seen["prefix"]).parent.exists(), cache.exists()) == (is_shared, is_shared)
    assert [(each.number, each.rows, sorted(each.values)) for each in found] == [
        (1, 4, ["a:0"]),
        (0, 8, ["a:0", "b|c:0"]),
        (2, 0, []),
    ]
    assert found[0].values["a:0"].tolist() == [5]
    assert found[1].values["b|c:0"] == 3
