"""Do trackers see a run, without it ever waiting for them or ending because of them?"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import parse_config
from orchestrator.driver.callbacks import loading
from orchestrator.driver.callbacks.context import GROUP, CallbackContext
from orchestrator.driver.callbacks.loading import callbacks_of, chosen
from orchestrator.driver.main import own_observers
from orchestrator.driver.measurements import Counted
from orchestrator.driver.observer import Observers, RunProgress
from orchestrator.driver.observer_thread import MOST_PROGRESS, ObserverThread
from orchestrator.errors import ConfigError
from orchestrator.journal.folding import folded
from orchestrator.journal.parsing import parse_all
from orchestrator.store.objects.location import open_location
from tests.launch import journals

CONTEXT = CallbackContext("gs://b/more", "gs://b/run", {"workers": {"count": 2}, "steps": 1500})


def at(step: int, loss: float = 0.5) -> RunProgress:
    return RunProgress(step, loss, 20.0, None, 2, 2000, summaries={"accuracy": 0.9})


class Recorder:
    """A callback as somebody else would write it."""

    def __init__(self, context: CallbackContext) -> None:
        self.context = context
        self.seen: list[Any] = []
        self.closed = False
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def event(self, event: Mapping[str, Any]) -> None:
        self.entered.set()
        self.gate.wait(60)
        if event["event"] == "warning":
            raise RuntimeError("the tracker is down")
        self.seen.append(event["event"])

    def progress(self, progress: RunProgress) -> None:
        self.seen.append(progress.step)

    def close(self) -> None:
        self.closed = True


class Note(dict[str, Any]):
    """An event that can be looked after."""


def needing_what_is_not_there(context: CallbackContext) -> Any:
    raise ImportError("No module named 'tracker'")


def failing(context: CallbackContext) -> Any:
    raise OSError("no route to the tracker")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry points as installed packages would bring them."""
    found = [
        EntryPoint(name, f"{__name__}:{target}", GROUP)
        for name, target in (
            ("recorder", "Recorder"),
            ("absent", "needing_what_is_not_there"),
            ("down", "failing"),
        )
    ]
    monkeypatch.setattr(loading, "entry_points", lambda group: found if group == GROUP else [])
    module = {"Recorder": Recorder, "needing_what_is_not_there": needing_what_is_not_there}
    targets = {**module, "failing": failing}
    monkeypatch.setattr(EntryPoint, "load", lambda entry: targets[entry.attr])


def test_callback_sees_every_event_and_the_progress_and_is_closed() -> None:
    recorder = Recorder(CONTEXT)
    thread = ObserverThread(recorder, "the callback recorder")
    thread.event({"event": "attempt"})
    thread.progress(at(580))
    thread.event({"event": "finish"})
    thread.close(60)
    assert sorted(map(str, recorder.seen)) == ["580", "attempt", "finish"]
    assert recorder.closed


def test_callback_that_hangs_delays_nobody_and_loses_progress_rather_than_events() -> None:
    recorder = Recorder(CONTEXT)
    recorder.gate.clear()
    thread = ObserverThread(recorder, "the callback recorder")
    began_s = time.monotonic()
    for step in range(5000):
        thread.event({"event": f"e{step}"})
        thread.progress(at(step))
    assert time.monotonic() - began_s < 60
    recorder.gate.set()
    thread.close(60)
    assert [item for item in recorder.seen if isinstance(item, str)] == [
        f"e{step}" for step in range(5000)
    ]
    assert len([item for item in recorder.seen if isinstance(item, int)]) <= MOST_PROGRESS
    assert recorder.seen[-1] == 4999


def test_callback_that_hangs_at_the_end_is_not_waited_for_and_then_ends_as_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = Recorder(CONTEXT)
    recorder.gate.clear()
    thread = ObserverThread(recorder, "the callback recorder", close_s=0.1)
    for step in range(5):
        thread.event({"event": f"e{step}"})
    assert recorder.entered.wait(60)
    began_s = time.monotonic()
    with caplog.at_level(logging.WARNING, "tfresume"):
        thread.close()
    assert time.monotonic() - began_s < 60
    assert (
        "the callback recorder didn't end within 0 s; events that it wasn't told: 4" in caplog.text
    )
    recorder.gate.set()
    thread.close(60)
    assert recorder.seen == ["e0"]
    assert recorder.closed


