"""Does every command line end as promised: one message, the right exit code, and stdout for the
answer alone?
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from launch.cli import build_app, run
from launch.commands.logs import following
from launch.terminal import exit_code, plain_data, show_error
from orchestrator.errors import (
    ConfigError,
    FatalError,
    Preempted,
    StorageUnavailable,
    UserCodeError,
)
from tests.turns import quick_in_turn

NO_TENSORFLOW = """
import builtins, sys
real = builtins.__import__
def guarded(name, *args, **kwargs):
    if name.split(".")[0] in ("tensorflow", "keras"):
        raise ImportError("TensorFlow was made unimportable")
    return real(name, *args, **kwargs)
builtins.__import__ = guarded
"""


def commands() -> list[str]:
    return sorted(name for name in build_app().resolved_commands() if not name.startswith("-"))


def without_tensorflow(body: str) -> subprocess.CompletedProcess[str]:
    script = NO_TENSORFLOW + textwrap.dedent(body)
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )


def test_help_lists_every_command_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in commands())
    assert "Exit codes: 0 done" in shown


@pytest.mark.parametrize("command", quick_in_turn(commands(), 4))
def test_help_of_a_command_shows_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([command, "--help"]) == 0
    assert f"tfresume {command}" in capsys.readouterr().out.replace("Usage: tfresume", "")


@pytest.mark.slow
def test_help_works_with_tensorflow_unimportable_and_imports_no_heavy_library() -> None:
    done = without_tensorflow("""
        from launch.cli import run
        assert run(["--help"]) == 0
        heavy = {"tensorflow", "ray", "gcsfs", "aiohttp", "numpy", "google.protobuf"} & set(sys.modules)
        assert not heavy, heavy
    """)
    assert done.returncode == 0, done.stderr


def test_command_line_with_an_unknown_command_exits_2_with_one_json_object(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["resum", "--json"]) == 2
    shown = capsys.readouterr()
    assert json.loads(shown.out)["status"] == "refused"
    assert "resum" in shown.err


def test_command_line_with_an_unknown_flag_exits_2_and_names_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["config", "--explian"]) == 2
    shown = capsys.readouterr()
    assert "--explian" in shown.err
    assert shown.out == ""


def test_configuration_error_exits_2_with_its_remedy_and_no_traceback(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["config", str(tmp_path / "absent.yaml")]) == 2
    shown = capsys.readouterr()
    assert "can't be read" in shown.err
    assert "absent.yaml" in shown.err
    assert "what to do:" in shown.err
    assert "Traceback" not in shown.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (FatalError("x"), 1),
        (StorageUnavailable("x"), 1),
        (Preempted("x"), 143),
        (KeyboardInterrupt(), 130),
        (ValueError("x"), 1),
    ],
)
def test_exit_code_follows_the_kind_of_error(error: BaseException, code: int) -> None:
    assert exit_code(error) == code


def test_show_error_of_user_code_prints_the_users_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_error(
        UserCodeError(
            "batches() raised KeyError", details={"traceback": "Traceback\n  my_inputs.py, line 3"}
        ),
        as_json=False,
    )
    assert "my_inputs.py, line 3" in capsys.readouterr().err


def test_show_error_that_nobody_raised_on_purpose_prints_its_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    try:
        raise ZeroDivisionError("3 a.m.")
    except ZeroDivisionError as error:
        show_error(error, as_json=True)
    shown = capsys.readouterr()
    assert "Traceback" in shown.err
    assert json.loads(shown.out)["error"]["kind"] == "ZeroDivisionError"


def test_show_error_hides_credentials(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(
        ConfigError(
            "s3://AKIAABCDEFGHIJKLMNOP:hunter2hunter2@b/x can't be read", remedy="Check it"
        ),
        as_json=True,
    )
    shown = capsys.readouterr()
    assert "hunter2" not in shown.out + shown.err


def test_plain_data_numbers_that_json_lacks_become_null() -> None:
    assert plain_data({"loss": float("nan"), "rate": (1.5, float("inf"))}) == {
        "loss": None,
        "rate": [1.5, None],
    }


@pytest.mark.parametrize(
    ("words", "page"),
    [(["resume", "s", "--worker", "3"], "resume --help"), (["resum"], "tfresume --help")],
)
def test_wrong_flag_points_to_the_help_of_its_command(
    words: list[str], page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    shown = capsys.readouterr().err
    assert "Did you mean" in shown
    assert page in shown.partition("what to do:")[2]


def test_ctrl_c_while_following_says_what_goes_on_and_how_to_stop_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        caplog.at_level(logging.WARNING, "tfresume"),
        pytest.raises(KeyboardInterrupt),
        following("gs://b/more"),
    ):
        raise KeyboardInterrupt
    assert "the run goes on; `tfresume stop gs://b/more` saves and ends it" in caplog.text
