"""Does an evaluator take each checkpoint once, know the best, and end with its run?"""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.decide.evaluating import (
    Goal,
    Over,
    Seen,
    Take,
    Wait,
    after_look,
    averages,
    best,
)
from orchestrator.errors import ConfigError

ENDED = Over(True, "the run has ended, and each of its checkpoints was evaluated")


@pytest.mark.parametrize(
    ("committed", "done", "ended", "silent_s", "step"),
    [
        ((), (), False, 0.0, Wait()),
        (("a", "b"), (), False, 0.0, Take("a")),
        (("a", "b"), ("a",), False, 0.0, Take("b")),
        (("b",), ("a",), True, 500.0, Take("b")),
        (("a", "b"), ("a", "b"), False, 59.0, Wait()),
        (("a",), ("a",), True, 0.0, ENDED),
        (("a",), ("a",), False, 60.0, Over(False, "nobody has trained for 60 s")),
        ((), (), True, 0.0, ENDED),
    ],
)
def test_look_is_followed_by_a_step(
    committed: tuple[str, ...],
    done: tuple[str, ...],
    ended: bool,
    silent_s: float,
    step: Take | Wait | Over,
) -> None:
    found = after_look(Seen(committed, ended, silent_s), done, 60.0)
    assert found == step


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=40))
def test_each_checkpoint_is_taken_once_whatever_is_committed_and_deleted_meanwhile(
    happenings: list[tuple[int, bool]],
) -> None:
    committed: list[str] = []
    done: list[str] = []
    for number, (more, delete) in enumerate(happenings):
        committed += [f"c{number}-{each}" for each in range(more)]
        if delete and committed:
            committed.pop(0)
        step = after_look(Seen(tuple(committed), False, 0.0), done, 60.0)
        if isinstance(step, Take):
            assert step.label not in done
            assert step.label in committed
            done.append(step.label)


@pytest.mark.parametrize(
    ("values", "better", "label"),
    [
        ({"a": 0.1, "b": 0.3, "c": 0.2}, "max", "b"),
        ({"a": 0.1, "b": 0.3, "c": 0.2}, "min", "a"),
        ({"a": 0.3, "b": 0.3}, "max", "b"),
        ({"a": math.nan, "b": 0.3, "c": math.nan}, "min", "b"),
        ({"a": math.nan}, "max", None),
        ({"a": 0.1, "b": math.inf, "c": -math.inf}, "max", "a"),
        ({"a": 0.1, "b": math.inf, "c": -math.inf}, "min", "a"),
        ({"a": -math.inf}, "min", None),
        ({"gone": 0.9, "a": 0.1}, "max", "a"),
        ({}, "max", None),
    ],
)
def test_best_of_those_that_exist(values: dict[str, float], better: str, label: str | None) -> None:
    goal = Goal.parse(f"accuracy:{better}")
    found = best(values, ("a", "b", "c"), goal)
    assert (found[0] if found else None) == label


def test_goal_names_a_tensor_and_a_direction() -> None:
    assert Goal.parse("loss:min") == Goal("loss:0", "min")
    assert Goal.parse("head/loss:1:max") == Goal("head/loss:1", "max")
    for wrong in ("loss", "loss:0", ":max", "loss:best"):
        with pytest.raises(ConfigError) as caught:
            Goal.parse(wrong)
        assert caught.value.message == (
            f"--keep-best {wrong!r} isn't of the form METRIC:max or METRIC:min"
        )
        assert caught.value.remedy == "Write --keep-best accuracy:max, or --keep-best loss:min"


@pytest.mark.parametrize(
    ("one", "other", "larger", "smaller"),
    [
        (2.0, 1.0, True, False),
        (1.0, 2.0, False, True),
        (1.0, 1.0, False, False),
        (1.0, math.nan, True, True),
        (math.nan, 1.0, False, False),
        (math.nan, math.nan, False, False),
    ],
)
def test_number_that_beats_another_beats_what_is_none_and_equals_beat_nobody(
    one: float, other: float, larger: bool, smaller: bool
) -> None:
    assert Goal("l:0", "max").is_better(one, other) is larger
    assert Goal("l:0", "min").is_better(one, other) is smaller


def test_means_are_weighted_by_rows_where_all_are_known() -> None:
    assert averages([(4, {"l": 1.0}), (1, {"l": 6.0})]) == {"l": 2.0}
    assert averages([(4, {"l": 1.0}), (0, {"l": 6.0})]) == {"l": 3.5}
    assert averages([]) == {}
    assert averages([(2, {"l": 1e17}), (2, {"l": 1.0}), (2, {"l": -1e17})]) == {"l": 2 / 6}
    assert math.isnan(averages([(1, {"l": math.inf}), (1, {"l": -math.inf})])["l"])
    assert math.isnan(averages([(4, {"l": 1.0}), (4, {"l": math.nan})])["l"])
    assert averages([(4, {"l": 1.0}), (4, {"l": math.inf})])["l"] == math.inf


@given(st.lists(st.tuples(st.integers(1, 9), st.floats(-1e6, 1e6)), min_size=1, max_size=30))
def test_mean_does_not_depend_on_the_order(batches: list[tuple[int, float]]) -> None:
    outputs = [(rows, {"l": value}) for rows, value in batches]
    mixed = random.Random(1).sample(outputs, len(outputs))
    assert averages(outputs) == averages(mixed)
