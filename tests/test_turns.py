"""Does every example have its turn, and does the same code have the same turn?"""

from __future__ import annotations

import ast
import itertools
from pathlib import Path

import pytest

from tests.turns import (
    checksum_of_the_code,
    chosen,
    in_turn,
    marks_left_out,
    marks_of_a_file,
    not_in_turn,
    part_of,
    quick_in_turn,
)

pytest_plugins = ["pytester"]

QUICKLY = ("-p", "no:unraisableexception")
"""Which would collect the garbage of all tests so far, several times, when it's done."""

FILE = """
    import pytest

    pytestmark = pytest.mark.turns(3)


    @pytest.mark.tf
    @pytest.mark.parametrize("number", range(7))
    def test_dear(number): ...


    @pytest.mark.parametrize("number", range(7))
    def test_quick(number): ...
"""


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10])
def test_all_have_their_turn_and_never_none(count: int) -> None:
    examples = list(range(count))
    turns = [in_turn(examples, 3, checksum) for checksum in range(6)]
    assert set().union(*turns) == set(examples)
    assert all(bool(turn) == bool(count) for turn in turns)
    assert all(len(turn) <= count // 3 + 1 for turn in turns)


def test_code_that_is_the_same_has_the_same_turn() -> None:
    before = checksum_of_the_code()
    checksum_of_the_code.cache_clear()
    assert checksum_of_the_code() == before != 0


@pytest.mark.parametrize(
    ("words", "options", "asked"),
    [
        (["tests"], (False, "", False), False),
        (["tests", "tests/launch"], (None,), False),
        (["tests/a.py"], (), True),
        (["tests/a.py::test_b[c.d]"], (), True),
        (["tests"], ("some words",), True),
        (["tests"], (False, True), True),
    ],
)
def test_tests_that_somebody_chooses_are_all_run(
    words: list[str], options: tuple[object, ...], asked: bool
) -> None:
    assert chosen(words, *options) == asked


@pytest.mark.parametrize("count", [0, 1, 7])
def test_of_examples_that_are_quick_in_turn_the_others_are_slow_and_none_is_lost(
    count: int,
) -> None:
    examples = [(number, "word") for number in range(count)]
    found = quick_in_turn(examples, 3)
    assert [item.values for item in found] == examples
    quick = [item for item in found if not item.marks]
    assert bool(quick) == bool(count)
    assert len(quick) <= count // 3 + 1
    assert {mark.name for item in found for mark in item.marks} <= {"slow"}


def test_what_is_quick_is_run_each_time(pytester: pytest.Pytester) -> None:
    items = pytester.genitems([pytester.getmodulecol(FILE, configargs=QUICKLY)])
    later = [{item.name for item in not_in_turn(items, checksum)} for checksum in range(3)]
    dear = {f"test_dear[{number}]" for number in range(7)}
    assert all(names < dear for names in later)
    assert set.intersection(*later) == set()


def test_kind_that_several_files_share_has_one_turn_over_all_of_them(
    pytester: pytest.Pytester,
) -> None:
    text = """
        import pytest

        @pytest.mark.turns(3, "whole runs")
        @pytest.mark.slow
        def test_dear(): ...
    """
    pytester.makepyfile(**{f"test_{number}": text for number in range(3)})
    items, _ = pytester.inline_genitems(*QUICKLY)
    names = {item.nodeid for item in items}
    now = [names - {item.nodeid for item in not_in_turn(items, turn)} for turn in range(3)]
    assert len(names) == 3
    assert all(len(each) == 1 for each in now)
    assert set.union(*now) == names


@pytest.mark.parametrize("count", [0, 1, 7, 20, 41])
def test_parts_have_nothing_in_common_and_are_all_together(count: int) -> None:
    examples = list(range(count))
    parts = [part_of(examples, f"{number}/20") for number in range(1, 21)]
    assert sorted(itertools.chain.from_iterable(parts)) == examples
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("part", ["", "3", "0/20", "21/20", "a/b", "3/", "-1/2"])
def test_part_that_is_none_says_how_it_is_written(part: str) -> None:
    with pytest.raises(pytest.UsageError, match="3/20"):
        part_of([1, 2], part)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("pytestmark = pytest.mark.tf\n", {"tf"}),
        ("pytestmark = [pytest.mark.slow, pytest.mark.turns(3)]\n\n\n", {"slow", "turns"}),
        (
            "pytestmark = [\n    pytest.mark.ray,\n    pytest.mark.timeout(9),\n]\n",
            {"ray", "timeout"},
        ),
        (
            "pytestmark = pytest.mark.turns(3)\n\n\n@pytest.mark.slow\ndef test_a(): ...\n",
            {"turns"},
        ),
        ("@pytest.mark.slow\ndef test_a(): ...\n", set()),
    ],
)
def test_marks_of_a_file_are_those_of_all_that_is_in_it(source: str, names: set[str]) -> None:
    assert marks_of_a_file(source) == names


@pytest.mark.parametrize(
    ("expression", "marks"),
    [
        ("not (slow or tf)", {"slow", "tf"}),
        ("not (slow)", {"slow"}),
        ("", set()),
        ("slow or tf", set()),
        ("(slow or tf) and not (gpu or soak)", set()),
        ("not (slow) or tf", set()),
    ],
)
def test_marks_that_are_left_out_are_known_where_nothing_else_is_said(
    expression: str, marks: set[str]
) -> None:
    assert marks_left_out(expression) == marks


@pytest.mark.slow  # a second, to read all of them
def test_file_that_is_left_out_as_a_whole_has_no_quick_test() -> None:
    """What isn't collected for the quick tests would not be chosen either."""
    files = {
        path: marks_of_a_file(path.read_text(encoding="utf-8"))
        for path in Path(__file__).parent.rglob("test_*.py")
    }
    assert sum("tf" in names for names in files.values()) > 20
    for path, names in files.items():
        written = {
            mark.attr
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
            for mark in ast.walk(node.value)
            if isinstance(mark, ast.Attribute) and ast.unparse(mark.value) == "pytest.mark"
        }
        assert names == written, path
