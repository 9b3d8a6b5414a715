"""Is what becomes of a save told as what it is, with what a user can do?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide.outliers import Size
from orchestrator.decide.phases import Phase
from orchestrator.decide.rules.saving import (
    DIVERGENCE_LIMIT,
    DIVERGENCE_REMEDY,
    NOTED_OUTLIERS,
    put_together,
)
from orchestrator.decide.save_parts import SavedPart
from tests.decide.situation import Driver


def saving(count: int = 1, **shape: Any) -> Driver:
    """The save of step 4 is agreed, and copied by all."""
    idents = [f"w{number:04d}" for number in range(1, count + 1)]
    driver = Driver(count=count, save_steps=4, **shape).training(*idents)
    driver.step(4, *idents)
    return driver


def told(driver: Driver, *events: ev.Event, **more: Any) -> Driver:
    """The writer has written, with this; then these happen."""
    written = ev.SaveWritten("w0001", 1, 4, 4, "d", "p", (), {"v": 1}, **more)
    driver.tell(written, *events)
    return driver


def noted(driver: Driver, word: str) -> list[dict[str, Any]]:
    return [note.event.record() for note in driver.all(act.Note) if note.event.word == word]


NONFINITE = tuple("abcde")


def test_state_that_is_not_finite_ends_the_run_with_a_few_names_and_all_in_the_details() -> None:
    driver = told(saving(), nonfinite=NONFINITE)
    (refused,) = noted(driver, "save_refused")
    assert (refused["step"], refused["generation"]) == (4, 1)
    assert refused["reason"] == "not finite at step 4: a, b, c"
    error = driver.only(act.Finish).error
    assert error["kind"] == "NonFinite"
    assert error["message"] == refused["reason"]
    assert error["details"] == {"tensors": [*NONFINITE], "step": 4}
    assert error["remedy"] == (
        "Lower the learning rate, or see --on-nonfinite; the last good checkpoint is kept"
    )


def test_roll_back_is_an_incident_of_what_it_is_for() -> None:
    driver = told(saving(on_nonfinite="rollback"), nonfinite=("v",))
    assert driver.run.incident is not None
    assert driver.run.incident.kind == "not finite"
    assert driver.run.incident.detail == "not finite at step 4: v"
    assert (driver.run.incident.rank, driver.run.incident.worker) == (None, "")
    assert driver.run.rolled_back_from == 4
    (gathering,) = noted(driver, "gathering")
    assert gathering["reason"] == (
        "not finite at step 4: v; rolling back to the newest good checkpoint"
    )


def sizes(rms: float, count: int = 1, **more: Any) -> dict[str, Size]:
    return {f"v{number:02d}": Size(rms * (count - number), rms * (count - number), **more) for number in range(count)}  # fmt: skip


def test_state_that_jumped_names_the_worst_and_says_how_many_there_are() -> None:
    grew = "(largest 1 to {0}e+09, root mean square 1 to {0}e+09)"
    for count, told_of in (
        (3, [("v00", 3), ("v01", 2), ("v02", 1)]),
        (4, [("v00", 4), ("v01", 3), ("v02", 2)]),
    ):
        measured = {name: Size(1.0, 1.0) for name in sizes(1.0, count)}
        driver = told(saving(on_outlier="stop"), sizes=sizes(1e9, count), measured=measured)
        reason = "jumped by step 4: " + ", ".join(
            f"{name} {grew.format(times)}" for name, times in told_of
        )
        reason += " and 1 more" if count > 3 else ""
        assert noted(driver, "save_refused")[0]["reason"] == reason
        error = driver.only(act.Finish).error
        assert error["kind"] == "StateJumped"
        assert error["message"] == reason
        assert error["details"] == {"tensors": [*sizes(1.0, count)], "step": 4}
        assert error["remedy"] == (
            "Look at the data and the learning rate, or see --on-outlier and --outlier-factor; "
            "the last good checkpoint is kept"
        )


@pytest.mark.parametrize(("trained", "factor"), [(True, 1e3), (False, 1e6)])
def test_variable_that_jumped_is_told_with_what_it_was_and_what_it_might_have_been(
    trained: bool, factor: float
) -> None:
    before, now = Size(2.0, 3.0, trained), Size(2e9, 3e9, trained)
    driver = told(saving(), sizes={"v": now}, measured={"v": before})
    (jumped,) = noted(driver, "variable_jumped")
    del jumped["event"]
    assert jumped == {
        "step": 4,
        "generation": 1,
        "variable": "v",
        "trained": trained,
        "largest_before": 3.0,
        "largest": 3e9,
        "rms_before": 2.0,
        "rms": 2e9,
        "factor": factor,
    }
    (incident,) = noted(driver, "incident")
    assert incident["reason"].startswith("jumped by step 4: v")


def test_of_many_variables_that_jumped_the_worst_are_written_down() -> None:
    many = NOTED_OUTLIERS + 3
    driver = told(saving(), sizes=sizes(1e9, many), measured=sizes(1.0, many))
    assert len(noted(driver, "variable_jumped")) == NOTED_OUTLIERS
    assert len(driver.all(act.Commit)) == 1


def test_sizes_of_what_is_committed_are_what_the_next_save_is_compared_with() -> None:
    driver = told(saving(), sizes={"v": Size(1.0, 1.0)}, measured={"w": Size(1.0, 1.0)})
    assert driver.run.sizes == {"v": Size(1.0, 1.0)}
    assert driver.run.written is None
    assert not driver.run.digests
    assert driver.run.saves.in_flight is not None
    assert driver.run.saves.in_flight.committing


def differ(names: str, driver: Driver | None = None) -> Driver:
    driver = driver or saving(count=2)
    checked = ev.SaveChecked("w0002", 1, 4, dict.fromkeys(names, 2))
    written = ev.SaveWritten("w0001", 1, 4, 4, "d", "p", (), dict.fromkeys(names, 1))
    driver.tell(written, checked)
    return driver


def test_ranks_that_differ_are_told_with_a_few_names_and_how_many_there_are() -> None:
    driver = differ("abcde")
    (refused,) = noted(driver, "save_refused")
    assert (refused["step"], refused["reason"]) == (4, "ranks differ in a, b, c")
    incident = driver.run.incident
    assert incident is not None
    assert (incident.kind, incident.rank, incident.worker) == ("divergence", None, "")
    assert incident.detail == "5 variables differ between ranks: a, b, c"
    assert (driver.run.divergence, driver.run.divergences) == (True, 1)
    assert driver.run.saves.owed
    assert driver.run.phase is Phase.GATHERING
    (gathering,) = noted(driver, "gathering")
    assert gathering["reason"] == "ranks differ; rank 0's state is sent to all"


def test_ranks_that_differ_too_often_end_the_run_with_what_differs() -> None:
    driver = saving(count=2)
    driver.run = replace(driver.run, divergences=DIVERGENCE_LIMIT - 1)
    ending = differ("abcde", driver).run.ending
    assert ending is not None
    assert ending.reason == (
        f"the ranks differed at {DIVERGENCE_LIMIT} saves in a row, in a, b, c: "
        "none of them could be committed"
    )
    assert ending.error is not None
    assert ending.error["kind"] == "RecoveryExhausted"
    assert ending.error["message"] == ending.reason
    assert ending.error["remedy"] == DIVERGENCE_REMEDY
    assert ending.error["details"] == {"variables": [*"abcde"]}


def test_save_is_lost_with_its_writer_by_name() -> None:
    driver = saving(count=2, standby=1)
    driver.tell(ev.Gone("w0001", ev.Cause.DIED))
    (lost,) = noted(driver, "save_lost")
    assert (lost["step"], lost["reason"]) == (4, "w0001, which wrote it, is gone")


def part(rank: int, **more: Any) -> SavedPart:
    return SavedPart(rank, 4, 8, 1, f"report {rank}", (f"file {rank}",), **more)


def test_parts_are_put_together_by_rank() -> None:
    written = ev.SaveWritten("w0001", 1, 4, 4, "d", "p", (), {"v": 1}, nonfinite=("x",), stall_s=2.0)  # fmt: skip
    parts = {
        1: part(1, nonfinite=("b", "a"), stall_s=3.0, sizes={"v": Size(1.0, 2.0, elements=1)}),
        0: part(0, nonfinite=("b",), stall_s=1.0, sizes={"v": Size(1.0, 4.0, elements=1)}),
    }
    found = put_together(written, parts)
    assert found.files == ("file 0", "file 1")
    assert found.reports == ("report 0", "report 1")
    assert found.nonfinite == ("x", "b", "a")
    assert found.stall_s == 3.0
    assert found.sizes["v"].largest == 4.0
    assert found.measured == {}
    assert put_together(written, {0: part(0)}).stall_s == 2.0


RANKS = ("w0001", "w0002", "w0003")


def in_parts() -> Driver:
    """Three members have copied their rows for the save of step 4."""
    driver = Driver(count=3, save_steps=4, in_parts=True).training(*RANKS)
    driver.step(4, *RANKS)
    return driver


def checked(rank: int, step: int = 4) -> ev.SaveChecked:
    made = replace(part(rank), step=step, position=step)
    return ev.SaveChecked(RANKS[rank], 1, step, {"v": 1}, step, made, 1)


def written(rank: int = 0) -> ev.SaveWritten:
    made = replace(part(rank), position=4)
    return ev.SaveWritten(RANKS[rank], 1, 4, 4, "d", "p", (), {"v": 1}, part=made)


def why(driver: Driver, word: str) -> str:
    (reason,) = [each["reason"] for each in noted(driver, word)]
    return str(reason)


def test_save_in_parts_says_whose_part_is_lacking_or_what_is_amiss() -> None:
    driver = in_parts()
    driver.tell(written(), checked(2), ev.Gone("w0002", ev.Cause.DIED))
    assert why(driver, "save_lost") == "w0002, which has a part in it, is gone"
    driver = in_parts()
    driver.tell(written(), checked(2), ev.SaveFailed(1, 4, "503", False, 4, "w0002", 1))
    assert why(driver, "save_failed") == "503"
    driver = in_parts()
    driver.tell(written(), checked(1), checked(2, step=5))
    assert why(driver, "save_failed") == "the ranks' parts are of steps 4, 5"


def test_parts_without_a_word_of_the_writer_are_no_checkpoint() -> None:
    driver = in_parts()
    driver.tell(checked(0), checked(1), checked(2))
    assert why(driver, "save_failed") == "its writer has told nothing of it"
    assert not driver.all(act.Commit)


def test_parts_of_what_is_committed_are_forgotten() -> None:
    driver = in_parts()
    driver.tell(written(), checked(1), checked(2))
    assert driver.all(act.Commit)
    assert not driver.run.parts
