"""Does the loop carry out, write down and show what it is told, by the clock?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide import machine
from orchestrator.decide.doing import Doing
from orchestrator.decide.phases import Phase
from orchestrator.decide.roster import Roster, Stage, Worker
from orchestrator.driver.inbox import Interrupted, Remark, Restorable
from orchestrator.driver.loop import MOST_INCIDENTS, TICK_S, Loop
from orchestrator.driver.observer import RunProgress
from orchestrator.journal.group_events import TrainingBegan
from orchestrator.journal.run_events import IncidentOver, RunEnded, StepsTimed
from orchestrator.journal.save_events import SaveCommitted
from orchestrator.journal.worker_events import CheckpointStaged
from orchestrator.workers.orders import CheckpointFiles
from orchestrator.workers.scheduling import Threads

BEGAN_S, UNIX_S = 100.0, 1_700_000_000.0
START = CheckpointFiles(0, 0, "start", ())
LATER = CheckpointFiles(6, 12, "later", ())
COMMITTED = SaveCommitted(
    step=5, generation=2, checkpoint="a/m-5", size_bytes=1, stall_s=0.1, commit_s=0.1
)
INCIDENT = IncidentOver(
    kind="worker",
    rank=1,
    node="n",
    worker="w2",
    detected_s=1.0,
    recovered_s=2.0,
    steps_redone=0,
    action="regroup",
    reason="it died",
    generation=2,
    step=7,
    world_size_before=2,
    world_size=2,
)
ENDED = RunEnded(outcome="done", reason="", step=7, checkpoint_step=5)


class Clocks(Threads):
    now_s = BEGAN_S

    def monotonic(self) -> float:
        return self.now_s

    def unix(self) -> float:
        return UNIX_S + self.now_s


@dataclass
class Bench:
    """A loop whose rules do what a test says, and all that it did, in its order."""

    clocks: Clocks = field(default_factory=Clocks)
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    waited_s: list[float] = field(default_factory=list)
    coming: list[tuple[float, Any]] = field(default_factory=list)
    answers: dict[str, tuple[act.Action, ...]] = field(default_factory=dict)
    saving: Any = field(default_factory=lambda: SimpleNamespace(save_steps=5, save_every_s=None))
    loop: Any = None

    def __post_init__(self) -> None:
        self.run: Any = SimpleNamespace(
            phase=Phase.TRAINING,
            seats=("w1", "w2"),
            generation=2,
            step=7,
            leap=3,
            world_size=2,
            policy=SimpleNamespace(until=10, saving=self.saving),
            saves=SimpleNamespace(last_s=BEGAN_S),
            workers=Roster(Worker(who, Stage.STARTING, 0.0, 0.0, node="n") for who in ("w1", "w2")),
        )
        parts: Any = self
        run: Any = self.run
        self.loop = Loop(run, parts, parts, parts, parts, 3, START, self.clocks)

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Every method of the fleet, the storage thread and the observer."""
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *values: self.calls.append((name, *values))

    def get(self, timeout_s: float) -> Any:
        self.waited_s.append(timeout_s)
        if not self.coming:
            return Interrupted()
        after_s, message = self.coming.pop(0)
        self.clocks.now_s += after_s
        return message

    def advance(self, run: Any, message: Any, now_s: float) -> tuple[Any, tuple[act.Action, ...]]:
        self.calls.append(("advance", message, now_s))
        return run, self.answers.get(type(message).__name__, ())

    def play(self, *coming: tuple[float, Any]) -> list[tuple[Any, ...]]:
        """What was done with these messages, each so much later than the one before it."""
        self.coming, self.calls, self.waited_s = list(coming), [], []
        with pytest.raises(Interrupted):
            self.loop.play(())
        return self.calls

    def named(self, word: str) -> list[Mapping[str, Any]]:
        """The events that were shown."""
        return [call[1] for call in self.calls if call[0] == "event" and call[1]["event"] == word]

    def shown(self) -> list[RunProgress]:
        return [call[1] for call in self.calls if call[0] == "progress"]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench()
    monkeypatch.setattr(machine, "advance", made.advance)
    return made


