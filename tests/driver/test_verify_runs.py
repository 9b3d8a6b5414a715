"""Which runs does ``verify`` compare, and what is it told of them? Without TensorFlow and Ray: what
the runs and the bare process give is told.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.driver import verify as verifying
from orchestrator.driver.proof import Proof
from orchestrator.driver.result import RunResult
from orchestrator.driver.startup import Plan
from orchestrator.driver.verify import BASELINE_TIMEOUT_S, Asking, _held_still, position_of, verify
from orchestrator.driver.verify_verdict import TOLERANCE
from orchestrator.errors import ConfigError, CorruptCheckpoint, FatalError
from orchestrator.graph.random.deterministic import DeterministicGraph
from orchestrator.graph.worker_graph import InputPort, TrainTarget, WorkerGraph
from orchestrator.store.objects.manifest import Manifest

PLAIN = WorkerGraph(b"", b"", (TrainTarget("Adam"),), (), ())
NOISY = WorkerGraph(b"", b"", (TrainTarget("Adam"),), (), (), random_nodes=("dropout",))
LUCKY = WorkerGraph(b"", b"", (TrainTarget("Adam"),), (), (), stateful_random=("sampler",))


def config_of(**fields: object) -> RunConfig:
    return RunConfig.model_validate({"source": "gs://b/run", "workers": 2, **fields})


def distances(relative: float) -> list[dict[str, Any]]:
    return [{"name": "w", "relative": 0.0}, {"name": "v", "relative": relative}]


def measured(slots: float = 0.0, bare: float = 0.0, save: float | None = 0.0) -> dict[str, Any]:
    """A baseline's answer."""
    return {
        "slots": distances(slots),
        "bare": distances(bare),
        "save": None if save is None else distances(save),
        "moved": 3,
        "reason": "",
    }


class Runs:
    """Stands for all that ``verify`` starts; what it did, in order."""

    def __init__(self, graph: WorkerGraph, room: Path, *answers: dict[str, Any]) -> None:
        self.graph, self.room, self.answers = graph, room, list(answers)
        self.done: list[Any] = []
        self.asked: list[RunConfig] = []
        self.left: tuple[str, ...] = ()
        self.labels: list[tuple[str, RunConfig, dict[str, Any]]] = []
        self.given: tuple[int, float] = (0, 0.0)

    def start_point(self, config: RunConfig, output: Any, record: None) -> str:
        assert (output.url, record) == (config.output, None)
        self.asked.append(config)
        return "start"

    def make_plan(self, config: RunConfig, start: str) -> Plan:
        assert start == "start"
        self.asked.append(config)
        return Plan(self.graph, 3, "global_step", ())

    def link(self, config: RunConfig) -> Any:
        self.asked.append(config)
        return SimpleNamespace(
            wait=lambda: self.done.append("connected"), close=lambda: self.done.append("closed")
        )

    def prove(self, config: RunConfig) -> Proof:
        self.done.append(("proved", config))
        return Proof("equal", "proved")

    def without_chance(self, meta: MetaGraphDef) -> DeterministicGraph:
        self.done.append("held still")
        return DeterministicGraph(meta, self.left)

    def measured(
        self, asking: Asking, label: str, config: RunConfig, plan: Plan, **how: Any
    ) -> Any:
        self.done.append(label)
        self.labels.append((label, config, how))
        self.given = (asking.steps, asking.tolerance)
        assert (str(asking.start), asking.room, plan.graph) == ("start", self.room, self.graph)
        return self.answers.pop(0)


def runs(
    monkeypatch: pytest.MonkeyPatch, room: Path, graph: WorkerGraph, *answers: dict[str, Any]
) -> Runs:
    found = Runs(graph, room, *answers)
    for name in ("start_point", "make_plan", "prove", "without_chance"):
        monkeypatch.setattr(verifying, name, getattr(found, name))
    monkeypatch.setattr(verifying, "RayLink", found.link)
    monkeypatch.setattr(
        Asking,
        "measured",
        lambda asking, *words, **how: found.measured(asking, *words, **how),
    )

    class Room:
        def __init__(self, name: str) -> None:
            assert name == "verify"

        def __enter__(self) -> Path:
            return room

        def __exit__(self, *error: object) -> None:
            found.done.append("tidied")

    monkeypatch.setattr(verifying, "scratch", Room)
    return found


