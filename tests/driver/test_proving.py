"""Is a group's first step tried once, before anything is placed, and can nothing that goes wrong
with the trial end a run?
"""

from __future__ import annotations

import logging
import pickle
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.config import RunConfig, parse_config
from orchestrator.driver import proving
from orchestrator.driver.beginning import Ready
from orchestrator.driver.proof import Proof, unproved
from orchestrator.driver.proving import Proving, prove, task_of, why_not
from orchestrator.driver.slots import Slots, as_recorded
from orchestrator.driver.startup import Plan, StartPoint
from orchestrator.errors import ConfigError, GraphRefused, SourceError
from orchestrator.graph.worker_graph import InputPort, WorkerGraph
from orchestrator.store.run.run_record import RunRecord
from tests.driver.seed_sources import write_seed
from tests.driver.test_proof_words import seam

WITHIN_S = 20.0
"""It takes milliseconds; what never comes is waited for so long."""
FED = WorkerGraph(b"", b"", (), (InputPort("x:0", "x:0", "float32", None),), ())
PIPED = replace(FED, inputs=(*FED.inputs, InputPort("i:0", "i:0", "float32", None, pull="n:0")))
EQUAL = {"how": "joint", "reason": "", "seams": [], "variables": [], "means": 0} | {
    "apart": [],
    "slots": 2,
    "compared": [1, 1],
}
DIFFERS = EQUAL | {"variables": [["w", 0.5]]}


def config(**settings: Any) -> RunConfig:
    return parse_config({"source": "s", "workers": 2, **settings})


def record(**values: Any) -> RunRecord:
    known = {"source": "s", "fingerprint": "f", "name": "m", "started_step": 0, **values}
    return RunRecord.model_validate(known)


SOURCE: Any = SimpleNamespace(files=["a file"], meta=SimpleNamespace(shown="gs://b/m.meta"))


def start_of() -> StartPoint:
    return StartPoint(SOURCE, "f", "m", 3, 3, 9, None, (0, 0), ())


PLAN = Plan(FED, 3, None, ())


