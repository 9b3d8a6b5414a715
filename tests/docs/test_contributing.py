"""Does what CONTRIBUTING.md says of the checks hold: the targets it names, the marks it explains,
and that a commit is checked as ``make check-fast`` checks it?
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

import yaml

from tests.docs.pages import PAGES, ROOT, blocks

CONTRIBUTING = ROOT / "CONTRIBUTING.md"
MAKEFILE = (ROOT / "Makefile").read_text()


def _recipe(target: str) -> list[str]:
    """The command lines of a target, with the environment's folder written out."""
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert found, f"the Makefile has no target {target}"
    return [line.strip().replace("$(BIN)", ".venv/bin") for line in found[1].splitlines()]


def _hooks(stage: str) -> list[str]:
    """The command of each hook that runs at ``stage``."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks: list[dict[str, Any]] = [hook for repo in config["repos"] for hook in repo["hooks"]]
    return [
        hook["entry"] for hook in hooks if stage in hook.get("stages", config["default_stages"])
    ]


def _on_files(command: str) -> str:
    """A checker's command without how it's told which files to look at."""
    return " ".join(word for word in command.split() if word not in (".", "--force-exclude"))


def test_hooks_before_a_commit_are_the_checks_of_check_fast_without_its_tests() -> None:
    assert _recipe("check-fast")[0].split()[-2:] == ["lint", "test-fast"]
    checks = _recipe("lint")
    assert len(checks) >= 5
    assert [_on_files(entry) for entry in _hooks("pre-commit")] == [*map(_on_files, checks)]


def test_hook_before_a_push_is_all_of_check_fast() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert _hooks("pre-push") == ["make check-fast"]
    assert set(config["default_install_hook_types"]) == {"pre-commit", "pre-push"}


def test_make_targets_that_a_page_names_exist() -> None:
    named = {
        words[1]
        for page in PAGES
        for block in blocks(page)
        if block.language == "sh"
        for words in block.commands
        if words[0] == "make"
    }
    named |= {
        target
        for page in PAGES
        for target in re.findall(r"`make ([a-z-]+)[^`]*`", page.read_text(encoding="utf-8"))
    }
    assert {"setup", "check-fast", "test"} <= named
    for target in sorted(named):
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), f"no target {target}"


def test_phony_targets_of_the_makefile_exist() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony
    for target in phony[1].split():
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), f"no target {target}"


def test_test_files_that_contributing_runs_exist() -> None:
    named = [
        word
        for block in blocks(CONTRIBUTING)
        for words in block.commands
        for word in words
        if word.startswith("tests/")
    ]
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_contributing_explains_every_mark_of_a_test() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    marks = {line.partition(":")[0].partition("(")[0] for line in options["markers"]}
    explained = set(re.findall(r"^\| `(\w+)` \|", CONTRIBUTING.read_text(), re.MULTILINE))
    assert explained == marks