def test_graph_without_chance_is_measured_once_and_reported_with_its_proof(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = runs(monkeypatch, tmp_path, PLAIN, measured())
    config = config_of(until_step=99, output="gs://b/more")
    found = verify(config)
    assert told.done == ["connected", ("proved", config), "drawn", "closed", "tidied"]
    assert told.labels == [("drawn", config, {"redraw": False})]
    assert (found.verdict, found.steps, found.start_step) == ("agrees", 4, 3)
    assert found.proof == Proof("equal", "proved")
    assert found.comparisons[1].tolerance == TOLERANCE
    for asked in told.asked:
        assert asked.output == str(tmp_path / "whole")
        assert (asked.until_step, asked.steps, asked.deterministic) == (0, None, True)
    assert len(told.asked) == 3


def test_proof_and_steps_and_tolerance_are_those_that_were_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = runs(monkeypatch, tmp_path, PLAIN, measured(bare=0.2))
    found = verify(config_of(prove=False), steps=2, tolerance=0.25)
    assert found.proof is None
    assert told.done[:2] == ["connected", "drawn"]
    assert (found.verdict, found.steps, found.comparisons[1].tolerance) == ("agrees", 2, 0.25)
    assert told.given == (2, 0.25)


@pytest.mark.parametrize(
    ("graph", "answer", "halves"),
    [
        (NOISY, measured(bare=0.5), False),
        (LUCKY, measured(bare=0.5), True),
        (LUCKY, measured(slots=1e-9), True),
        (LUCKY, measured(save=1e-9), True),
        (NOISY, measured(bare=TOLERANCE), None),
        (NOISY, measured(slots=1e-9), None),
        (LUCKY, measured(), None),
        (LUCKY, measured(save=None) | {"slots": None, "bare": None}, None),
        (PLAIN, measured(bare=0.5), None),
    ],
)
def test_random_numbers_are_held_still_where_they_may_be_the_reason(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    graph: WorkerGraph,
    answer: dict[str, Any],
    halves: bool | None,
) -> None:
    told = runs(monkeypatch, tmp_path, graph, answer, measured())
    found = verify(config_of(clip_global_norm=0.1))
    assert ("held still" in told.done) is (graph is not PLAIN)
    shown = [each.name for each in found.comparisons if "held still" in each.name]
    if halves is None:
        assert (len(told.labels), shown) == (1, [])
        return
    label, calm, how = told.labels[1]
    assert (label, how) == ("held-still", {"halves": halves})
    assert calm.meta == str(tmp_path / "deterministic.meta")
    assert Path(calm.meta).read_bytes() == b""
    assert calm.clip_global_norm is None, "the graph has it already"
    assert told.asked[-1].output == str(tmp_path / "calm")
    assert (told.asked[-1].meta, told.asked[-1].until_step) == (calm.meta, 0)
    assert "joint held still" in shown


def test_random_numbers_that_cannot_be_held_still_are_drawn_again_and_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = runs(monkeypatch, tmp_path, NOISY, measured(bare=0.5))
    told.left = ("sampler", "other")
    found = verify(config_of())
    assert [how for _, _, how in told.labels] == [{"redraw": True}]
    (calm,) = (each for each in found.comparisons if each.name == "joint held still")
    assert (calm.agrees, calm.reason) == (None, "sampler can't be held still")
    deterministic = DeterministicGraph(MetaGraphDef(), told.left)
    asking: Any = None
    held = _held_still(asking, config_of(), deterministic, halves=True)
    assert (held["slots"], held["save"], held["shares"]) == (None, None, {})


def test_cluster_is_given_back_where_a_run_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = runs(monkeypatch, tmp_path, PLAIN)
    with pytest.raises(IndexError):
        verify(config_of())
    assert told.done[-2:] == ["closed", "tidied"]


def test_what_cannot_be_verified_is_refused_before_anything_is_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = runs(monkeypatch, tmp_path, PLAIN, measured())
    with pytest.raises(ConfigError) as refused:
        verify(config_of(), steps=1)
    assert refused.value.message == (
        "verify needs at least two steps: one before the save in the middle, and one after it"
    )
    assert refused.value.remedy == "Give --steps 2 or more"
    with pytest.raises(ConfigError) as refused:
        verify(config_of(reset_step=0, reinit=["w"]))
    assert refused.value.message == (
        "verify compares with plain TensorFlow, which can't start from this checkpoint with --reinit, --reset-step"
    )
    assert refused.value.remedy == (
        "Resume with these flags into an output of its own (--steps 1), and verify that output without them"
    )
    assert told.done == []


# One set of runs


class Trained:
    """Stands for runs and for the bare process: what each was asked, and what came of it."""

    def __init__(self, position: int = 16, **answer: Any) -> None:
        self.position, self.answer = position, answer
        self.runs: list[RunConfig] = []
        self.tasks: list[Mapping[str, Any]] = []
        self.result: dict[str, Any] = {}

    def resume(self, config: RunConfig) -> RunResult:
        self.runs.append(config)
        checkpoint = f"{config.output}/a0001-g0001/m-{config.until_step}"
        manifest = Manifest(
            name="m", step=99, attempt=1, generation=1, files=(), position=self.position
        )
        place = Path(checkpoint + ".manifest.json")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(manifest.to_bytes())
        told = {"status": "done", "start_step": 3, "final_step": 7, "checkpoint": checkpoint}
        return RunResult(**{**told, "world_size": 2, **self.result})

    def ask(self, module: str, task: Mapping[str, Any], answer: Path, timeout_s: float) -> None:
        assert (module, timeout_s) == (
            "orchestrator.training.baseline.baseline",
            BASELINE_TIMEOUT_S,
        )
        self.tasks.append(task)
        answer.write_text(json.dumps(self.answer))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    found = Trained(slots=[], bare=[])
    monkeypatch.setattr(verifying, "resume", found.resume)
    monkeypatch.setattr(verifying, "ask_tensorflow", found.ask)
    monkeypatch.setattr(verifying, "stage", lambda files, room: room / f"m-3 of {files}")
    return found


def asking(room: Path, steps: int) -> Asking:
    start: Any = SimpleNamespace(source=SimpleNamespace(files="the source's files"))
    return Asking(start, steps, 0.01, room)


def compared(
    trained: Trained, room: Path, config: RunConfig, graph: WorkerGraph = PLAIN, **how: Any
) -> dict[str, Any]:
    steps = how.pop("steps", 4)
    plan = Plan(graph, 3, "global_step", ())
    return asking(room, steps).measured("drawn", config, plan, **how)


def test_same_steps_are_run_at_one_go_and_in_two_halves_and_nothing_else_of_the_run(
    trained: Trained, tmp_path: Path
) -> None:
    config = config_of(
        save_steps=1, save_secs=60, max_to_keep=3, steps=9, tensorboard=True, wait=False,
        on_nonfinite="stop", prove=True, seed=5,
    )  # fmt: skip
    assert compared(trained, tmp_path, config, steps=5) == {"slots": [], "bare": []}
    room = tmp_path / "drawn"
    ends = [(Path(run.output).name, run.until_step) for run in trained.runs]
    assert ends == [("whole", 8), ("halves", 5), ("halves", 8)]
    for run in trained.runs:
        assert run == config.model_copy(
            update={
                "output": run.output,
                "until_step": run.until_step,
                "steps": None,
                "save_steps": None,
                "save_secs": 86400.0,
                "max_to_keep": 0,
                "deterministic": True,
                "tensorboard": False,
                "on_nonfinite": "ignore",
                "prove": False,
                "wait": True,
            }
        )
        assert Path(run.output).parent == room
    (task,) = trained.tasks
    assert task["whole"] == f"{room}/whole/a0001-g0001/m-8"
    assert task["halves"] == f"{room}/halves/a0001-g0001/m-8"


def test_bare_process_is_asked_for_the_very_steps_that_the_group_took(
    trained: Trained, tmp_path: Path
) -> None:
    config = config_of(
        batches_per_step=4, seed=5, import_modules=["ops"], load_op_library=["a.so"],
        py_func={"t": "m:f"}, workers={"count": 3, "gpus": 1},
    )  # fmt: skip
    compared(trained, tmp_path, config, halves=False, redraw=True)
    assert len(trained.runs) == 1
    (task,) = trained.tasks
    options = task["options"]
    assert {key: value for key, value in task.items() if key != "options"} == {
        "graph": PLAIN,
        "config": config,
        "prefix": f"{tmp_path}/drawn/source/m-3 of the source's files",
        "world_size": 3,
        "steps": 4,
        "start_step": 3,
        "whole": f"{tmp_path}/drawn/whole/a0001-g0001/m-7",
        "halves": "",
        "joint": True,
        "tolerance": 0.01,
        "redraw": True,
    }
    assert (options.batches_per_step, options.seed, options.deterministic) == (4, 5, True)
    assert (options.gpu, options.import_modules, options.load_op_library) == (
        *(True, ("ops",)),
        ("a.so",),
    )
    assert options.py_func == {"t": "m:f"}


@pytest.mark.parametrize(
    ("fields", "graph", "position", "world_size", "steps"),
    [
        ({"workers": 3, "batches_per_step": 2}, {}, 16, 2, 8),
        ({"workers": 2, "batches_per_step": 2}, {"run_batches": (0, 1)}, 16, 2, 4),
        ({"workers": 1}, {"group_refused": "it reads a queue"}, 6, 1, 6),
        ({"workers": 4}, {"group_refused": "it reads a queue"}, 6, 1, 6),
    ],
)
def test_steps_and_processes_follow_from_the_batches_that_the_group_consumed(
    trained: Trained,
    tmp_path: Path,
    fields: dict[str, object],
    graph: dict[str, Any],
    position: int,
    world_size: int,
    steps: int,
) -> None:
    trained.position = position
    cut = WorkerGraph(b"", b"", (TrainTarget("Adam"),), (), (), **graph)
    compared(trained, tmp_path, config_of(**fields), cut)
    (task,) = trained.tasks
    assert (task["world_size"], task["steps"]) == (world_size, steps)
    assert isinstance(task["steps"], int)
    assert (task["redraw"], task["options"].gpu) == (False, False)
    assert len(trained.runs) == 3


def test_batches_of_the_graphs_own_pipeline_are_never_joined(
    trained: Trained, tmp_path: Path
) -> None:
    fed = InputPort("x:0", "x:0", "float32", None)
    pulled = InputPort("p:0", "b:0", "float32", None, "queue", pull="b:0")
    graph = WorkerGraph(b"", b"", (TrainTarget("Adam"),), (fed, pulled), ())
    compared(trained, tmp_path, config_of(), graph)
    assert trained.tasks[0]["joint"] is False


def test_group_whose_slots_follow_its_size_is_not_compared_bit_by_bit(
    trained: Trained, tmp_path: Path
) -> None:
    config = config_of(exchange="nccl", workers={"count": 2, "gpus": 1})
    found = compared(trained, tmp_path, config)
    assert (found["slots"], found["bare"]) == (None, [])
    assert found["slots_reason"] == "nccl adds in an order of its own"
    assert trained.tasks[0]["options"].batches_per_step == 2


def test_manifest_that_is_damaged_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "m-7.manifest.json").write_bytes(b"{")
    with pytest.raises(CorruptCheckpoint, match=f"^{tmp_path}/m-7.manifest.json isn't"):
        position_of(str(tmp_path / "m-7"))