class Trials:
    """Stands for the processes that try it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.found: dict[str, Any] = EQUAL
        self.fails: Exception | None = None
        self.tasks: list[dict[str, Any]] = []
        self.where: list[str] = []
        self.thread = threading.main_thread()
        self.child: Any = SimpleNamespace(kill=lambda: self.where.append("killed"))
        self.entered, self.gate = threading.Event(), threading.Event()
        self.gate.set()
        patch.setattr(proving, "ask", self.ask)
        patch.setattr(proving, "asked_of_ray", self.asked_of_ray)

    def ask(self, task: bytes, begun: Any) -> dict[str, Any]:
        self.where.append("here")
        self.thread = threading.current_thread()
        self.entered.set()
        self.gate.wait(WITHIN_S)
        begun(self.child)
        return self._tried(pickle.loads(task))

    def asked_of_ray(self, task: dict[str, Any], config: RunConfig) -> dict[str, Any]:
        self.where.append(f"at {config.address}")
        return self._tried(task)

    def _tried(self, task: dict[str, Any]) -> dict[str, Any]:
        self.tasks.append(task)
        if self.fails is not None:
            raise self.fails
        return self.found


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> Trials:
    return Trials(monkeypatch)


AGREE = (
    "proved: 2 batches give what one process with all their rows gives: 1 seam and 1 variable agree"
)


def test_trial_here_goes_on_while_other_things_are_done(
    trials: Trials, caplog: pytest.LogCaptureFixture
) -> None:
    asked = config()
    with caplog.at_level(logging.INFO, "tfresume"):
        trial = Proving(asked, start_of(), PLAN, 2, None)
        assert trials.entered.wait(WITHIN_S)
        assert trial.result() == Proof("equal", AGREE)
    assert caplog.messages == []
    (task,) = trials.tasks
    expected = task_of(asked.model_copy(update={"gradient_scale": "auto"}), start_of(), PLAN, 2)
    assert (task["options"], task["files"], task["step"]) == (
        expected["options"],
        ("a file",),
        3,
    )
    assert trials.where == ["here"]
    # It keeps no process alive, and says in a dump what it is
    assert (trials.thread.daemon, trials.thread.name) == (True, "tfresume-proof")


def test_trial_on_a_cluster_begins_when_ray_can_be_used_and_is_spoken_of(
    trials: Trials, caplog: pytest.LogCaptureFixture
) -> None:
    trials.found = EQUAL | {"slots": 2}
    with caplog.at_level(logging.INFO, "tfresume"):
        trial = Proving(config(address="head:6379"), start_of(), PLAN, 4, None)
        assert trials.where == []
        found = trial.result()
    assert found.told.startswith("proved: 2 of a step's 4 batches give")
    assert trials.where == ["at head:6379"]
    assert caplog.messages == [
        "trying on the first batches whether a group computes what one process would "
        "(once for a run; --no-prove skips it)"
    ]


def test_trial_is_of_the_arithmetic_that_the_run_has_since_its_first_start(trials: Trials) -> None:
    known = record(batches_per_step=2, gradient_scale="sum", weight_by="m:0")
    trials.found = EQUAL | {"seams": [seam("mean", summed=True)]}
    trial = Proving(config(address="head:6379"), start_of(), PLAN, 2, known)
    assert trial.result().remedies[0] == "--gradient-scale mean takes their mean"
    (task,) = trials.tasks
    assert task["options"].gradient_scale == "sum"
    assert task["config"].weight_by == "m:0"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SourceError("s3://AKIA1:geheim123@b is gone"), "is gone"),
        (ValueError("no batch\nat line 3"), "ValueError: no batch"),
    ],
)
def test_trial_that_fails_proves_nothing_and_says_why_without_secrets(
    trials: Trials, error: Exception, reason: str
) -> None:
    trials.fails = error
    found = Proving(config(address="head:6379"), start_of(), PLAN, 2, None).result()
    assert found.verdict == "unproved"
    assert reason in found.told
    assert "geheim123" not in found.told
    assert "\n" not in found.told


def test_graph_that_cannot_be_tried_is_not_tried(
    trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    piped = replace(PLAN, graph=PIPED)
    found = Proving(config(address="a"), start_of(), piped, 2, None).result()
    assert found == unproved(why_not(PIPED))
    given: list[Any] = []

    def moves(*asked: Any) -> tuple[Plan, str]:
        given.extend(asked)
        return PLAN, "Multinomial"

    monkeypatch.setattr(proving, "held_still", moves)
    found = Proving(config(address="a"), start_of(), PLAN, 2, None).result()
    assert given == [as_recorded(config(address="a"), None), start_of(), PLAN]
    assert found == unproved("the random operation Multinomial can't be held still")
    assert trials.tasks == []


@pytest.mark.parametrize("is_begun", [False, True])
def test_trial_that_nobody_waits_for_any_more_is_ended_whenever_it_begins(
    trials: Trials, is_begun: bool
) -> None:
    if not is_begun:
        trials.gate.clear()
    trial = Proving(config(), start_of(), PLAN, 2, None)
    assert trials.entered.wait(WITHIN_S)
    if is_begun:
        trial.result()
    trial.close()
    trials.gate.set()
    trial.result()
    assert trials.where == ["here", "killed"]


def test_trial_without_a_word_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Proving, "_try", lambda _: None)
    ended = unproved("the process that tried it was ended")
    for asked in (config(), config(address="a")):
        assert Proving(asked, start_of(), PLAN, 2, None).result() == ended


# -- beside a start


def ready(slots: Slots) -> Ready:
    policy: Any = None
    return Ready(start_of(), PLAN, policy, slots)


@pytest.mark.parametrize(
    ("slots", "tried"), [(Slots(2, 2, 2), 2), (Slots(None, 3, 8), 3), (Slots(1, 1, 1), 0)]
)
def test_start_with_several_batches_in_a_step_is_tried(
    trials: Trials, slots: Slots, tried: int
) -> None:
    with proving.proving(config(address="a"), ready(slots), None) as wait:
        found = wait()
    assert [task["options"].batches_per_step for task in trials.tasks] == [tried] * bool(tried)
    assert (found is None) is (tried == 0)
    with proving.proving(config(address="a", prove=False), ready(slots), None) as wait:
        assert wait() is None
    same = record(batches_per_step=slots.count or slots.first, gradient_scale="auto")
    with proving.proving(config(address="a"), ready(slots), same) as wait:
        assert wait() is None


def test_group_that_computes_something_else_is_refused_unless_that_is_accepted(
    trials: Trials,
) -> None:
    trials.found = DIFFERS
    with (
        proving.proving(config(address="a"), ready(Slots(2, 2, 2)), None) as wait,
        pytest.raises(GraphRefused, match=r"gs://b/m\.meta isn't trained by a group: 2 batches"),
    ):
        wait()
    accepting = config(address="a", accept_differences=True)
    with proving.proving(accepting, ready(Slots(2, 2, 2)), None) as wait:
        found = wait()
    assert found is not None
    assert found.verdict == "differs"


def test_start_that_is_refused_meanwhile_ends_its_trial(trials: Trials) -> None:
    trial = proving.proving(config(), ready(Slots(2, 2, 2)), None)
    trial.__enter__()()
    refusal = ConfigError("no room")
    assert not trial.__exit__(ConfigError, refusal, None)
    assert trials.where == ["here", "killed"]


# -- asked for by itself


Planned = list[tuple[RunConfig, StartPoint]]


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> Planned:
    """What is to be planned, in place of a plan of some 40 ms."""
    found: Planned = []

    def plan(asked: RunConfig, start: StartPoint) -> Plan:
        found.append((asked, start))
        return PLAN

    monkeypatch.setattr(proving, "make_plan", plan)
    return found


@pytest.mark.parametrize("address", [None, "head:6379"])
def test_proof_is_given_without_an_output_or_an_end(
    trials: Trials,
    planned: Planned,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    address: str | None,
) -> None:
    class Link:
        def __init__(self, asked: RunConfig) -> None:
            trials.where.append(f"connects with {asked.address}")

        def wait(self) -> None:
            trials.where.append("is connected")

        def close(self) -> None:
            trials.where.append("is disconnected")

    monkeypatch.setattr(proving, "RayLink", Link)
    exchange = "host" if address is None else "nccl"
    source = str(write_seed(tmp_path))
    found = prove(config(source=source, address=address, steps=5, exchange=exchange))
    assert found is not None
    assert found.told == AGREE
    ((asked, start),) = planned
    assert (start.step, start.own_label, start.source.url) == (3, None, source)
    task = trials.tasks[0]
    assert task["config"] == asked
    assert task["files"] == tuple(start.source.files)
    assert (asked.steps, asked.until_step, asked.gradient_scale) == (None, 0, "auto")
    place = Path(asked.output)
    assert place.is_absolute()
    assert not place.parent.exists()
    assert trials.where == (
        ["here", "killed"]
        if address is None
        else ["connects with head:6379", "is connected", "at head:6379", "is disconnected"]
    )


@pytest.mark.usefixtures("planned")
def test_proof_of_one_batch_in_a_step_is_none(trials: Trials, tmp_path: Path) -> None:
    assert prove(config(source=str(write_seed(tmp_path)), workers=1)) is None
    assert trials.where == []