def pulse(step: int = 7, worker: str = "w1", generation: int = 2, **fields: Any) -> ev.Progress:
    return ev.Progress(worker, generation, step, fields.pop("doing", Doing.STEP), **fields)


def test_loop_stamps_what_it_writes_down_and_shows_the_same(bench: Bench) -> None:
    bench.play((12.34567, Remark(COMMITTED)))
    noted, shown = (call[1] for call in bench.calls if call[0] in ("note", "event"))
    assert (noted.at, noted.attempt, noted.t_s) == (UNIX_S + 112.346, 3, 12.346)
    assert noted.record() == shown
    assert shown["checkpoint"] == bench.loop.checkpoint_label == "a/m-5"
    assert not [call for call in bench.calls if call[0] == "advance" and call[1] != ev.Tick()]


def test_loop_keeps_the_newest_incidents_for_the_result(bench: Bench) -> None:
    assert bench.loop.checkpoint_label is None
    bench.play(*((0.0, Remark(INCIDENT)) for _ in range(MOST_INCIDENTS + 1)))
    assert len(bench.loop.incidents) == MOST_INCIDENTS
    assert bench.loop.incidents[-1]["worker"] == "w2"


def test_rules_look_at_the_clock_as_often_as_they_shall_however_much_comes(bench: Bench) -> None:
    bench.play((0.0, None), (TICK_S, None), (0.125, pulse()), (0.125, pulse()), (9.0, pulse()))
    ticks = [call[2] - BEGAN_S for call in bench.calls if call[:2] == ("advance", ev.Tick())]
    assert ticks == [0.0, 0.25, 0.5, 9.5]
    assert bench.waited_s[1:] == [TICK_S, TICK_S, TICK_S - 0.125, TICK_S, TICK_S]


def test_loop_ends_with_what_the_rules_call_the_end(bench: Bench) -> None:
    end = act.Finish(act.Outcome.DONE, "", 7)
    bench.answers["Tick"] = (end,)
    bench.coming = [(0.0, None)]
    assert bench.loop.play(()) is end


def test_loop_hands_each_action_to_whoever_does_it(bench: Bench) -> None:
    grant = act.Grant(2, ("w1",), 9, (), "w1", 0, None, None)
    form = act.Form(3, (), None, 6, 12)
    fleet: dict[str, act.Action] = {
        "start": act.StartWorker("w3"),
        "end": act.EndWorker("w2", "died"),
        "await_end": act.AwaitEnd("w2"),
        "quiesce": act.Quiesce(2, ("w1",), urgent=True),
        "break_step": act.BreakStep("w1", 2),
    }
    written = ev.SaveWritten("w1", 2, 7, 14, "a0003-g0002", "m-7", (), {})
    find = act.FindCheckpoint("nobody has it", {"m-5": "bad"})
    actions = (*fleet.values(), grant, form, act.Commit(written), find, act.Note(ENDED))
    bench.answers["Tick"] = actions
    calls = [call for call in bench.play((0.0, Restorable(LATER))) if call[0] != "advance"]
    assert calls[:-2] == [
        *fleet.items(),
        ("grant", grant, "a0003-g0002"),
        ("take_over", 3, 6),
        ("form", form, LATER),
        ("commit", written, 2),
        ("find", "nobody has it", {"m-5": "bad"}),
    ]
    assert [call[0] for call in calls[-2:]] == ["note", "event"]


def test_loop_forms_the_first_group_with_the_files_that_it_was_given(bench: Bench) -> None:
    form = act.Form(1, (), None, 0, 0)
    bench.answers["Tick"] = (form,)
    assert ("form", form, START) in bench.play((0.0, None))


def test_wait_for_a_checkpoint_is_written_down_at_its_end(bench: Bench) -> None:
    bench.play((0.0, pulse(doing=Doing.STAGING)), (3.5, pulse(doing=Doing.JOINING)))
    (told,) = bench.named(CheckpointStaged.WORD)
    assert (told["worker"], told["seconds"]) == ("w1", 3.5)


def stepping(taken: int, step: int = 7) -> ev.Progress:
    return pulse(step, steps_taken=taken, spent={"compute": 2.0 * taken})


