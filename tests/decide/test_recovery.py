"""Whose state goes on, who sits where, and when does the run give up?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.decide.budgets import Budgets, Entry
from orchestrator.decide.events import Cause
from orchestrator.decide.recovery import GiveUp, GoOn, Streak, after_loss, donor
from orchestrator.decide.room import (
    MANY,
    OVERBOOKED,
    Demand,
    cpus_of_local_ray,
    crowded,
    describe,
    fitting,
)
from orchestrator.decide.scaling import (
    Sizes,
    group_size,
    growth,
    in_turns,
    missing,
    seating,
    target_after,
)


def lose(
    cause: Cause, detail: str, times: int, *, step: int = 7, begun: bool = True
) -> GoOn | GiveUp:
    verdict: GoOn | GiveUp = GoOn(Budgets(100), Streak())
    for number in range(times):
        verdict = after_loss(
            cause, detail, "n", (step, 0), begun, verdict.budgets, verdict.streak, float(number)
        )
    return verdict


@pytest.mark.parametrize(
    ("cause", "detail", "times", "begun", "stops"),
    [
        (Cause.ERROR, "ValueError: x", 1, True, False),
        (Cause.ERROR, "ValueError: x", 2, True, True),
        (Cause.ERROR, "ImportError: x", 2, False, False),
        (Cause.ERROR, "ImportError: x", 3, False, True),
        (Cause.DIED, "", 3, True, False),
        (Cause.DIED, "", 4, True, True),
        (Cause.DIED, "", 20, False, False),
        (Cause.PREEMPTED, "", 50, True, False),
        (Cause.NODE, "its node is gone", 50, True, False),
    ],
)
def test_same_loss_at_the_same_step_is_a_crash_loop(
    cause: Cause, detail: str, times: int, begun: bool, stops: bool
) -> None:
    assert isinstance(lose(cause, detail, times, begun=begun), GiveUp) is stops


def test_same_loss_at_other_places_is_none_where_the_counter_stands_still() -> None:
    verdict: GoOn | GiveUp = GoOn(Budgets(100), Streak())
    for step in range(50):
        verdict = after_loss(
            Cause.ERROR, "x", "n", (7, step), True, verdict.budgets, verdict.streak, float(step)
        )
        assert isinstance(verdict, GoOn)


def test_other_error_at_the_same_step_is_no_crash_loop() -> None:
    first = after_loss(Cause.ERROR, "x", "n", (7, 0), True, Budgets(100), Streak(), 0.0)
    assert first.streak == Streak("error:x", (7, 0), 1)
    other = after_loss(Cause.ERROR, "y", "n", (7, 0), True, first.budgets, first.streak, 1.0)
    assert other == GoOn(other.budgets, Streak("error:y", (7, 0), 1))


@pytest.mark.parametrize(
    ("cause", "detail", "times", "begun", "reason"),
    [
        (Cause.ERROR, "x", 2, True, "crash loop: x, 2 times in a row at step 7"),
        (Cause.ERROR, "x", 3, False, "crash loop: x, 3 times in a row before training"),
        (Cause.HUNG, "", 4, True, "crash loop: a worker hung, 4 times in a row at step 7"),
    ],
)
def test_crash_loop_is_told_with_what_how_often_and_where(
    cause: Cause, detail: str, times: int, begun: bool, reason: str
) -> None:
    verdict = lose(cause, detail, times, begun=begun)
    assert isinstance(verdict, GiveUp)
    assert verdict.reason == reason
    # Before training no step can be at fault, wherever the others are
    place = (7, 0) if begun else Streak().place
    assert verdict.streak == Streak(f"{cause.value}:{detail}", place, times)


@pytest.mark.parametrize("limit", [0, 1])
def test_loss_of_a_node_is_paid_for_there_and_leaves_the_streak_as_it_is(limit: int) -> None:
    streak = Streak("error:x", (7, 0), 1)
    verdict = after_loss(Cause.NODE, "gone", "n7", (7, 0), True, Budgets(limit), streak, 3.0)
    assert isinstance(verdict, GiveUp) is (limit == 0)
    assert verdict.budgets == Budgets(limit, (Entry(Cause.NODE, "n7", 3.0),))
    assert verdict.streak == streak


def test_exhausted_budget_gives_up_with_the_numbers() -> None:
    verdict = after_loss(Cause.NODE, "", "n", (1, 2), True, Budgets(0), Streak(), 0.0)
    assert isinstance(verdict, GiveUp)
    assert "allowed are 0" in verdict.reason


@pytest.mark.parametrize(
    ("steps", "chosen"),
    [
        ({"a": 5, "b": 6, "c": 6}, "b"),
        ({"a": 6, "b": 6}, "a"),
        ({"a": None, "b": 2}, "b"),
        ({"a": None, "b": None}, None),
        ({"a": 0}, "a"),
        ({}, None),
    ],
)
def test_donor_has_the_highest_step(steps: dict[str, int | None], chosen: str | None) -> None:
    assert donor(list(steps), _places(steps)) == chosen


@pytest.mark.parametrize(
    ("steps", "chosen"),
    [({"a": 5, "b": 6}, "a"), ({"a": None, "b": 2, "c": 3}, "b"), ({"a": None}, None)],
)
def test_donor_among_differing_states_is_the_first_that_has_one(
    steps: dict[str, int | None], chosen: str | None
) -> None:
    assert donor(list(steps), _places(steps), differing=True) == chosen


def test_donor_within_a_step_has_done_the_most_runs_of_its_cycle() -> None:
    assert donor("abc", {"a": (5, 8, 0), "b": (5, 8, 2), "c": (5, 8, 1)}) == "b"


def test_donor_among_those_whose_counter_stood_still_has_consumed_the_most_batches() -> None:
    assert donor("abc", {"a": (5, 8, 1), "b": (5, 10, 0), "c": (5, 8, 0)}) == "b"


def _places(steps: dict[str, int | None]) -> dict[str, tuple[int, int, int] | None]:
    return {worker: None if step is None else (step, 2 * step, 0) for worker, step in steps.items()}


FIXED, ELASTIC = Sizes(4, 4, 4, 1), Sizes(4, 2, 6, 1)


@pytest.mark.parametrize(
    ("sizes", "target", "started", "survivors", "warm", "size"),
    [
        (FIXED, 4, False, 0, 4, 4),
        (FIXED, 4, False, 0, 3, None),
        (FIXED, 4, True, 3, 1, 4),  # the standby takes the lost rank
        (FIXED, 4, True, 3, 0, None),  # below min: wait
        (ELASTIC, 4, False, 0, 3, None),  # the first group has the size that was asked for
        (ELASTIC, 4, True, 3, 0, 3),
        (ELASTIC, 4, True, 1, 0, None),
        (ELASTIC, 4, True, 4, 1, 4),  # a standby isn't used up for growth
        (ELASTIC, 4, True, 4, 3, 6),
        (ELASTIC, 4, True, 4, 9, 6),
        (Sizes(4, 2, 6, 0, on_loss="wait"), 4, True, 3, 0, None),
        (Sizes(4, 2, 6, 0, on_resize="wait"), 4, True, 3, 0, None),
        (Sizes(4, 2, 6, 0, on_resize="wait"), 4, True, 3, 5, 4),
    ],
)
def test_group_size_follows_policy(
    sizes: Sizes, target: int, started: bool, survivors: int, warm: int, size: int | None
) -> None:
    assert group_size(sizes, target, started, survivors, warm) == size


@given(
    st.integers(1, 8), st.integers(0, 4), st.integers(0, 8), st.integers(0, 8), st.integers(0, 4)
)
def test_group_size_never_leaves_its_bounds(
    count: int, less: int, survivors: int, warm: int, standby: int
) -> None:
    sizes = Sizes(count, max(1, count - less), count + less, standby)
    size = group_size(sizes, count, True, survivors, warm)
    if size is not None:
        assert sizes.smallest <= size <= min(sizes.largest, survivors + warm)


def test_target_shrinks_for_good_only_where_asked() -> None:
    assert target_after(Sizes(4, 2, 4, 0), 4, 3) == 4
    assert target_after(Sizes(4, 2, 4, 0, on_loss="shrink"), 4, 3) == 3
    assert target_after(ELASTIC, 4, 6) == 6


@pytest.mark.parametrize(("alive", "lacking"), [(5, 0), (3, 2), (6, 0), (0, 5)])
def test_missing_workers_are_counted(alive: int, lacking: int) -> None:
    assert missing(ELASTIC, 4, alive) == lacking


def test_growth_fills_the_room_up_to_the_largest() -> None:
    assert growth(ELASTIC, 5, 10) == 2
    assert growth(ELASTIC, 5, 1) == 1
    assert growth(ELASTIC, 5, 0) == 0
    assert growth(ELASTIC, 8, 10) == 0
    assert growth(Sizes(4, 2, 6, 1, on_resize="wait"), 5, 10) == 0
    assert growth(Sizes(4, 2, 6, 1, on_loss="shrink"), 5, 10) == 0


@pytest.mark.parametrize(
    ("previous", "staying", "warm", "size", "seats"),
    [
        (("a", "b", "c"), ["a", "c"], ["x"], 3, ("a", "x", "c")),
        (("a", "b", "c"), ["b", "c"], [], 2, ("c", "b")),
        ((), [], ["x", "y"], 2, ("x", "y")),
        (("a",), ["a"], ["x", "y"], 3, ("a", "x", "y")),
    ],
)
def test_seating_keeps_ranks(
    previous: tuple[str, ...],
    staying: list[str],
    warm: list[str],
    size: int,
    seats: tuple[str, ...],
) -> None:
    assert seating(previous, staying, warm, size) == seats


def test_room_counts_whole_workers_per_node() -> None:
    nodes = [{"CPU": 4.0, "GPU": 1.0}, {"CPU": 1.5}]
    assert fitting(nodes, Demand(1.0)) == 5
    assert fitting(nodes, Demand(1.0, gpus=0.5)) == 2
    assert fitting(nodes, Demand(0.5)) == 11
    assert fitting([], Demand(1.0)) == 0
    assert fitting([{"memory": 7.0, "CPU": 9.0}], Demand(1.0, memory_bytes=2)) == 3
    assert fitting([{"CPU": 9.0}], Demand(0.0)) == MANY
    assert describe(nodes) == "node 1: 4 CPUs, 1 GPUs; node 2: 1.5 CPUs, 0 GPUs"
    assert describe([{}]) == "node 1: 0 CPUs, 0 GPUs"
    assert describe([]) == "no node is alive"


def test_ray_of_this_machine_counts_with_as_many_cpus_as_the_workers_ask_for() -> None:
    assert cpus_of_local_ray(3, 0.5, 1) == 2
    assert cpus_of_local_ray(3, 0.5, 8) == 8


def test_machine_is_crowded_by_more_than_a_few_workers_for_each_cpu() -> None:
    assert not crowded(8 * OVERBOOKED, 0.5, 4)
    assert crowded(8 * OVERBOOKED + 1, 0.5, 4)
    assert not crowded(2 * OVERBOOKED, 1.0, 1), "two are counted at least"
    assert crowded(2 * OVERBOOKED + 1, 1.0, 1)


@pytest.mark.parametrize(
    ("nodes", "order"),
    [
        ({"w0": "a", "w1": "a", "w2": "a"}, "w0 w1 w2"),
        ({"w0": "a", "w1": "a", "w2": "b", "w3": "b"}, "w0 w2 w1 w3"),
        ({"w0": "b", "w1": "a", "w2": "b", "w3": "b", "w4": "a"}, "w0 w1 w2 w4 w3"),
        ({}, ""),
    ],
)
def test_beginning_group_takes_a_worker_of_each_node_in_turn(
    nodes: dict[str, str], order: str
) -> None:
    assert in_turns(tuple(nodes), nodes) == tuple(order.split())


def test_death_at_the_same_step_is_the_same_whether_peers_or_ray_tell_it_first() -> None:
    verdict: GoOn | GiveUp = GoOn(Budgets(100), Streak())
    for number, detail in enumerate(["", "exit code 3", "", "its process ended without a word"]):
        assert isinstance(verdict, GoOn)
        verdict = after_loss(
            Cause.DIED, detail, "n", (7, 0), True, verdict.budgets, verdict.streak, float(number)
        )
    assert isinstance(verdict, GiveUp)
