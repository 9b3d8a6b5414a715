"""Is the graph planned that the settings name, and its step the one that it counts itself?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.driver import startup
from orchestrator.driver.edited_graph import Edited
from orchestrator.driver.startup import (
    counted,
    make_plan,
    step_key_of,
)
from orchestrator.errors import GraphRefused, SourceError
from orchestrator.graph.loading import AS_SAVED, Loading
from orchestrator.graph.problem import Problem
from orchestrator.graph.variables.memory import FreeMemory
from orchestrator.graph.worker_graph import StepCounter, Variable, WorkerGraph
from orchestrator.store.objects.location import Location, open_location
from tests.driver.seed_sources import config_for, record_of, save, seed_meta, started, write_seed


@pytest.fixture
def output(tmp_path: Path) -> Location:
    return open_location(str(tmp_path / "out"))


COUNTER = Variable("global_step", "ref", "int64", (), key="global_step")
JUDGED = WorkerGraph(b"", b"", (), (), (COUNTER,), step=StepCounter("global_step"))


class Check:
    """Stands for the check of a graph, which takes some 40 ms: keeps what it was asked, and finds
    nothing wrong.
    """

    def __init__(self) -> None:
        self.meta, self.refused = MetaGraphDef(), ""
        self.problems: tuple[Problem, ...] = ()
        self.named: dict[str, Any] = {}

    def __call__(self, meta: MetaGraphDef, _: RunConfig, **named: Any) -> Any:
        self.meta, self.named = meta, named
        plan = SimpleNamespace(worker_graph=replace(JUDGED, loading=named["loading"]))
        return SimpleNamespace(problems=self.problems, plan=plan, refuse=self._refuse)

    def _refuse(self, shown: str) -> None:
        self.refused = shown
        if any(problem.severity == "error" for problem in self.problems):
            raise GraphRefused(shown)


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Check:
    found = Check()
    monkeypatch.setattr(startup, "preflight", found)
    return found


@pytest.mark.usefixtures("check")
def test_step_is_the_graphs_own_counter_under_whichever_key_it_lies(
    tmp_path: Path, output: Location
) -> None:
    source = write_seed(tmp_path / "run", number=50, called={"global_step": "steps"})
    config = config_for(source, output, rename={"steps": "global_step"})
    start = started(config)
    assert start.step == 50
    plan = make_plan(config, start)
    assert (plan.step, plan.step_key, plan.is_completed) == (3, "global_step", False)
    first = counted(config, start, plan, None)
    assert (first.step, first.started_step, first.until) == (3, 3, 7)
    later = counted(config, start, plan, record_of(source, started_step=1))
    assert (later.step, later.started_step, later.until) == (3, 1, 5)
    ends = config.model_copy(update={"steps": None, "until_step": 8})
    assert counted(ends, start, plan, None).until == 8
    assert counted(config, start, plan, None).source is start.source


def test_plan_says_what_was_edited_and_what_was_found_beside_that(
    tmp_path: Path, output: Location, check: Check
) -> None:
    source = write_seed(tmp_path / "run")
    config = config_for(source, output, freeze=["out/kernel"])
    check.problems = (Problem("a", "warning", "one"), Problem("b", "warning", "two"))
    plan = make_plan(config, started(config))
    assert plan.warnings == ("one", "two")
    assert plan.graph.edits == ("froze out/kernel",)
    assert check.named["also"][0].message == "as asked: froze out/kernel"
    assert check.refused == f"{source}.meta"
    check.problems = (Problem("a", "error", "no"),)
    with pytest.raises(GraphRefused):
        make_plan(config, started(config))


@pytest.mark.usefixtures("check")
@pytest.mark.parametrize("is_own", [False, True])
def test_step_that_was_asked_for_counts_at_the_first_start_alone(
    tmp_path: Path, output: Location, is_own: bool
) -> None:
    source = write_seed(tmp_path / "run")
    if is_own:
        save(output, source, 5, tmp_path)
    config = config_for(source, output, reset_step=40)
    start = started(config, record_of(source) if is_own else None)
    # A checkpoint of the run's own is at the step that its manifest says
    assert make_plan(config, start).step == (5 if is_own else 40)


@pytest.mark.usefixtures("check")
def test_counter_that_the_checkpoint_lacks_goes_on_at_the_number_in_its_name(
    tmp_path: Path, output: Location
) -> None:
    source = write_seed(tmp_path / "run", number=50, without=["global_step"])
    config = config_for(source, output, init_missing=True)
    start = started(config)
    plan = make_plan(config, start)
    assert (plan.step, plan.graph.loading, plan.is_completed) == (50, AS_SAVED, True)
    assert counted(config, start, plan, None).until == 54


@pytest.mark.usefixtures("check")
def test_step_of_a_checkpoint_whose_index_is_not_known_is_the_one_it_was_found_by(
    tmp_path: Path, output: Location
) -> None:
    config = config_for(write_seed(tmp_path / "run"), output)
    start = started(config)
    unknown = replace(start, step=50, source=replace(start.source, index=None))
    plan = make_plan(config, unknown)
    assert (plan.step, plan.graph.loading, plan.is_completed) == (50, AS_SAVED, False)


def test_what_is_initialised_as_asked_is_judged_as_such(
    tmp_path: Path, output: Location, check: Check
) -> None:
    config = config_for(write_seed(tmp_path / "run"), output, reinit=["out/bias"])
    plan = make_plan(config, started(config))
    assert check.named["loading"] == plan.graph.loading == Loading(anew=frozenset(["out/bias"]))
    assert {"out/bias", "out/kernel"} - check.named["checkpoint"].keys() == {"out/bias"}
    assert [problem.message for problem in check.named["also"]] == [
        "as asked: initialised anew: out/bias"
    ]


@pytest.mark.usefixtures("check")
@pytest.mark.parametrize(
    ("loading", "is_completed"), [(AS_SAVED, False), (Loading(grown=frozenset(["t"])), True)]
)
def test_rows_that_a_table_has_grown_by_are_made_by_initialisers(
    tmp_path: Path,
    output: Location,
    monkeypatch: pytest.MonkeyPatch,
    loading: Loading,
    is_completed: bool,
) -> None:
    config = config_for(write_seed(tmp_path / "run"), output)

    def grown(meta: MetaGraphDef, *_: Any, **__: Any) -> Edited:
        return Edited(meta, meta, None, loading=loading)

    monkeypatch.setattr(startup, "edited_graph", grown)
    assert make_plan(config, started(config)).is_completed is is_completed


def test_graph_that_cannot_be_read_is_named(tmp_path: Path, output: Location) -> None:
    config = config_for(write_seed(tmp_path / "run"), output)
    start = started(config)
    damaged = replace(start, source=replace(start.source, meta_data=b"nothing of the kind"))
    with pytest.raises(SourceError, match=r"run/m-3\.meta"):
        make_plan(config, damaged)


def test_collection_that_is_dropped_is_saved_all_the_same(
    tmp_path: Path, output: Location, check: Check
) -> None:
    config = config_for(write_seed(tmp_path / "run"), output, drop_collection=["losses"])
    graph = make_plan(config, started(config)).graph
    assert "losses" not in check.meta.collection_def
    assert "losses" in MetaGraphDef.FromString(graph.original_meta).collection_def


def test_named_graph_is_trained_until_the_run_has_a_checkpoint_of_its_own(
    tmp_path: Path, output: Location, check: Check
) -> None:
    source = write_seed(tmp_path / "run")
    other = MetaGraphDef.FromString(seed_meta("metrics"))
    other.graph_def.node.add(name="another", op="NoOp")
    named = tmp_path / "other.meta"
    named.write_bytes(other.SerializeToString())
    config = config_for(source, output, meta=str(named))
    make_plan(config, started(config))
    assert check.meta == other
    save(output, source, 5, tmp_path)
    make_plan(config, started(config, record_of(source)))
    assert check.meta == MetaGraphDef.FromString(seed_meta("metrics"))


def test_memory_of_this_machine_is_asked_for_only_where_it_decides_which_tables_are_divided(
    tmp_path: Path, output: Location, monkeypatch: pytest.MonkeyPatch, check: Check
) -> None:
    free = FreeMemory(1, workers_per_node=2)
    asked: list[RunConfig] = []

    def free_memory(config: RunConfig) -> FreeMemory:
        asked.append(config)
        return free

    monkeypatch.setattr(startup, "free_memory", free_memory)
    for divided, memory in ((["none"], None), (["auto"], free)):
        config = config_for(write_seed(tmp_path / "run"), output, shard_tables=divided)
        make_plan(config, started(config))
        assert check.named["memory"] is memory
    assert asked == [config]


VARIABLES = tuple(
    Variable(name, "ref", "int64", (), key=f"key of {name}") for name in ("other", "step")
)


@pytest.mark.parametrize(
    ("counter", "key"),
    [(StepCounter("step"), "key of step"), (StepCounter("gone"), None), (None, None)],
)
def test_graph_that_counts_no_step_has_no_key_of_one(
    counter: StepCounter | None, key: str | None
) -> None:
    assert step_key_of(WorkerGraph(b"", b"", (), (), VARIABLES, step=counter)) == key
