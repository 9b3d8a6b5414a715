"""Does a variable that jumped stand out, and only such a one?"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide.outliers import ABSURD, Size, outliers
from orchestrator.decide.phases import Phase
from tests.decide.situation import Driver


def weight(rms: float, largest: float | None = None, **more: bool) -> Size:
    return Size(rms, rms if largest is None else largest, **more)


def slot(rms: float, **more: bool) -> Size:
    return Size(rms, rms, trained=False, **more)


@pytest.mark.parametrize(
    ("before", "now", "jumped"),
    [
        (weight(0.5), weight(0.6), False),
        (weight(0.5), weight(501.0), True),
        (weight(0.5), weight(499.0), False),
        # one row of many
        (weight(0.1, 0.4), weight(1.0, 900.0), True),
        (weight(1e-6), weight(9.0), False),
        (weight(1e-6), weight(11.0), True),
        # as its initialiser left it: a bias, a scale, an accumulator
        (weight(0.0, uniform=True), weight(2e5), False),
        (weight(1.0, uniform=True), weight(2e5), False),
        (slot(0.1, uniform=True), slot(1e9), False),
        (slot(0.0, uniform=True), slot(1e9), False),
        # what holds squares may grow by the square
        (slot(1.0), slot(9e5), False),
        (slot(1.0), slot(1.1e6), True),
        (slot(1e-12), slot(90.0), False),
        # single numbers
        (slot(1.0, single=True, uniform=True), slot(1e6, single=True, uniform=True), False),
        (slot(1.0, single=True), slot(1e38, single=True), False),
        (weight(0.0, single=True, uniform=True), weight(1e6, single=True, uniform=True), False),
        (weight(1.0, single=True, uniform=True), weight(1e6, single=True, uniform=True), True),
        # finite and absurd, from whatever
        (slot(0.0, uniform=True), slot(1e38), True),
        (weight(0.0, uniform=True), weight(1e38), True),
        (slot(2e30), slot(1e36), False),
        # shrinking, and what isn't finite, is another gate's
        (weight(1e6), weight(1e-6), False),
        (weight(math.inf), weight(1.0), False),
    ],
)
def test_growth_is_judged(before: Size, now: Size, jumped: bool) -> None:
    assert bool(outliers({"v": now}, {"v": before}, 1000.0)) is jumped


def test_variables_that_one_side_lacks_are_not_judged_and_the_worst_comes_first() -> None:
    before = {"a": weight(1.0), "b": weight(1.0), "gone": weight(1.0)}
    now = {"a": weight(2e3), "b": weight(5e3), "new": weight(1e9)}
    assert [item.name for item in outliers(now, before, 1000.0)] == ["b", "a"]


@given(st.floats(0, 1e12), st.floats(0, 1e12), st.booleans(), st.booleans())
def test_nothing_jumps_within_the_factor(
    rms: float, growth: float, trained: bool, single: bool
) -> None:
    factor = 1000.0
    now = rms * min(growth, factor)
    before_size, now_size = Size(rms, rms, trained, single), Size(now, now, trained, single)
    assert not outliers({"v": now_size}, {"v": before_size}, factor)


def saved(
    driver: Driver, rms: float, measured: float | None = None, nonfinite: tuple[str, ...] = ()
) -> int:
    """The save that is agreed is written, with a variable of that size; its step."""
    flight = driver.run.saves.in_flight
    assert flight is not None
    step = flight.step
    driver.step(step, "w0001")
    was = {} if measured is None else {"v": weight(measured)}
    driver.tell(
        ev.SaveWritten(
            "w0001", driver.run.generation, step, step, "d", "p", (), {"v": 1}, nonfinite,
            sizes={"v": weight(rms)}, measured=was,
        )
    )  # fmt: skip
    return step


def incidents(driver: Driver) -> list[tuple[str, str]]:
    return [
        (note.event.kind, note.event.action)
        for note in driver.all(act.Note)
        if note.event.word == "incident"
    ]


def test_jump_is_told_once_and_committed_where_the_run_only_warns() -> None:
    driver = Driver(count=1, save_steps=2).training("w0001")
    step = saved(driver, 1.0, measured=0.9)
    assert driver.all(act.Commit)
    assert "variable_jumped" not in driver.notes()
    driver.tell(ev.Committed(driver.run.generation, step))
    step = saved(driver, 1e6)
    assert driver.all(act.Commit)
    assert driver.notes().count("variable_jumped") == 1
    assert incidents(driver) == [("outlier", "committed all the same")]
    driver.tell(ev.Committed(driver.run.generation, step))
    saved(driver, 1.1e6)
    assert "variable_jumped" not in driver.notes()
    assert driver.run.incident is None


def test_first_save_is_compared_with_the_checkpoint_that_the_writer_read() -> None:
    driver = Driver(count=1, save_steps=2).training("w0001")
    saved(driver, 1e6, measured=1.0)
    assert incidents(driver) == [("outlier", "committed all the same")]


def test_first_save_of_a_writer_that_read_nothing_is_compared_with_nothing() -> None:
    driver = Driver(count=1, save_steps=2).training("w0001")
    saved(driver, 1e6)
    assert incidents(driver) == []


def test_jump_stops_the_run_where_that_is_wanted() -> None:
    driver = Driver(count=1, save_steps=2, on_outlier="stop").training("w0001")
    saved(driver, 1e6, measured=1.0)
    assert not driver.all(act.Commit)
    assert "jumped by step" in driver.reason()
    error = driver.only(act.Finish).error
    assert (error["kind"], error["details"]["tensors"]) == ("StateJumped", ["v"])


def test_jump_is_the_reason_where_what_is_not_finite_is_ignored() -> None:
    ignoring = Driver(count=1, save_steps=2, on_outlier="stop", on_nonfinite="ignore")
    driver = ignoring.training("w0001")
    saved(driver, 1e6, measured=1.0, nonfinite=("w",))
    assert "jumped by step" in driver.reason()
    assert driver.only(act.Finish).error["kind"] == "StateJumped"
    assert driver.notes().count("variable_jumped") == 1
    strict = Driver(count=1, save_steps=2, on_outlier="stop", on_nonfinite="stop")
    strict.training("w0001")
    saved(strict, 1e6, measured=1.0, nonfinite=("w",))
    assert strict.only(act.Finish).error["kind"] == "NonFinite"


def test_jump_is_rolled_back_once_and_ends_the_run_when_it_comes_again() -> None:
    driver = Driver(count=1, save_steps=2, on_outlier="rollback").training("w0001")
    step = saved(driver, 1e6, measured=1.0)
    assert not driver.all(act.Commit)
    driver.held(step, "w0001")
    assert "rolling_back" in driver.notes()
    driver.tell(ev.Found(3, 0, "", "m-3"))
    driver.tell(ev.Joined("w0001", driver.run.generation, 3))
    assert driver.run.phase is Phase.TRAINING
    saved(driver, 1e6, measured=1.0)
    assert "jumped by step" in driver.reason()


@pytest.mark.parametrize(
    ("now", "before", "jumped"),
    [
        (Size(1.0, ABSURD), Size(1.0, ABSURD / 2), False),
        (Size(1.0, 1.1 * ABSURD), Size(1.0, ABSURD), True),
        (Size(1.0, 1.1 * ABSURD), Size(1.0, 1.05 * ABSURD), False),
        # A slot of squares that was below the floor of squares
        (Size(5e3, 5e3, trained=False), Size(1e-5, 1e-5, trained=False), True),
        (Size(50.0, 50.0, trained=False), Size(1e-5, 1e-5, trained=False), False),
    ],
)
def test_bounds_of_what_is_absurd_and_of_what_is_nothing(
    now: Size, before: Size, jumped: bool
) -> None:
    assert bool(outliers({"v": now}, {"v": before}, 1000.0)) == jumped
