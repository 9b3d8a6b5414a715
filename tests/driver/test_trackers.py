"""Does a run stand in MLflow and in W&B as it is, once for all its drivers? With fakes of what they
take: ``test_callbacks.py`` uses the real ones where they're installed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from orchestrator.driver.callbacks import curves
from orchestrator.driver.callbacks.context import CallbackContext
from orchestrator.driver.callbacks.mlflow_runs import MlflowRun
from orchestrator.driver.callbacks.wandb_runs import WandbRun
from orchestrator.driver.observer import RunProgress
from tests.launch import journals

CONTEXT = CallbackContext(
    "gs://b/more",
    "gs://b/run",
    {"workers": {"count": 2}, "steps": 1500, "until": None, "note": "", "set": {}, "watch": []},
)
INCIDENT = journals.loss_of_rank_1()[-1] | {"steps_redone": 3}


def at(step: int, loss: float = 0.5) -> RunProgress:
    return RunProgress(step, loss, 20.0, None, 2, 2000, summaries={"accuracy": 0.9})


class Server:
    """Stands for MLflow: its experiments and runs, by number."""

    def __init__(self) -> None:
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, dict[str, Any]] = {}

    def get_experiment_by_name(self, name: str) -> Any:
        assert isinstance(name, str)
        ident = self.experiments.get(name)
        return ident and SimpleNamespace(experiment_id=ident)

    def create_experiment(self, name: str) -> str:
        assert name not in self.experiments, "MLflow refuses a second one of the name"
        return self.experiments.setdefault(name, f"x{len(self.experiments)}")

    def search_runs(self, experiments: list[str], wanted: str, *, max_results: int) -> list[Any]:
        found = [
            SimpleNamespace(info=SimpleNamespace(run_id=ident))
            for ident, run in self.runs.items()
            if [run["experiment"]] == experiments
            and any(wanted == f"tags.`{key}` = '{value}'" for key, value in run["tags"].items())
        ]
        return found[:max_results]

    def create_run(self, experiment: str, *, tags: Mapping[str, str], run_name: str) -> Any:
        ident = f"r{len(self.runs)}"
        told = {"experiment": experiment, "tags": dict(tags), "name": run_name, "status": "NEW"}
        self.runs[ident] = told | {"params": {}, "metrics": []}
        return SimpleNamespace(info=SimpleNamespace(run_id=ident))

    def log_param(self, run: str, key: str, value: str) -> None:
        self.runs[run]["params"][key] = value

    def log_metric(self, run: str, key: str, value: float, *, step: int) -> None:
        assert isinstance(value, float)
        self.runs[run]["metrics"].append((key, value, step))

    def set_tag(self, run: str, key: str, value: str) -> None:
        self.runs[run]["tags"][key] = value

    def update_run(self, run: str, *, status: str) -> None:
        self.runs[run]["status"] = status

    def set_terminated(self, run: str, status: str) -> None:
        self.runs[run]["status"] = status


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    found = Server()
    mlflow: Any = ModuleType("mlflow")
    mlflow.MlflowClient = lambda: found
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    return found


def test_mlflow_has_one_run_for_an_output_with_what_it_was_asked_for(server: Server) -> None:
    MlflowRun(CONTEXT)
    assert server.experiments == {}, "the command may still be refused"
    MlflowRun(CONTEXT).past(0)
    MlflowRun(CallbackContext("gs://b/other", "gs://b/run", {})).past(0)
    again = MlflowRun(CONTEXT)
    again.past(0)
    again.event(journals.event(0, "attempt", 2))
    assert server.experiments == {"tfresume": "x0"}
    assert server.runs["r0"] == {
        "experiment": "x0",
        "name": "more",
        "status": "RUNNING",
        "tags": {
            "tfresume.output": "gs://b/more",
            "tfresume.output.id": CONTEXT.ident,
            "tfresume.source": "gs://b/run",
            "tfresume.attempt": "2",
        },
        "params": {"workers": "{'count': 2}", "steps": "1500"},
        "metrics": [],
    }
    assert [run["name"] for run in server.runs.values()] == ["more", "other"]


def test_mlflow_takes_the_experiment_that_its_variable_names_and_no_long_setting(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.create_experiment("tfresume")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    MlflowRun(CallbackContext("r", "s", {"feed": "x" * 501})).past(0)
    assert [run["experiment"] for run in server.runs.values()] == [server.experiments["mine"]]
    assert server.runs["r0"]["params"] == {"feed": "x" * 500}, "MLflow refuses longer ones"


def test_mlflow_counts_incidents_over_all_drivers_and_draws_the_curves(server: Server) -> None:
    run = MlflowRun(CONTEXT)
    run.past(1)
    run.event(INCIDENT)
    run.event(INCIDENT | {"step": None})
    run.progress(at(580))
    assert server.runs["r0"]["metrics"] == [
        *(("incidents", 2.0, 961), ("steps_redone", 3.0, 961)),
        *(("incidents", 3.0, 0), ("steps_redone", 3.0, 0)),
        *(("loss", 0.5, 580), ("steps_per_s", 20.0, 580), ("summary/accuracy", 0.9, 580)),
    ]


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ("done", "FINISHED"),
        ("end of data", "FINISHED"),
        ("stopped", "KILLED"),
        ("failed", "FAILED"),
        ("a later version's", "FAILED"),
    ],
)
def test_mlflow_is_told_how_the_run_ended_and_why(
    server: Server, outcome: str, status: str
) -> None:
    run = MlflowRun(CONTEXT)
    run.past(0)
    run.event(journals.finish(89, 2000) | {"outcome": outcome, "reason": "because"})
    assert server.runs["r0"]["status"] == status
    assert server.runs["r0"]["tags"]["tfresume.reason"] == "because"


class Board:
    """Stands for W&B: its runs, and what each was told."""

    def __init__(self, mode: str) -> None:
        self.mode, self.logins = mode, 0
        self.made: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.logged: list[tuple[Mapping[str, float], int]] = []
        self.exit_codes: list[int] = []

    def setup(self) -> Any:
        return SimpleNamespace(settings=SimpleNamespace(mode=self.mode))

    def login(self) -> None:
        self.logins += 1

    def init(self, **how: Any) -> Any:
        self.made.append(how)
        return SimpleNamespace(
            summary=self.summary,
            log=lambda told, step: self.logged.append((told, step)),
            finish=lambda exit_code: self.exit_codes.append(exit_code),
        )


def board(monkeypatch: pytest.MonkeyPatch, mode: str = "offline") -> Board:
    found = Board(mode)
    wandb: Any = ModuleType("wandb")
    wandb.setup, wandb.login, wandb.init = found.setup, found.login, found.init
    wandb.Settings = dict
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return found


def test_wandb_opens_the_run_of_an_output_once_a_driver_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = board(monkeypatch)
    run = WandbRun(CONTEXT)
    run.close()
    assert (told.made, told.exit_codes, told.logins) == ([], [], 0)
    run.past(0)
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    WandbRun(CONTEXT).past(0)
    assert told.made[0] == {
        "id": CONTEXT.ident,
        "name": "more",
        "project": "tfresume",
        "resume": "allow",
        "config": {"output": "gs://b/more", "source": "gs://b/run", **CONTEXT.config},
        "settings": {"console": "off", "disable_git": True, "silent": True},
    }
    assert told.made[1] == told.made[0] | {"project": "mine"}


@pytest.mark.parametrize(("mode", "logins"), [("online", 1), ("offline", 0), ("disabled", 0)])
def test_wandb_that_takes_no_key_refuses_the_run_where_it_would_send_something(
    monkeypatch: pytest.MonkeyPatch, mode: str, logins: int
) -> None:
    told = board(monkeypatch, mode)
    WandbRun(CONTEXT)
    assert told.logins == logins


def test_wandb_counts_incidents_over_all_drivers_and_draws_the_curves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(curves, "time", SimpleNamespace(monotonic=lambda: 5.0))
    told = board(monkeypatch)
    run = WandbRun(CONTEXT)
    run.past(1)
    run.event(INCIDENT)
    assert told.summary == {"incidents": 2, "last_incident": "died: SIGKILL"}
    run.progress(at(580))
    run.progress(at(581))
    drawn = {"loss": 0.5, "steps_per_s": 20.0, "summary/accuracy": 0.9}
    assert told.logged == [(drawn, 580)], "the second came too early for a point"


@pytest.mark.parametrize(
    ("outcome", "exit_code"), [("done", 0), ("stopped", 0), ("end of data", 0), ("failed", 1)]
)
def test_wandb_is_told_how_the_run_ended_and_why(
    monkeypatch: pytest.MonkeyPatch, outcome: str, exit_code: int
) -> None:
    told = board(monkeypatch)
    run = WandbRun(CONTEXT)
    run.past(0)
    run.event(journals.finish(89, 2000) | {"outcome": outcome, "reason": "because"})
    run.close()
    assert told.summary == {"reason": "because"}
    assert told.exit_codes == [exit_code]


def test_wandb_takes_a_run_without_an_end_for_one_that_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = board(monkeypatch)
    run = WandbRun(CONTEXT)
    run.past(0)
    run.close()
    assert told.exit_codes == [1]
