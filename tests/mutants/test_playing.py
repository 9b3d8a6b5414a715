"""Is a mutant that no test notices told, and one that a test notices not?"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytest.importorskip("mutmut", reason="`make mutants` installs it")

from tests.mutants import __main__ as mutants
from tests.mutants import verdicts
from tests.mutants.changing import files_of, mutants_of

MODULE = """
def older(age: int) -> bool:
    return age > 18


def count(upto: int) -> int:
    found = 0
    while found < upto:
        found = found + 1
    return found


def never_asked(age: int) -> int:
    return age + 1
"""
TEST = """
from orchestrator.decide.ages import count, older


def test_it() -> None:
    assert older(20)
    assert not older(4)
    assert count(3) == 3
"""


def checkout(root: Path, module: str, test: str) -> Path:
    """A project of one module and its test, with what plays the mutants."""
    for name in ("orchestrator", "orchestrator/decide", "tests", "tests/decide"):
        (root / name).mkdir(exist_ok=True)
        (root / name / "__init__.py").touch()
    ignored = shutil.ignore_patterns("__pycache__", "test_*")
    shutil.copytree(ROOT / "tests/mutants", root / "tests/mutants", ignore=ignored)
    (root / "pyproject.toml").write_text('[tool.pytest.ini_options]\npythonpath = ["."]\n')
    (root / "orchestrator/decide/ages.py").write_text(module)
    (root / "tests/decide/test_ages.py").write_text(test)
    return root


@pytest.mark.slow
def test_change_that_no_test_notices_is_told_and_one_that_a_test_notices_is_not(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = checkout(tmp_path, MODULE, TEST)
    assert mutants.main(["decide.ages"], root) == 1
    told = capfd.readouterr().out
    # > may be >=: no test asks for that age
    assert "- return age > 18\n  + return age >= 18" in told
    assert "x_never_asked__mutmut_1: no test comes by" in told
    assert "+ found = None" not in told
    # found = found - 1 counts for ever
    assert " 1 come to no end" in told
    assert "+ found = found - 1" not in told


@pytest.mark.slow
def test_run_that_was_cut_off_goes_on_and_a_better_test_is_asked_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    test = TEST.replace("count, ", "").replace("    assert count(3) == 3\n", "")
    root = checkout(tmp_path, MODULE.partition("def count")[0], test)
    assert mutants.main(["decide.ages"], root) == 1
    mutants.main(["decide.ages"], root)
    assert "0 of them to be played" in capfd.readouterr().out
    better = test.replace("20", "19").replace("4", "18")
    (root / "tests/decide/test_ages.py").write_text(better)
    assert mutants.main(["decide.ages"], root) == 0
    assert "0 survive" in capfd.readouterr().out


def test_each_mutant_is_known_by_the_two_lines_that_it_changes() -> None:
    found = mutants_of(Path("orchestrator/decide/ages.py"), MODULE)
    change = found.mutants["orchestrator.decide.ages.x_older__mutmut_1"].change
    assert change.module == "orchestrator.decide.ages"
    assert change.was == "return age > 18"
    assert change.becomes == "return age >= 18"
    assert "x_older__mutmut_1" in found.text


CALLS = """
def asked(run: object) -> int:
    for each in run:
        if each.late and not (
            each.gone
        ):
            note(
                each,
                1,
            )
    return 3
"""


def test_test_comes_by_a_change_where_it_runs_a_line_of_the_statement() -> None:
    text, mutants = mutants_of(Path("orchestrator/decide/calls.py"), CALLS)
    lines = text.splitlines()
    found = {
        mutant.change.becomes: [lines[number - 1].strip() for number in mutant.lines]
        for mutant in mutants.values()
    }
    assert found["2,"] == ["note(", "each,", "1,", ")"]
    assert found["if each.late or not ("] == [
        "if each.late and not (",
        "each.gone",
        "):",
    ]
    assert found["return 4"] == ["return 3"]


def test_word_is_a_module_or_a_package_of_modules() -> None:
    assert files_of(ROOT, ["decide.budgets"]) == [Path("orchestrator/decide/budgets.py")]
    assert Path("orchestrator/decide/rules/saving.py") in files_of(ROOT, ["decide"])
    with pytest.raises(SystemExit, match="no such module"):
        files_of(ROOT, ["decide.budget"])


def test_verdict_holds_while_the_module_and_the_tests_that_gave_it_are_as_they_were(
    tmp_path: Path,
) -> None:
    file = tmp_path / "tests/test_it.py"
    file.parent.mkdir()
    first, second = "def test_a(x):\n    assert x\n", "def test_b():\n    assert 2\n"
    file.write_text(first + second)
    for mutant, said, told_by in (
        ("killed", verdicts.FAILED, "tests/test_it.py::test_a[1]"),
        ("survivor", verdicts.SURVIVED, ""),
    ):
        tests_sum = verdicts.sum_of_tests(tmp_path, told_by)
        verdicts.keep(tmp_path, verdicts.Verdict(mutant, said, "module", told_by, tests_sum))
    both = {"killed": "module", "survivor": "module"}
    assert verdicts.standing(tmp_path, both).keys() == both.keys()
    assert not verdicts.standing(tmp_path, dict.fromkeys(both, "another"))
    file.write_text(second + "# moved\n" + first)
    assert verdicts.standing(tmp_path, both).keys() == {"killed"}
    file.write_text(second)
    assert not verdicts.standing(tmp_path, both)
