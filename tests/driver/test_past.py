"""What does a driver know of those before it?"""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.decide.driver_restarts import DRIVER_DEATH, Death
from orchestrator.driver import past as room
from orchestrator.driver.past import Past, fold
from tests.launch.journals import EPOCH, beginning, event


def committed(at_s: float, step: int, generation: int = 1) -> dict[str, Any]:
    label = f"a0001-g{generation:04d}/model.ckpt-{step}"
    return event(at_s, "save_committed", step=step, generation=generation, checkpoint=label)


def warm(at_s: float, number: int, place: str) -> dict[str, Any]:
    told = {"node": f"node-{number}", "pid": number, "seconds": 1.0, "devices": [f"{number}"]}
    return event(at_s, "worker_warm", worker=f"w{number:04d}", place=place, **told)


def test_a_workers_name_is_never_used_again_also_where_the_journal_does_not_know_it_yet() -> None:
    """A dead driver's last workers, whose start hadn't been written down, lent their names to its
    successor's.
    """
    past = fold([{"event": "worker_start", "attempt": 1, "at": 1.0, "worker": "w0002"}])
    assert past.next_worker(()) == 3
    assert past.next_worker(["w0001", "w0005"]) == 6


def test_names_of_workers_begin_with_one_and_what_is_no_name_counts_for_nothing() -> None:
    assert Past().next_worker(()) == 1
    odd = ("worker-9", "wx9", "w12x", "w", "")
    past = fold(event(1, "worker_start", worker=worker) for worker in odd)
    assert past.next_worker(odd) == 1
    started = ("w1234", *odd, "w0999")
    past = fold(event(1, "worker_start", worker=worker) for worker in started)
    assert past.next_worker(("w0002", *odd)) == 1235


def test_training_time_of_all_attempts_is_added_up() -> None:
    records = [
        {"event": "progress", "attempt": attempt, "at": 1.0, "t_s": t_s, "step": 1}
        for attempt, t_s in ((1, 10.0), (1, 60.0), (2, 5.0), (2, 40.0))
    ]
    assert fold(records).trained_s == 100.0


def test_training_time_counts_three_attempts_and_events_without_a_time() -> None:
    records = [
        {"event": "progress", "attempt": attempt, "at": 1.0, "step": 1, **told}
        for attempt, told in (
            (1, {"t_s": 10.0}),
            (2, {"t_s": 7.0}),
            (2, {"t_s": 8.0}),
            (3, {"t_s": 1.0}),
            (3, {}),
        )
    ]
    assert fold(records[:4]).trained_s == 19.0
    assert fold(records).trained_s == 18.0
    assert Past().trained_s == 0.0


def test_newest_save_is_the_one_that_was_committed_last() -> None:
    past = fold([committed(1, 100), committed(2, 300), committed(3, 200, generation=2)])
    assert (past.newest_label, past.newest_step) == ("a0001-g0002/model.ckpt-200", 200)
    assert (Past().newest_label, Past().newest_step) == (None, None)


def test_generation_number_is_never_used_again() -> None:
    formed = [
        event(at, "generation", generation=number, step=0, workers=["w0001"])
        for at, number in ((1, 2), (2, 5), (3, 4))
    ]
    assert fold(formed).last_generation == 5
    assert Past().last_generation == 0


def test_settings_are_those_of_the_newest_driver_that_told_some() -> None:
    first, second = beginning(1), beginning(2, 50.0)
    assert fold(first).last_config["save_steps"] == 100
    second[0]["config"] = {"save_steps": 7}
    assert fold([*first, *second]).last_config == {"save_steps": 7}
    del second[0]["config"]
    assert fold([*first, *second]).last_config["save_steps"] == 100
    assert Past().last_config == {}


def test_places_with_gpus_are_known_with_what_workers_found_there() -> None:
    past = fold([warm(1, 1, "one"), warm(2, 2, "two"), warm(3, 3, ""), warm(4, 1, "one")])
    assert past.places == {"one": ("node-1", ("1",)), "two": ("node-2", ("2",))}


def test_of_very_many_places_the_newest_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_PLACES", 2)
    told = [warm(number, number, f"place {number}") for number in range(1, 6)]
    assert list(fold(told).places) == ["place 4", "place 5"]


def test_losses_before_this_driver_count_against_its_budget_by_its_own_clock() -> None:
    lost = event(30, "worker_lost", worker="w0002", rank=1, node="node-b", cause="died", reason="")
    budget = fold([lost]).budgets(5, 1000.0, EPOCH + 40.0)
    assert (budget.limit, budget.spent(1000.0)) == (5, 1)
    assert [(entry.node, entry.at_s) for entry in budget.entries] == [("node-b", 990.0)]


def test_what_the_driver_before_left_behind_says_how_it_died_where_that_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    past = fold([*beginning(), event(20, "progress", step=700)])
    monkeypatch.delenv(DRIVER_DEATH, raising=False)
    left = past.left_behind(EPOCH + 25.0)
    assert left is not None
    assert (left.members, left.standbys) == ({"w0001": 0, "w0002": 1}, ("w0003",))
    assert (left.silent_s, left.highest, left.death) == (5.0, 700, None)
    monkeypatch.setenv(DRIVER_DEATH, str(Death(-9, 2)))
    left = past.left_behind(EPOCH + 25.0)
    assert left is not None
    assert left.death == Death(-9, 2)
    assert Past().left_behind(EPOCH) is None


def test_roll_back_is_known_until_a_later_step_is_committed() -> None:
    back = event(10, "rolling_back", step=500, generation=3, reason="nan")
    assert fold([back]).rolled_back == (500, 3)
    assert fold([back, committed(20, 600, 4)]).rolled_back == (None, 3)
    assert Past().rolled_back == (None, 0)
