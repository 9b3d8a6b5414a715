"""Is a step's time told by part and rank, from what the workers have counted?"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from launch.runs.history import history
from launch.runs.slowness import why_slow
from launch.runs.status_model import Driver, LeaseHolder, run_status
from launch.text.status_text import step_time_line
from orchestrator.decide.events import Doing, Progress
from orchestrator.driver.measurements import of_event
from orchestrator.driver.step_times import EVERY_S, FIRST_S, StepTimes
from tests.launch import journals

EVERYBODY = ("w1", "w2")


def pulse(worker: str, steps: int, generation: int = 1, **spent: float) -> Progress:
    return Progress(worker, generation, steps, Doing.STEP, steps_taken=steps, spent=spent)


def test_step_times_are_the_differences_over_the_steps_between_two_tellings() -> None:
    times = StepTimes()
    times.take(pulse("w1", 10, input=1.0, compute=5.0, exchange=1.0), 100.0, EVERYBODY)
    times.take(pulse("w2", 10, input=0.0, compute=5.0, exchange=2.0), 100.0, EVERYBODY)
    assert not times.is_due(100.0)
    times.take(pulse("w1", 20, input=2.0, compute=8.0, exchange=1.5), 105.0, EVERYBODY)
    times.take(pulse("w2", 20, input=0.0, compute=8.0, exchange=3.5), 105.0, EVERYBODY)
    assert times.is_due(100.0 + FIRST_S)
    told = times.told(("w1", "w2"), 20, 105.0)
    assert told is not None
    assert told.ranks["0"] == {
        "input": 0.1,
        "compute": 0.3,
        "exchange": 0.05,
        "other": 0.05,
        "all": 0.5,
    }
    assert told.ranks["1"]["exchange"] == 0.15
    assert not times.is_due(105.0 + EVERY_S - 1)
    assert times.told(("w1", "w2"), 20, 136.0) is None, "nobody has taken a step since"


def test_recovery_between_two_generations_is_nobodys_step() -> None:
    times = StepTimes()
    times.take(pulse("w1", 10, compute=5.0), 100.0, EVERYBODY)
    times.take(pulse("w1", 11, generation=2, compute=5.5), 160.0, EVERYBODY)
    times.take(pulse("w1", 12, compute=9.0), 160.5, EVERYBODY)  # of the generation before, and late
    times.take(pulse("w1", 13, generation=2, compute=6.5), 161.0, EVERYBODY)
    told = times.told(("w1",), 13, 161.0)
    assert told is not None
    assert told.ranks["0"]["all"] == 0.5


def test_recovery_before_the_first_and_after_the_last_step_of_a_generation_is_nobodys_step() -> (
    None
):
    times = StepTimes()
    times.take(pulse("w1", 10, compute=5.0), 100.0, EVERYBODY)
    times.take(pulse("w1", 12, compute=6.0), 101.0, EVERYBODY)
    times.take(
        pulse("w1", 12, compute=6.0), 160.0, EVERYBODY
    )  # a peer is gone, and nobody takes its rank yet
    told = times.told(("w1", "w2"), 12, 160.0)
    assert told is not None
    assert told.ranks == {"0": {"compute": 0.5, "other": 0.0, "all": 0.5}}
    times.take(pulse("w1", 12, generation=2, compute=6.0), 170.0, EVERYBODY)  # and now it joins
    times.take(pulse("w1", 13, generation=2, compute=6.5), 200.0, EVERYBODY)
    times.take(pulse("w2", 1, generation=2, compute=0.5), 200.0, EVERYBODY)
    times.take(pulse("w1", 15, generation=2, compute=7.5), 201.0, EVERYBODY)
    times.take(pulse("w2", 3, generation=2, compute=1.5), 201.0, EVERYBODY)
    told = times.told(("w1", "w2"), 15, 201.0)
    assert told is not None
    assert {rank: parts["all"] for rank, parts in told.ranks.items()} == {"0": 0.5, "1": 0.5}


def test_step_times_of_a_worker_that_stays_go_on_and_of_one_that_is_gone_are_forgotten() -> None:
    times = StepTimes()
    times.take(pulse("w1", 10, compute=5.0), 100.0, EVERYBODY)
    times.take(pulse("w2", 10, compute=5.0), 100.0, EVERYBODY)
    times.take(pulse("w1", 10, generation=2, compute=5.0), 160.0, ("w1",))
    assert times._taken == {"w1": 10}
    times.take(pulse("w1", 11, generation=2, compute=5.5), 170.0, ("w1",))
    times.take(pulse("w1", 12, generation=2, compute=6.0), 170.5, ("w1",))
    told = times.told(("w1",), 12, 171.0)
    assert told is not None
    assert told.ranks["0"]["all"] == 0.5, "its last word before the step is no step's beginning"


@pytest.mark.parametrize(("ranks", "every_s"), [(1, EVERY_S), (64, EVERY_S), (128, 2 * EVERY_S)])
def test_step_times_of_more_ranks_are_told_less_often(ranks: int, every_s: float) -> None:
    times = StepTimes()
    workers = tuple(f"w{number}" for number in range(ranks))
    for step, at_s in ((10, 100.0), (20, 105.0)):
        for worker in workers:
            times.take(pulse(worker, step, generation=3, compute=float(step)), at_s, workers)
    told = times.told(workers, 20, 105.0)
    assert told is not None
    assert (told.generation, len(told.ranks)) == (3, ranks)
    assert not times.is_due(105.0 + every_s - 0.5)
    assert times.is_due(105.0 + every_s)


def test_step_time_of_a_part_that_is_new_counts_from_nothing_in_microseconds() -> None:
    times = StepTimes()
    times.take(pulse("w1", 1), 100.0, EVERYBODY)
    times.take(pulse("w1", 4, save=1.0), 101.0, EVERYBODY)
    told = times.told(("w1",), 4, 101.0)
    assert told is not None
    assert told.ranks["0"] == {"save": 0.333333, "other": 0.0, "all": 0.333333}


def of(**parts: float) -> Mapping[str, float]:
    return {**parts, "all": sum(parts.values())}


@pytest.mark.parametrize(
    ("ranks", "said"),
    [
        pytest.param({}, "", id="nothing known"),
        pytest.param({"0": of(input=0.4, compute=0.1)}, "the input function", id="input"),
        pytest.param({"0": of(input=0.1, compute=0.4)}, "computing", id="compute"),
        pytest.param(
            {"0": of(compute=0.1, exchange=0.3), "1": of(compute=0.1, exchange=0.29)},
            "the exchange",
            id="exchange",
        ),
        pytest.param({"0": of(compute=0.1, save=0.3)}, "saving", id="save"),
        pytest.param(
            {
                "0": of(input=0.01, compute=0.1, exchange=0.3),
                "1": of(input=0.3, compute=0.1, exchange=0.01),
                "2": of(input=0.01, compute=0.1, exchange=0.3),
            },
            "the others wait for rank 1, whose input takes 290 ms a step longer",
            id="one rank's input",
        ),
        pytest.param(
            {"0": of(compute=0.1, exchange=0.2), "1": of(compute=0.3)},
            "rank 1, whose compute takes 200 ms",
            id="one slow node",
        ),
    ],
)
def test_reason_of_a_slow_step_is_named_with_what_to_do(
    ranks: Mapping[str, Mapping[str, float]], said: str
) -> None:
    assert said in why_slow(ranks)
    assert bool(why_slow(ranks)) == bool(ranks)


def test_step_times_reach_status_and_metrics() -> None:
    ranks = {"0": of(input=0.01, compute=0.03), "1": of(input=0.01, compute=0.03)}
    timed = journals.event(12, "step_times", generation=1, step=600, ranks=ranks)
    events = [*journals.beginning(), journals.progress(10, 600), timed]
    seen = history(events)
    found = run_status(
        "o", seen, Driver.ALIVE, LeaseHolder(1, "ann"), {}, None, now=journals.EPOCH + 20
    )
    assert found.step_times == ranks
    assert "computing" in found.why_slow
    assert step_time_line(found.step_times) == "40 ms: input 25.0 %, compute 75.0 %"
    measured = {
        (item.labels["rank"], item.labels["part"]): item.value
        for item in of_event(seen.moments[-1].event)
    }
    assert measured["1", "compute"] == 0.03
    damaged = history([timed | {"ranks": {"0": "half", "1": {"all": "x", "save": 1}}}])
    assert damaged.step_times == {"1": {"save": 1.0}}
