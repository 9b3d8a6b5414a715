"""Is what may survive still in the code, and is a change known again?"""

from __future__ import annotations

import pytest

from tests.conftest import ROOT
from tests.mutants.survivors import Change, change_of, listed

BUDGETS = "orchestrator.decide.budgets"
BEFORE = """def spend(self, cause, node, now_s):
    recent = tuple(entry for entry in self.entries if now_s - entry.at_s < WINDOW_S)
    return recent"""


def test_change_that_is_listed_is_known_again() -> None:
    lines = BEFORE.split("\n")
    change = change_of(BUDGETS, lines, [line.replace("<", "<=") for line in lines])
    assert change in listed()
    assert change._replace(module="orchestrator.decide.room") not in listed()


def test_change_over_several_lines_is_one_text_of_those_that_differ() -> None:
    before = ["def told(run):", "    return ask(", "        run,", "        now,", "    )"]
    assert change_of(BUDGETS, before, [before[0], "    return ask(", before[2], "    )"]) == Change(
        BUDGETS, "now,", ""
    )


MODULES = sorted({change.module for change in listed()})


@pytest.mark.parametrize("module", MODULES)
def test_listed_changes_are_of_the_code_as_it_is_and_have_a_reason(module: str) -> None:
    text = " ".join((ROOT / f"{module.replace('.', '/')}.py").read_text().split())
    for change, reason in listed().items():
        if change.module == module:
            assert change.was in text, "the code has changed: look again whether a test can tell"
            assert change.was != change.becomes
            assert len(reason) > 20


def test_what_was_gone_through_is_there_each_once() -> None:
    words = (ROOT / "tests/mutants/gone_through.txt").read_text().split()
    places = [ROOT.joinpath("orchestrator", *word.split(".")) for word in words]
    assert words == sorted(set(words))
    assert [
        str(place) for place in places if not (place.is_dir() or place.with_suffix(".py").is_file())
    ] == []


def test_what_may_survive_is_in_what_was_gone_through() -> None:
    words = (ROOT / "tests/mutants/gone_through.txt").read_text().split()
    modules = {change.module.removeprefix("orchestrator.") for change in listed()}
    assert [
        each for each in modules if not f"{each}.".startswith(tuple(f"{word}." for word in words))
    ] == []