@pytest.mark.parametrize(
    ("result", "message", "remedy"),
    [
        (
            {"status": "failed", "reason": "workers were lost"},
            "'failed' at step 7: workers were lost",
            "Run the same flags with `tfresume resume` to see why",
        ),
        (
            {"status": "failed", "error": {"message": "the feed raised", "remedy": "Mend it"}},
            "'failed' at step 7: the feed raised",
            "Mend it",
        ),
        (
            {"checkpoint": None, "reason": "nothing was saved"},
            "'done' at step 7: nothing was saved",
            "Run the same flags with `tfresume resume` to see why",
        ),
    ],
)
def test_run_that_fails_ends_the_comparison_with_its_own_reason(
    trained: Trained, tmp_path: Path, result: dict[str, Any], message: str, remedy: str
) -> None:
    trained.result = result
    with pytest.raises(FatalError) as told:
        compared(trained, tmp_path, config_of())
    assert told.value.message == f"a run to be compared ended as {message}"
    assert told.value.remedy == remedy


def test_bare_process_that_fails_ends_the_comparison_with_its_own_reason(
    trained: Trained, tmp_path: Path
) -> None:
    trained.answer = {"error": {"message": "no such operation", "remedy": "Load its library"}}
    with pytest.raises(FatalError) as told:
        compared(trained, tmp_path, config_of())
    assert told.value.message == "the bare process failed: no such operation"
    assert told.value.remedy == "Load its library"
