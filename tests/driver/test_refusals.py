"""Is everything refused that is wrong by the command line alone, by one list, without running the
user's code?
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from launch.cli import run
from orchestrator.config import RunConfig, parse_config
from orchestrator.decide.room import crowded
from orchestrator.driver.refusals import (
    CHECKS,
    check_crowd,
    refusals,
    refuse,
    saves_changed_rows,
)
from orchestrator.errors import ConfigError, PlacementError
from orchestrator.graph.problem import Problem
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.graph.worker_tables import ShardedPart, ShardedTables


def config(**values: Any) -> RunConfig:
    return parse_config({"source": "s", "output": "o", "steps": 1, **values})


def test_crowd_on_this_machine_is_refused_with_what_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=3.14e9))
    with pytest.raises(PlacementError) as refused:
        check_crowd(config(workers={"count": 60, "max": 62, "standby": 2}), machine_cpus=2)
    assert refused.value.message == (
        "64 workers of 1 CPUs each are too many for this machine: it has 2 CPUs and 3.1 GB of free memory, "
        "and each worker is a process with TensorFlow in it (0.5 GB and the model)"
    )
    assert refused.value.remedy == (
        "Ask for 2 workers, give each less (--workers.cpus), or name a cluster with --address"
    )
    assert refused.value.details == {"cpus": 2, "wanted": 64}
    check_crowd(config(workers=64, address="auto"), machine_cpus=2)
    check_crowd(config(workers=64, wait=True), machine_cpus=2)
    check_crowd(config(workers={"count": 64, "cpus": 0.1}), machine_cpus=2)


@pytest.mark.parametrize(("cpus", "there"), [(3, 3), (None, 1)])
def test_crowd_is_told_by_the_cpus_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, cpus: int | None, there: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cpus)
    with pytest.raises(PlacementError, match=f"it has {there} CPUs"):
        check_crowd(config(workers=64))


@pytest.mark.parametrize(
    ("workers", "cpus", "machine", "is_crowded"),
    [(3, 1, 2, False), (8, 1, 2, False), (9, 1, 2, True), (8, 1, 1, False)],
)
def test_crowded_machine_is_one_that_is_asked_for_several_times_its_cpus(
    workers: int, cpus: float, machine: int, is_crowded: bool
) -> None:
    assert crowded(workers, cpus, machine) is is_crowded


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"input": "nowhere:x"}, "input"),
        ({"steps": None}, "no-end"),
        ({"workers": 10_000}, "no-room"),
    ],
)
def test_check_reports_as_an_error_what_resume_refuses(values: dict[str, Any], code: str) -> None:
    (problem,) = refusals(config(**values))
    with pytest.raises(ConfigError) as refused:
        refuse(config(**values))
    error = refused.value
    assert problem == Problem(code, "error", error.message, error.remedy)
    assert code in dict(CHECKS)


@pytest.mark.parametrize("end", [{"steps": 5}, {"steps": None, "until_step": 5}])
def test_command_with_either_end_is_refused_nothing(end: dict[str, Any]) -> None:
    assert refusals(config(**end)) == ()
    refuse(config(**end))


def test_check_of_a_source_alone_only_says_that_a_run_needs_an_end() -> None:
    assert [(item.code, item.severity) for item in refusals(config(output="", steps=None))] == [
        ("no-end", "warning")
    ]


def test_resume_command_refuses_a_crowd_before_a_ray_is_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "launch.supervisor.LocalRay", lambda *_args: pytest.fail("a Ray was started")
    )
    assert run(["resume", "s", "--output", "o", "--steps", "1", "--workers", "10000"]) == 2
    assert "are too many for this machine" in capsys.readouterr().err


DIVIDED = ShardedTables((ShardedPart("t", "t", ("t",), 4, (2,), "first", "count"),))


@pytest.mark.parametrize("asked", [False, True])
def test_changed_rows_are_saved_where_that_was_asked_for(asked: bool) -> None:
    graph = WorkerGraph(b"", b"", (), (), (), tables=DIVIDED)
    assert saves_changed_rows(config(save_changed_rows=asked), graph) is asked


def test_changed_rows_of_a_graph_without_divided_tables_are_refused() -> None:
    graph = WorkerGraph(b"", b"", (), (), ())
    assert saves_changed_rows(config(), graph) is False
    with pytest.raises(ConfigError) as refused:
        saves_changed_rows(config(save_changed_rows=True), graph)
    assert refused.value.message == (
        "--save-changed-rows saves rows of tables that are divided among the workers, and none is"
    )
    assert refused.value.remedy.startswith("Divide some (--shard-tables NAME; ")
    assert refused.value.remedy.endswith(", or leave --save-changed-rows out")
