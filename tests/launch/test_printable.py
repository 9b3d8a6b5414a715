"""Does nothing that a stranger wrote command a terminal, whichever command shows it?"""

from __future__ import annotations

import ast
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from launch.cli import run
from launch.terminal import (
    answer_console,
    configure_logging,
    message_console,
    show_error,
    write_text,
)
from launch.text.log_text import log_line
from launch.text.printable import harmless
from launch.text.progress import LogProgress
from orchestrator.errors import UserCodeError
from orchestrator.journal.parsing import parse
from orchestrator.store.objects.location import open_location
from tests.launch.journals import whole_run
from tests.launch.runs import recorded_run
from tests.sources import PRODUCT, ROOT, calls

HOSTILE = "w\x1b]0;owned\x07\x1b[2J\x9b31m\r\u202egnp.exe"
COMMANDS = ("\x1b", "\x07", "\x9b", "\r", "\u202e")


def assert_harmless(text: str) -> None:
    assert [sign for sign in COMMANDS if sign in text] == []
    assert "owned" in text, "the text itself was to be shown"
    assert r"\x1b" in text or r"\u001b" in text, "what was taken out was to be written out"


def test_harmless_keeps_letters_of_all_languages_line_ends_and_tabs() -> None:
    kept = "Größe\t損失 ━╌ ·\nнет\n"
    assert harmless(kept) == kept
    assert harmless("a\r\nb") == "a\nb"
    assert harmless("\ud800") == r"\ud800"


@pytest.mark.parametrize("console", [answer_console, message_console])
def test_every_console_shows_texts_that_command_a_terminal_written_out(
    console: Callable[[], Console], capsys: pytest.CaptureFixture[str]
) -> None:
    table = Table()
    table.add_column(HOSTILE)
    table.add_row(Text(HOSTILE))
    for shown in (HOSTILE, Text(HOSTILE, style="red"), table):
        console().print(shown)
        told = capsys.readouterr()
        assert_harmless(told.out + told.err)


def test_error_of_a_worker_and_its_traceback_reach_no_terminal_as_commands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = UserCodeError(
        f"batches() raised {HOSTILE}", remedy=HOSTILE, details={"traceback": HOSTILE}
    )
    show_error(error, as_json=True)
    told = capsys.readouterr()
    assert_harmless(told.err)
    assert json.loads(told.out)["error"]["remedy"] == HOSTILE, (
        "programs get it as it is, in JSON's own escapes"
    )
    assert [sign for sign in COMMANDS if sign in told.out] == []


def test_log_lines_and_progress_of_a_hostile_journal_are_harmless(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(verbose=True)
    LogProgress().event({"event": "finish", "outcome": "failed", "reason": HOSTILE})
    logging.getLogger("tfresume").warning("%s", log_line(parse({"event": HOSTILE, "at": 1.0})))
    assert_harmless(capsys.readouterr().err)


def test_job_output_is_written_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    write_text(f"{HOSTILE}\n")
    assert_harmless(capsys.readouterr().out)


@pytest.mark.parametrize("words", [["logs"], ["status"]])
def test_commands_that_read_a_hostile_journal_show_it_harmless(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = [
        item | {"reason": HOSTILE}
        if item["event"] in ("finish", "incident", "worker_lost")
        else item
        for item in whole_run()
    ]
    recorded_run(open_location(str(tmp_path)), events).release()
    assert run([*words, str(tmp_path)]) == 0
    assert_harmless(capsys.readouterr().out)


def test_only_the_terminals_module_makes_consoles_and_writes_to_standard_streams() -> None:
    """Whoever prints otherwise prints past this."""
    allowed = {"launch/terminal.py", "launch/standard_output.py", "launch/supervisor.py"}
    answers_of_children = {
        f"orchestrator/training/{name}.py"
        for name in ("baseline/demo_run", "engine/device_probe", "inputs/probe")
    }
    found = set()
    for path in PRODUCT:
        for call in calls(path, "print", "Console", "write"):
            if ast.unparse(call.func) in (
                "print",
                "Console",
                "rich.print",
                "sys.stdout.write",
                "sys.stderr.write",
            ):
                found.add(path.relative_to(ROOT).as_posix())
    assert found - allowed - answers_of_children == set()


@pytest.mark.parametrize("word", ["[/x]", "[red]", "[link=file:///etc/passwd]x"])
def test_words_that_look_like_markup_are_refused_as_they_stand(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([word]) == 2
    told = capsys.readouterr().err
    assert word in told
    assert "Traceback" not in told