def test_times_of_steps_are_told_now_and_then_and_at_the_end(bench: Bench) -> None:
    bench.play((0.0, stepping(1)), (4.0, stepping(2)), (2.0, stepping(3)), (1.0, stepping(4)))
    (told,) = bench.named(StepsTimed.WORD)
    assert (told["step"], told["t_s"]) == (7, 6.0)
    assert told["ranks"] == {"0": {"compute": 2.0, "other": 1.0, "all": 3.0}}
    bench.play((1.0, Remark(ENDED)))
    words = [call[1]["event"] for call in bench.calls if call[0] == "event"]
    assert words[:2] == [StepsTimed.WORD, RunEnded.WORD]
    bench.play((31.0, pulse(6)))
    assert not bench.named(StepsTimed.WORD), "nobody has taken one since"
    bench.play((1.0, stepping(5)))
    assert len(bench.named(StepsTimed.WORD)) == 1


def test_progress_is_that_of_rank_0_in_the_present_generation_while_it_trains(
    bench: Bench,
) -> None:
    others = [pulse(worker="w2"), pulse(generation=1)]
    bench.play(*((1.0, other) for other in others))
    bench.run.phase = Phase.FORMING
    bench.play((1.0, pulse()))
    assert not bench.shown()
    assert not bench.named("progress")
    bench.play((1.0, Remark(ENDED)))
    assert not bench.named("progress"), "there was none"


def test_progress_tells_what_the_run_is_at(bench: Bench) -> None:
    told = pulse(steps_per_s=1.23456, values={"loss": 0.5, "auc": 0.7}, summaries={"lr": 0.1})
    bench.play((1.0, Remark(COMMITTED)), (1.0, told))
    assert bench.shown() == [
        RunProgress(7, 0.5, 3 * 1.23456, "a/m-5", 2, 10, 2, told.values, told.summaries)
    ]
    (written,) = bench.named("progress")
    assert {name: written[name] for name in written if name not in ("at", "t_s", "attempt")} == {
        "event": "progress",
        "generation": 2,
        "step": 7,
        "loss": 0.5,
        "steps_per_s": 3.704,
        "values": {"loss": 0.5, "auc": 0.7},
        "world_size": 2,
        "until": 10,
        "next_save_step": 10,
        "next_save_s": None,
    }


def test_progress_is_shown_a_few_times_a_second_and_always_at_the_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.driver.loop.SHOW_S", 0.25)  # a clock can be set to the half
    bench.play((0.0, pulse()), (0.125, pulse()), (0.125, pulse()))
    assert len(bench.shown()) == 2
    assert bench.shown()[0].loss is None
    bench.run.step = 10
    bench.play((0.0, pulse()), (0.0, pulse()))
    assert [item.step for item in bench.shown()] == [10, 10]


@pytest.mark.parametrize(
    ("saving", "step", "next_step", "next_s"),
    [
        ((5, None), 7, 10, None),
        ((5, None), 10, 15, None),
        ((None, 60.0), 7, None, 57.7),
        ((None, 2.0), 7, None, 0.0),
    ],
)
def test_progress_says_when_the_next_save_is_due(
    bench: Bench, saving: tuple[Any, Any], step: int, next_step: int | None, next_s: float | None
) -> None:
    bench.saving.save_steps, bench.saving.save_every_s = saving
    bench.run.step = step
    bench.play((2.34, pulse()))
    (written,) = bench.named("progress")
    assert (written["next_save_step"], written["next_save_s"]) == (next_step, next_s)


@pytest.mark.parametrize(
    "event",
    [INCIDENT, TrainingBegan(generation=3, step=7, world_size=2)],
    ids=["incident", "began"],
)
def test_progress_is_written_down_at_its_pace_and_sooner_after_what_matters(
    bench: Bench, event: Any
) -> None:
    bench.play((0.0, pulse()), (600.0, pulse()), (1.0, pulse()), (3.0, pulse()))
    assert [told["t_s"] for told in bench.named("progress")] == [0.0, 600.0]
    bench.play((0.5, Remark(event)), (0.0, pulse()))
    assert [told["t_s"] for told in bench.named("progress")] == [604.5]
    bench.play((1.0, pulse()), (0.0, Remark(ENDED)))
    assert [told["t_s"] for told in bench.named("progress")] == [605.5], "the last word"
