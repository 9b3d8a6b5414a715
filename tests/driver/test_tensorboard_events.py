"""Does TensorBoard see the run's curves, from files that no object store has to append to?"""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from tensorboard.compat.proto.event_pb2 import Event

from orchestrator.driver import tensorboard_events
from orchestrator.driver.observer import RunProgress
from orchestrator.driver.tensorboard_events import (
    CLOSE_S,
    LONGEST_PART_S,
    SHORTEST_PART_S,
    EventWriter,
    part_s,
)
from orchestrator.store.objects.location import Location, open_location
from tests.fakes.event_files import events_in

SECONDS = 3.0


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def now(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return 1_790_000_000.0 + self.now_s


def progress(step: int, **changes: float) -> RunProgress:
    return RunProgress(
        step=step,
        loss=1.0 / step,
        steps_per_s=20.0,
        checkpoint=None,
        world_size=2,
        until=1000,
        values={"acc:0": 0.5},
        summaries=changes,
    )


def written(output: Location) -> list[Event]:
    return events_in(output.child("_tfresume", "events"))


def run(output: Location, steps: int = 60) -> None:
    clock = Clock()
    writer = EventWriter(output, clock.now, clock.wall)
    writer.event({"event": "attempt", "attempt": 2})
    for step in range(1, steps + 1):
        writer.progress(progress(step, cost=2.0 / step))
        clock.now_s += SECONDS
    writer.close()


@pytest.fixture
def output(tmp_path: Path) -> Location:
    return open_location(str(tmp_path / "more"))


def test_events_of_a_run_hold_every_curve_at_every_step(output: Location) -> None:
    run(output)
    points = [event for event in written(output) if event.summary.value]
    assert [event.step for event in points] == list(range(1, 61))
    assert {value.tag: value.simple_value for value in points[3].summary.value} == {
        "tfresume/steps_per_s": 20.0,
        "tfresume/world_size": 2.0,
        "tfresume/loss": 0.25,
        "tfresume/watch/acc:0": 0.5,
        "cost": 0.5,
    }
    assert points[1].wall_time - points[0].wall_time == pytest.approx(SECONDS)


def test_summaries_get_a_point_only_when_there_is_a_new_value(output: Location) -> None:
    clock = Clock()
    writer = EventWriter(output, clock.now, clock.wall)
    for step, cost in ((100, 0.5), (150, 0.5), (200, 0.4), (250, 0.4)):
        writer.progress(progress(step, cost=cost))
        clock.now_s += SECONDS
    writer.close()
    points = [
        (event.step, value.simple_value)
        for event in written(output)
        for value in event.summary.value
        if value.tag == "cost"
    ]
    assert points == [(100, 0.5), (200, pytest.approx(0.4))]


def test_events_come_in_parts_that_are_each_a_whole_file_named_by_attempt_and_order(
    output: Location,
) -> None:
    run(output)
    names = [file.name for file in output.child("_tfresume", "events").list()]
    assert len(names) > 3
    assert [name.rpartition(".")[2] for name in names] == [
        f"a0002-{part:06d}" for part in range(len(names))
    ]
    versions = [event for event in written(output) if event.file_version]
    assert len(versions) == len(names)


@pytest.mark.parametrize(("began_s", "each_s"), [(100.0, 10.0), (50_000.0, 10.0)])
def test_part_ends_with_the_point_that_makes_it_long_enough(
    output: Location, began_s: float, each_s: float
) -> None:
    clock = Clock()
    clock.now_s = began_s
    writer = EventWriter(output, clock.now, clock.wall)
    for step in range(1, 7):
        writer.progress(progress(step))
        clock.now_s += each_s
    writer.close()
    events = written(output)
    begins = [number for number, event in enumerate(events) if event.file_version]
    assert begins == [0, 4, 7], "of three points, of two, and the one that is left"
    files = output.child("_tfresume", "events").list()
    for number, file in zip(begins, files, strict=True):
        first = events[number + 1]
        assert events[number].file_version == "brain.Event:2"
        assert events[number].wall_time == first.wall_time
        assert f".tfevents.{int(first.wall_time):010d}." in file.name


def test_last_part_is_waited_for_a_while_and_keeps_no_process_alive(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []

    def thread(**how: object) -> object:
        told.append((how["name"], how["daemon"]))
        return SimpleNamespace(start=lambda: told.append("start"), join=told.append)

    monkeypatch.setattr(tensorboard_events, "threading", SimpleNamespace(Thread=thread))
    run(output, steps=20)
    assert told == [("tfresume-events", True), "start", CLOSE_S]


def test_events_come_at_most_once_a_second_and_the_last_step_always(output: Location) -> None:
    clock = Clock()
    writer = EventWriter(output, clock.now, clock.wall)
    for step in (1, 2, 2, 3, 1000):
        writer.progress(progress(step))
        clock.now_s += 0.2
    writer.close()
    assert [event.step for event in written(output) if event.summary.value] == [1, 1000]
    later = EventWriter(output.child("later"), clock.now, clock.wall)
    for step in (1, 2, 3):
        later.progress(progress(step))
        clock.now_s += 0.5
    later.close()
    assert [event.step for event in written(output.child("later")) if event.step] == [1, 3]


def test_events_of_a_run_without_progress_write_nothing(output: Location) -> None:
    writer = EventWriter(output)
    writer.event({"event": "attempt", "attempt": 1})
    writer.close()
    assert not output.child("_tfresume").exists()


@pytest.mark.parametrize(
    ("elapsed_s", "expected_s"),
    [(0, SHORTEST_PART_S), (1000, 100), (7 * 86400, LONGEST_PART_S)],
    ids=["begin", "later", "a week"],
)
def test_part_grows_with_the_run_within_bounds(elapsed_s: float, expected_s: float) -> None:
    assert part_s(elapsed_s) == expected_s


def test_events_that_a_store_refuses_cost_points_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "more").write_text("a file where the directory should be")
    with caplog.at_level("WARNING", "tfresume"):
        run(open_location(str(tmp_path / "more")), steps=3)
    (message,) = caplog.messages
    assert re.fullmatch(r"TensorBoard events of \d+ bytes aren't written: .*directory.*", message)


@pytest.mark.tf
def test_tensorboards_own_reader_sees_one_unbroken_curve(output: Location) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(output)
    reader = EventAccumulator(output.child("_tfresume", "events").path)
    reader.Reload()
    assert [point.step for point in reader.Scalars("cost")] == list(range(1, 61))
