"""Is the documentation true in what can be told without running it: commands, links, paths, and the
tables that claim to be complete?
"""

from __future__ import annotations

import ast
import re
import warnings
from functools import cache
from pathlib import Path

import pytest
from cyclopts import App

from launch.cli import build_app
from launch.render.metric_names import exported
from launch.runs.history import history
from launch.runs.status_model import Driver, LeaseHolder, run_status
from orchestrator import errors
from orchestrator.config import RunConfig
from orchestrator.config_sections import WorkersConfig
from orchestrator.decide.events import Cause
from orchestrator.decide.goodput import Spent
from orchestrator.driver.measurements import METERS
from tests.docs.pages import PAGES, ROOT, Block, all_blocks, anchors, blocks, code_spans, links

SHELL = all_blocks("sh")
OPERATIONS = ROOT / "docs" / "operations.md"


def by_label(item: Block | Path) -> str:
    return item.label if isinstance(item, Block) else item.name


@pytest.fixture(scope="module")
def app() -> App:
    return build_app()


@pytest.mark.parametrize("block", SHELL, ids=by_label)
def test_command_in_the_documentation_parses(block: Block, app: App) -> None:
    for words in block.commands:
        if words[0] == "tfresume":
            app.parse_args(words[1:], exit_on_error=False, print_error=False)


@pytest.mark.parametrize("block", [block for block in SHELL if block.mark], ids=by_label)
def test_mark_of_a_block_is_one_that_the_runner_knows(block: Block) -> None:
    assert re.fullmatch(r"exit \d(?: or \d)?|ray|tf|onnx|kubectl|jobs|skip: .{8,}", block.value)


@pytest.mark.parametrize("block", all_blocks("python"), ids=by_label)
def test_python_in_the_documentation_compiles(block: Block) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ast.parse(block.text).body


@pytest.mark.parametrize("page", PAGES, ids=by_label)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in links(page):
        file, _, anchor = target.partition("#")
        found = (page.parent / file).resolve() if file else page
        assert found.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(found), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=by_label)
def test_paths_and_flags_that_a_page_names_exist(page: Path) -> None:
    flags = _flags()
    for span in code_spans(page):
        if re.fullmatch(r"(?:configs|k8s|orchestrator|launch|tests|docs)/[\w./-]*", span):
            assert (ROOT / span).exists(), f"{page.name} names {span}"
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z.-]*", span):
            assert flag in flags, f"{page.name} names {flag}"


@pytest.mark.parametrize("page", PAGES, ids=by_label)
def test_fences_of_a_page_are_closed(page: Path) -> None:
    fences = [line for line in page.read_text().splitlines() if line.startswith("```")]
    assert len(fences) == 2 * len(blocks(page))


@cache
def _flags() -> set[str]:
    app = build_app()
    found: set[str] = {*app.version_flags, *app.help_flags}
    for name in app.resolved_commands():
        if not name.startswith("-"):
            found |= {
                flag
                for argument in app[name].assemble_argument_collection()
                for flag in argument.names
            }
    return found


def test_operations_explains_every_exit_code_and_error_kind() -> None:
    text = OPERATIONS.read_text()
    kinds = [
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.OrchestratorError)
    ]
    missing = [
        name
        for name in (*kinds, *map(str, (0, 1, 2, 130, 143)))
        if f"| `{name}` |" not in text and f"| {name} |" not in text
    ]
    assert missing == []


def test_operations_explains_every_incident_kind() -> None:
    opened = re.findall(
        r'open_incident\(\s*\w+, "([a-z ]+)"',
        "".join(path.read_text() for path in (ROOT / "orchestrator/decide").rglob("*.py")),
    )
    assert opened
    text = OPERATIONS.read_text()
    assert [
        kind for kind in (*(cause.value for cause in Cause), *opened) if f"| `{kind}` |" not in text
    ] == []


def test_operations_explains_every_state_metric_and_kind_of_lost_time() -> None:
    text = OPERATIONS.read_text()
    silent = (Driver.NONE, Driver.DEAD, Driver.SILENT)
    ended = [
        run_status("out", history([]), driver, LeaseHolder(), {}, None, now=0.0).state
        for driver in silent
    ]
    states = {"starting", "waiting", "forming", "training", "recovering", "stopping", *ended}
    assert [state for state in states if f"| {state} |" not in text] == []
    assert [name for name in map(exported, METERS) if f"`{name}`" not in text] == []
    assert [
        kind.value for kind in Spent if kind is not Spent.USEFUL and f"`{kind.value}`" not in text
    ] == []


def test_settings_that_the_documentation_sets_exist() -> None:
    known = {*RunConfig.model_fields, *WorkersConfig.model_fields}
    for page in PAGES:
        for span in code_spans(page):
            found = re.fullmatch(r"(?:workers\.)?([a-z_]+): \S+", span)
            assert not found or found[1] in known, f"{page.name} names {span}"
