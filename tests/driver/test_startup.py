"""Is it known before anything starts what is trained, from where and to which step?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig, parse_config
from orchestrator.driver import startup
from orchestrator.driver.startup import (
    StartPoint,
    counted,
    make_plan,
    start_point,
    step_key_of,
    step_of,
)
from orchestrator.errors import ConfigError, GraphRefused, OutputError, SourceError
from orchestrator.graph.loading import Loading
from orchestrator.graph.variables.memory import FreeMemory
from orchestrator.graph.worker_graph import StepCounter, Variable, WorkerGraph
from orchestrator.store.checkpoints.source import resolve_source, source_fingerprint
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.lineage import record_takeover
from tests.driver.seed_sources import record_of, save, seed_meta, write_seed
from tests.store.chains import Run


@pytest.fixture
def output(tmp_path: Path) -> Location:
    return open_location(str(tmp_path / "out"))


def config_for(source: Path, output: Location, **settings: Any) -> RunConfig:
    known = {"source": str(source), "output": output.url, "input": "mine:batches", "steps": 4}
    return parse_config(known | settings)


def started(config: RunConfig, record: Any = None) -> StartPoint:
    return start_point(config, open_location(config.output), record)


# -- where it starts


def test_first_start_goes_on_from_the_source_and_counts_its_steps_from_there(
    tmp_path: Path, output: Location
) -> None:
    source = write_seed(tmp_path / "run", number=50)
    found = started(config_for(source, output))
    named = resolve_source(str(source))
    assert (found.source, found.named) == (named, "m")
    assert found.fingerprint == source_fingerprint(named)
    assert (found.step, found.started_step, found.until) == (3, 3, 7)
    assert (found.own_label, found.parent) == (None, (0, 0))
    assert found.warnings == ("the name says step 50, the data says 3; the data counts",)


def test_later_start_goes_on_from_what_the_run_has_saved_and_ends_where_the_first_would_have(
    tmp_path: Path, output: Location
) -> None:
    source = write_seed(tmp_path / "run")
    config, record = config_for(source, output), record_of(source)
    assert started(config, record).own_label is None
    label = save(output, source, 5, tmp_path)
    found = started(config, record)
    assert (found.own_label, found.parent) == (label, (1, 2))
    assert (found.step, found.started_step, found.until) == (5, 3, 7)
    assert found.fingerprint == record.fingerprint
    assert found.named == "m"
    assert found.source.manifest is not None


@pytest.mark.parametrize("is_later", [False, True])
def test_end_that_was_given_as_a_step_is_that_step_at_every_start(
    tmp_path: Path, output: Location, is_later: bool
) -> None:
    source = write_seed(tmp_path / "run")
    if is_later:
        save(output, source, 5, tmp_path)
    config = config_for(source, output, steps=None, until_step=8)
    assert started(config, record_of(source) if is_later else None).until == 8


def test_checkpoint_that_was_passed_over_is_named_with_the_reason(
    tmp_path: Path, output: Location
) -> None:
    source = write_seed(tmp_path / "run")
    label = save(output, source, 5, tmp_path)
    save(output, source, 6, tmp_path)
    output.child("a0001-g0002", "m-6.index").write_bytes(b"damaged")
    found = started(config_for(source, output), record_of(source))
    assert found.own_label == label
    (warning,) = found.warnings
    assert "m-6 was passed over: " in warning
    assert not warning.endswith(": ")


def test_start_without_an_end_is_refused_before_the_source_is_read(output: Location) -> None:
    with pytest.raises(ConfigError, match="the run has no end"):
        started(config_for(Path("nowhere"), output, steps=None))


def test_output_of_another_source_is_refused_with_both(tmp_path: Path, output: Location) -> None:
    one, other = write_seed(tmp_path / "one"), write_seed(tmp_path / "other", "mlp")
    with pytest.raises(OutputError, match=r"holds a run of .*one/m-3, not of .*other/m-3"):
        started(config_for(other, output), record_of(one))


@pytest.mark.parametrize(("until", "goes_on_from"), [(2, 1), (3, 2), (1, 1)])
def test_run_whose_changed_rows_are_at_its_end_takes_its_last_steps_once_more(
    tmp_path: Path, until: int, goes_on_from: int
) -> None:
    """It ends with a checkpoint that plain TensorFlow reads."""
    output = open_location(str(tmp_path / "out"))
    trained = Run(rows=20, columns=2)
    record_takeover(output, 1, 1, 0)
    trained.train(0.1)
    trained.saved(output)
    trained.train(0.1)
    trained.saved_changes(output)
    source = write_seed(tmp_path / "run")
    record = record_of(source, started_step=0)
    found = started(config_for(source, output, steps=until), record)
    by_step = config_for(source, output, steps=None, until_step=until)
    assert started(by_step, record) == found
    assert found.step == goes_on_from
    assert found.own_label is not None
    assert found.own_label.endswith(f"m-{goes_on_from}" + (".changed" if goes_on_from > 1 else ""))
    assert found.until == until


@pytest.mark.parametrize(
    ("number", "key", "step"), [(50, "global_step", 3), (50, "steps", 50), (0, "steps", 0)]
)
def test_step_of_a_checkpoint_is_that_in_its_data_else_the_number_in_its_name(
    tmp_path: Path, number: int, key: str, step: int
) -> None:
    prefix = write_seed(tmp_path, number=number, called={"global_step": key})
    assert step_of(resolve_source(str(prefix))) == step
    assert step_of(replace(resolve_source(str(prefix)), step=None, step_in_name=None)) == 0


# -- what is planned


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


def test_plan_says_what_was_edited_and_that_the_checkpoint_lacks_what_is_initialised(
    tmp_path: Path, output: Location
) -> None:
    source = write_seed(tmp_path / "run", without=["out/bias"])
    with pytest.raises(GraphRefused, match=r"run/m-3.meta.* lacks 1 variable"):
        make_plan(config_for(source, output), started(config_for(source, output)))
    config = config_for(source, output, init_missing=True, freeze=["out/kernel"])
    plan = make_plan(config, started(config))
    assert plan.is_completed
    assert plan.graph.edits == ("froze out/kernel",)
    assert any("--init-missing initialises them" in warning for warning in plan.warnings)
    assert any("froze out/kernel" in warning for warning in plan.warnings)


def test_counter_that_the_checkpoint_lacks_goes_on_at_the_number_in_its_name(
    tmp_path: Path, output: Location
) -> None:
    """It began at 0, and --steps 4 trained 54."""
    source = write_seed(tmp_path / "run", number=50, without=["global_step"])
    config = config_for(source, output, init_missing=True)
    start = started(config)
    plan = make_plan(config, start)
    assert (plan.step, plan.graph.loading, plan.is_completed) == (50, Loading(step=50), True)
    assert counted(config, start, plan, None).until == 54


def test_what_is_initialised_as_asked_is_no_variable_that_the_checkpoint_lacks(
    tmp_path: Path, output: Location
) -> None:
    config = config_for(write_seed(tmp_path / "run"), output, reinit=["out/bias"])
    plan = make_plan(config, started(config))
    assert plan.graph.loading == Loading(anew=frozenset(["out/bias"]))
    assert "1 variable will be initialised, as asked: out/bias" in plan.warnings
    assert plan.is_completed


def test_rows_that_a_table_has_grown_by_are_made_by_initialisers(
    tmp_path: Path, output: Location
) -> None:
    source = write_seed(tmp_path / "run", "embedding")
    config = config_for(source, output, grow={"embedding/table": 30})
    assert make_plan(config, started(config)).is_completed


def test_graph_that_cannot_be_read_is_named(tmp_path: Path, output: Location) -> None:
    config = config_for(write_seed(tmp_path / "run"), output)
    start = started(config)
    damaged = replace(start, source=replace(start.source, meta_data=b"nothing of the kind"))
    with pytest.raises(SourceError, match=r"run/m-3\.meta"):
        make_plan(config, damaged)


def test_collection_that_is_dropped_is_saved_all_the_same(tmp_path: Path, output: Location) -> None:
    source = write_seed(tmp_path / "run")
    config = config_for(source, output, drop_collection=["losses"])
    graph = make_plan(config, started(config)).graph
    assert "losses" not in MetaGraphDef.FromString(graph.meta).collection_def
    assert "losses" in MetaGraphDef.FromString(graph.original_meta).collection_def


def test_named_graph_is_trained_until_the_run_has_a_checkpoint_of_its_own(
    tmp_path: Path, output: Location
) -> None:
    source = write_seed(tmp_path / "run")
    other = MetaGraphDef.FromString(seed_meta("metrics"))
    other.graph_def.node.add(name="another", op="NoOp")
    named = tmp_path / "other.meta"
    named.write_bytes(other.SerializeToString())
    config = config_for(source, output, meta=str(named))

    def is_other(start: StartPoint) -> bool:
        saved = MetaGraphDef.FromString(make_plan(config, start).graph.original_meta)
        return any(node.name == "another" for node in saved.graph_def.node)

    first = started(config)
    assert is_other(first)
    save(output, source, 5, tmp_path)
    assert not is_other(started(config, record_of(source)))


def test_memory_of_this_machine_is_asked_for_only_where_it_decides_which_tables_are_divided(
    tmp_path: Path, output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[RunConfig] = []

    def none_free(config: RunConfig) -> FreeMemory:
        asked.append(config)
        return FreeMemory(1, workers_per_node=2)

    monkeypatch.setattr(startup, "free_memory", none_free)
    config = config_for(write_seed(tmp_path / "run"), output, workers=2)
    make_plan(config, started(config))
    assert asked == []
    config = config.model_copy(update={"shard_tables": ["auto"]})
    with pytest.raises(GraphRefused, match="1 B are free"):
        make_plan(config, started(config))
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