def test_callback_that_raises_is_dropped_and_said(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder(CONTEXT)
    thread = ObserverThread(recorder, "the callback recorder")
    with caplog.at_level(logging.WARNING, "tfresume"):
        thread.event({"event": "warning"})
        thread.event({"event": "finish"})
        thread.close(60)
    assert recorder.seen == []
    assert recorder.closed
    assert "the callback recorder is dropped since it failed: RuntimeError" in caplog.text
    later = Note(event="finish")
    kept = weakref.ref(later)
    thread.event(later)
    del later
    assert kept() is None, "notes for one that is gone pile up"


@pytest.mark.usefixtures("installed")
def test_callbacks_are_those_that_were_asked_for_and_get_no_secret() -> None:
    config = parse_config({"source": "gs://b/run", "callback": ["recorder"]})
    (thread,) = callbacks_of(config, "gs://b/more")
    assert isinstance(thread, ObserverThread)
    recorder = thread._observer
    assert isinstance(recorder, Recorder)
    assert recorder.context.run == "gs://b/more"
    assert recorder.context.config["callback"] == ["recorder"]
    thread.close(60)
    assert callbacks_of(parse_config({"source": "s"}), "r") == []


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nobodys", "no installed package has a callback of this name; there are: absent, down"),
        ("absent", "a library that it needs isn't installed here: No module named 'tracker'"),
        ("down", "can't begin: OSError: no route to the tracker"),
    ],
)
def test_callback_that_cannot_be_made_refuses_the_run(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        callbacks_of(parse_config({"source": "s", "callback": [name]}), "r")
    assert raised.value.remedy


@pytest.mark.usefixtures("installed")
def test_callback_that_was_made_is_closed_where_a_later_one_refuses_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Recorder] = []

    def recorded(context: CallbackContext) -> Recorder:
        made.append(Recorder(context))
        return made[-1]

    monkeypatch.setattr(
        EntryPoint, "load", lambda entry: {"Recorder": recorded}.get(entry.attr, failing)
    )
    config = {"source": "s", "tensorboard": False, "notify": ["http://127.0.0.1:9/"]}
    asked = parse_config({**config, "callback": ["recorder", "down"]})
    before = set(threading.enumerate())
    with pytest.raises(ConfigError, match="--callback down"):
        own_observers(asked, open_location("memory://more"))
    (recorder,) = made
    assert (recorder.closed, recorder.seen) == (True, [])
    assert set(threading.enumerate()) <= before


def test_callback_is_told_first_how_many_incidents_earlier_drivers_had() -> None:
    class Asking(Recorder):
        def past(self, incidents: int) -> None:
            self.seen.append(str(incidents))

    recorder = Asking(CONTEXT)
    thread = ObserverThread(recorder, "the callback recorder")
    observers = Observers([thread])
    observers.past(folded(Counted, parse_all(journals.loss_of_rank_1())))
    observers.event({"event": "finish"})
    observers.close()
    assert recorder.seen == ["1", "finish"]


def test_mlflow_and_wandb_are_names_that_this_package_brings() -> None:
    assert [entry.name for entry in chosen(["wandb", "mlflow"])] == ["wandb", "mlflow"]


def test_mlflow_has_one_run_for_one_output_over_two_drivers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="mlflow isn't installed: pip install 'tfresume[mlflow]'")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient

    from orchestrator.driver.callbacks.mlflow_runs import EXPERIMENT, MlflowRun

    client = MlflowClient()
    refused = MlflowRun(CONTEXT)
    assert client.get_experiment_by_name(EXPERIMENT) is None, "the command may still be refused"
    del refused
    first = MlflowRun(CONTEXT)
    first.past(0)
    told = [*journals.beginning(), *journals.loss_of_rank_1()]
    for event in told:
        first.event(event)
    first.progress(at(580))
    second = MlflowRun(CONTEXT)  # the first driver died
    second.past(1)
    second.event(journals.event(60, "attempt", 2))
    for event in journals.loss_of_rank_1():
        second.event(event)
    second.progress(at(2000, 0.25))
    second.event(journals.finish(89, 2000, 2))

    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("more", "FINISHED")
    assert run.data.tags["tfresume.source"] == "gs://b/run"
    assert run.data.tags["tfresume.attempt"] == "2"
    assert run.data.params["steps"] == "1500"
    assert run.data.metrics["incidents"] == 2
    curve = client.get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in curve] == [(580, 0.5), (2000, 0.25)]


def test_wandb_writes_a_run_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb isn't installed: pip install 'tfresume[wandb]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    from orchestrator.driver.callbacks.wandb_runs import WandbRun

    refused = WandbRun(CONTEXT)
    refused.close()
    assert not list(tmp_path.rglob("*.wandb")), "the command may still be refused"
    tracked = WandbRun(CONTEXT)
    tracked.past(1)
    for event in journals.loss_of_rank_1():
        tracked.event(event)
    tracked.progress(at(580))
    tracked.event(journals.finish(89, 2000))
    assert tracked._run.summary["incidents"] == 2
    assert tracked._run.id == CONTEXT.ident
    tracked.close()
    (written,) = tmp_path.rglob("*.wandb")
    assert CONTEXT.ident in written.name
    deadline_s = time.monotonic() + 60  # W&B's own process writes it, also after the end was told
    while b"accuracy" not in written.read_bytes():
        assert time.monotonic() < deadline_s
