"""Every reason why a graph wouldn't resume, at once, with a verdict per mode."""

from __future__ import annotations

import json
import pickle

import pytest
from rich.console import Console
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from launch.text.check_text import render_check
from orchestrator.config import RunConfig
from orchestrator.errors import GraphRefused
from orchestrator.graph.check import check, ordered
from orchestrator.graph.problem import Problem
from orchestrator.graph.variables.memory import FreeMemory, in_words, memory_need, memory_problems
from orchestrator.graph.worker_graph import Variable
from tests.graph.fuzzing import seed_graphs

SEEDS = seed_graphs()


def _meta(name: str = "mlp") -> MetaGraphDef:
    return MetaGraphDef.FromString(SEEDS[name])


def _config(**values: object) -> RunConfig:
    return RunConfig.model_validate({"source": "x.meta", "input": "m:f", "workers": 2, **values})


@pytest.mark.parametrize("name", SEEDS)
def test_check_of_a_graph_with_all_its_inputs_resumes_in_both_modes(name: str) -> None:
    report = check(_meta(name), _config())
    assert [verdict.resumes for verdict in report.verdicts] == [True, True], report.problems
    assert report.exit_code == 0
    assert report.plan.worker_graph is not None
    report.refuse("x.meta")


def test_check_of_a_graph_with_several_faults_names_them_all_at_once() -> None:
    meta = _meta()
    meta.graph_def.versions.min_consumer = 2_000_000
    meta.graph_def.node.add(name="custom", op="MyOp")
    node = next(node for node in meta.graph_def.node if node.op == "MatMul")
    node.attr["later_idea"].b = True
    report = check(meta, _config(input=None))
    codes = [problem.code for problem in report.problems if problem.severity == "error"]
    assert sorted(codes) == ["min-consumer", "missing-op", "unfed-placeholder", "unknown-attribute"]
    assert report.exit_code == 2
    assert all(problem.remedy for problem in report.problems if problem.severity == "error")
    with pytest.raises(GraphRefused, match="and 3 more") as caught:
        report.refuse("x.meta")
    assert len(caught.value.details["problems"]) == 4
    assert pickle.loads(pickle.dumps(caught.value)).details == caught.value.details


@pytest.mark.parametrize("flag", ["feed", "array"])
def test_check_of_a_misspelt_input_refuses_it_and_tells_near_names(flag: str) -> None:
    given = {flag: {"xx:0": "1"}, "batch_size": 4}
    (problem,) = [
        problem
        for problem in check(_meta(), _config(**given)).problems
        if problem.severity == "error"
    ]
    assert (problem.code, problem.nodes) == ("unknown-tensor", ("xx:0",))
    assert "x:0" in problem.remedy
    assert check(
        _meta(), _config(feed={"hidden/kernel": "1", "key": "1"}, input_map={"x:0": "key"})
    ).resumes


def test_check_of_a_damaged_graph_stops_at_the_damage() -> None:
    meta = _meta()
    next(node for node in meta.graph_def.node if node.op == "MatMul").input[0] = "nowhere"
    report = check(meta, _config())
    assert [problem.code for problem in report.problems] == ["unknown-input"]
    assert report.plan.worker_graph is None


def test_check_with_force_goes_on_where_that_means_something() -> None:
    meta = _meta()
    next(node for node in meta.graph_def.node if node.op == "MatMul").attr["later_idea"].b = True
    assert not check(meta, _config()).resumes
    forced = check(meta, _config(force=True))
    assert forced.resumes
    assert forced.repairs == ("attribute later_idea dropped from 1 MatMul node",)


def test_check_of_a_state_that_does_not_fit_refuses_it_early() -> None:
    report = check(_meta(), _config(), memory=FreeMemory(host_bytes=1000, workers_per_node=2))
    assert [problem.code for problem in report.problems if problem.severity == "error"] == [
        "too-little-memory"
    ]
    assert check(_meta(), _config(), memory=FreeMemory(host_bytes=1 << 40)).resumes


def test_check_as_json_is_plain_data_and_its_rendering_names_problem_and_remedy() -> None:
    report = check(_meta(), _config(input=None))
    plain = json.loads(json.dumps(report.as_dict()))
    assert plain["resumes"] is False
    assert plain["asked"] == "group"
    assert {problem["code"] for problem in plain["problems"]} == {"unfed-placeholder"}
    console = Console(record=True, width=120, file=open("/dev/null", "w"))  # noqa: SIM115  closed with the console
    with console.file:
        render_check(report, console)
        text = console.export_text()
    assert "doesn't resume" in text
    assert "x:0" in text
    assert "--input" in text


def test_ordered_puts_errors_first_and_drops_repetitions() -> None:
    warning, error = Problem("a", "warning", "w"), Problem("b", "error", "e", forceable=True)
    assert ordered([warning, error, warning], force=False) == (error, warning)
    assert [problem.severity for problem in ordered([warning, error], force=True)] == [
        "warning",
        "warning",
    ]


def test_memory_need_counts_copies_of_the_state_and_gradients() -> None:
    variables = [
        Variable("w", "ref", "float32", (10, 10), trainable=True),
        Variable("w/Adam", "ref", "float32", (10, 10), slot_of="w"),
        Variable("names", "ref", "string", (5,)),
        Variable("odd", "ref", "float32", None),
    ]
    on_cpu, on_gpu = memory_need(variables, gpu=False), memory_need(variables, gpu=True)
    assert (on_cpu.state_bytes, on_cpu.gradient_bytes) == (800, 400)
    assert (on_cpu.host_bytes, on_cpu.gpu_bytes) == (2800, 0)
    assert (on_gpu.host_bytes, on_gpu.gpu_bytes) == (1600, 1200)
    # Rows of a divided table are held once, and their gradients come by row
    assert memory_need(variables, gpu=False, rows={"w", "w/Adam"}).host_bytes == 800
    assert memory_need(variables, gpu=False, rows={"w/Adam"}).host_bytes == 2000
    assert [
        problem.code for problem in memory_problems(on_gpu, FreeMemory(10_000, 2, gpu_bytes=1000))
    ] == ["too-little-gpu-memory"]


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (2_000_000_000, "2.0 GB"),
        (10**16, "10000.0 TB"),
    ],
)
def test_in_words_of_a_size_has_a_unit(size: int, words: str) -> None:
    assert in_words(size) == words


def _with_a_counter_in_the_forward_pass() -> MetaGraphDef:
    """The bias that the forward pass adds is the result of a write: it can't be put behind a
    barrier after the gradients.
    """
    meta = _meta()
    nodes = {node.name: node for node in meta.graph_def.node}
    written = meta.graph_def.node.add(
        name="counter", op="AssignAdd", input=["hidden/bias", "hidden/bias/read"]
    )
    written.attr["T"].type = nodes["hidden/bias"].attr["dtype"].type
    added = next(
        node
        for node in meta.graph_def.node
        if "hidden/bias/read" in node.input and node.name.startswith("hidden/")
    )
    added.input[list(added.input).index("hidden/bias/read")] = "counter"
    return meta


@pytest.mark.parametrize(("workers", "resumes"), [(1, True), (2, False)])
def test_check_of_a_graph_that_only_one_worker_can_train_has_a_verdict_for_each_mode(
    workers: int, resumes: bool
) -> None:
    report = check(_with_a_counter_in_the_forward_pass(), _config(workers=workers))
    verdicts = {verdict.mode: verdict for verdict in report.verdicts}
    assert verdicts["one"].resumes, report.problems
    assert not verdicts["group"].resumes
    assert verdicts["group"].reasons == ("group-refused",)
    assert report.resumes is resumes
