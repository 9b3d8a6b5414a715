"""What goes to standard output, what to standard error, and how does a command end?

Rule: standard output carries the answer alone (a table for people, or exactly one JSON object with
``--json``); logs, progress and errors go to standard error. Nothing is written without passing
through redaction, and nothing that a terminal would obey is sent to it.
"""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import IO, Any, TextIO, cast

from rich.console import Console
from rich.markup import escape

from launch.standard_output import WithoutPadding, write_answer
from launch.text.printable import HarmlessConsole, harmless
from orchestrator.errors import AnswerNotWritten, ConfigError, OrchestratorError, Preempted
from orchestrator.redaction import redacted, redacted_data, secrets_in

PIPE_WIDTH = 1000
"""Columns where nobody's window limits them; tables take only what they need."""

log = logging.getLogger("tfresume")

EXIT_DONE, EXIT_FAILED, EXIT_REFUSED, EXIT_INTERRUPTED, EXIT_TERMINATED = 0, 1, 2, 130, 143
"""Part of the interface. 2 is what argument parsers end with too; 130 and 143 are what a shell
reports of SIGINT (128 + 2) and of SIGTERM (128 + 15).
"""


def answer_console() -> Console:
    """Where tables for people go: standard output."""
    file = None if sys.stdout.isatty() else cast(IO[str], WithoutPadding())
    return HarmlessConsole(highlight=False, soft_wrap=False, width=_width(sys.stdout), file=file)


def message_console() -> Console:
    """Where progress and errors go: standard error."""
    return HarmlessConsole(stderr=True, highlight=False, soft_wrap=True, width=_width(sys.stderr))


def _width(stream: TextIO) -> int | None:
    """None lets the terminal say; a file or pipe has no width, and names broken at 80 columns can't
    be searched for.
    """
    return None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH


def write_text(text: str, *, to_stderr: bool = False) -> None:
    """Write a text of somebody else's making as it is, redacted and harmless; it ends where it
    ends.
    """
    shown = harmless(redacted(text, secrets_in(os.environ)))
    if not to_stderr:
        write_answer(shown)
        return
    sys.stderr.write(shown)
    sys.stderr.flush()


def print_json(data: Any) -> None:
    """Write one JSON object to standard output, redacted."""
    plain = redacted_data(plain_data(data), secrets_in(os.environ))
    write_answer(json.dumps(plain, indent=2, default=str, allow_nan=False) + "\n")


def plain_data(data: Any) -> Any:
    """Dataclasses, pydantic models, tuples and sets as JSON knows them; numbers that aren't finite
    become None.
    """
    if data is None or isinstance(data, (str, int)):  # nearly all of a large report
        return data
    if hasattr(data, "as_dict"):
        return plain_data(data.as_dict())
    if hasattr(data, "model_dump"):
        return plain_data(data.model_dump(mode="json"))
    if dataclasses.is_dataclass(data) and not isinstance(data, type):
        return {
            item.name: plain_data(getattr(data, item.name)) for item in dataclasses.fields(data)
        }
    if isinstance(data, Mapping):
        return {str(name): plain_data(value) for name, value in data.items()}
    if isinstance(data, (list, tuple, set, frozenset)):
        return [plain_data(item) for item in data]
    if isinstance(data, float) and (data != data or data in (float("inf"), float("-inf"))):
        return None
    return data


def exit_code(error: BaseException) -> int:
    """The exit code for an error that ended a command (see docs/operations.md)."""
    match error:
        case ConfigError():
            return EXIT_REFUSED
        case Preempted():
            return EXIT_TERMINATED
        case KeyboardInterrupt():
            return EXIT_INTERRUPTED
        case _:
            return EXIT_FAILED


def show_error(error: BaseException, *, as_json: bool) -> None:
    """Print what went wrong: cause and remedy for errors raised on purpose, the traceback for
    anything else (it is a bug).
    """
    secrets = secrets_in(os.environ)
    console = message_console()
    if isinstance(error, KeyboardInterrupt):
        console.print("[yellow]interrupted[/yellow]")
    elif isinstance(error, OrchestratorError):
        console.print(f"[red bold]error:[/red bold] {escape(redacted(error.message, secrets))}")
        if user_traceback := error.details.get("traceback"):
            console.print(escape(redacted(str(user_traceback), secrets)))
        if error.remedy:
            console.print(f"[bold]what to do:[/bold] {escape(redacted(error.remedy, secrets))}")
    else:
        console.print(escape(redacted("".join(traceback.format_exception(error)), secrets)))
        console.print(
            "[red bold]error:[/red bold] this is a fault in tfresume itself; please report it with the lines above"
        )
    if as_json and not isinstance(error, AnswerNotWritten):
        status = {
            EXIT_REFUSED: "refused",
            EXIT_TERMINATED: "stopped",
            EXIT_INTERRUPTED: "stopped",
        }.get(exit_code(error), "failed")
        told = (
            error.as_dict()
            if isinstance(error, OrchestratorError)
            else {"kind": type(error).__name__, "message": str(error)}
        )
        print_json({"status": status, "error": told})


def guarded(work: Callable[[], int], *, as_json: bool) -> int:
    """The exit code of ``work``; an error is shown in full and becomes one. The one boundary of
    every command.
    """
    try:
        return work()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001
        show_error(error, as_json=as_json)
        return exit_code(error)


class RedactingFormatter(logging.Formatter):
    """Formats a record, then removes every credential and every escape from the finished text,
    tracebacks included.
    """

    def format(self, record: logging.LogRecord) -> str:
        return harmless(redacted(super().format(record), secrets_in(os.environ)))


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to whatever standard error is at that moment: above the live progress line while there
    is one.
    """

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        """Standard error, looked up anew."""
        return sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:
        raise AttributeError(f"this handler always writes to standard error, not to {value}")


class _ToLog(io.TextIOBase):
    """A text stream whose lines become log lines for ``--verbose``."""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        for line in text.splitlines():
            if line.strip():
                log.debug("printed by a library: %s", line)
        return len(text)


@contextmanager
def answers_only() -> Iterator[None]:
    """Keep standard output clean while libraries work: Ray prints a paragraph to it whenever a
    worker dies.
    """
    with redirect_stdout(cast(TextIO, _ToLog())):
        yield


def configure_logging(*, verbose: bool = False, quiet: bool = False) -> None:
    """Send the ``tfresume`` logger to standard error: INFO, with ``--verbose`` DEBUG, with
    ``--quiet`` warnings alone.
    """
    logger = logging.getLogger("tfresume")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    handler = _StderrHandler()
    handler.setFormatter(
        RedactingFormatter("%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    )
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO)
    logger.propagate = False
    _libraries_aside(verbose=verbose)


class _LibraryHandler(_StderrHandler):
    """Takes what libraries log, so that Python's last resort doesn't print it."""


def _libraries_aside(*, verbose: bool) -> None:
    """A library's warnings (tracebacks of tries that are repeated, among others) are for
    ``--verbose``: what counts comes as our error.
    """
    root = logging.getLogger()
    for handler in [item for item in root.handlers if isinstance(item, _LibraryHandler)]:
        root.removeHandler(handler)
    aside = _LibraryHandler()
    aside.setLevel(logging.WARNING if verbose else logging.CRITICAL + 1)
    aside.setFormatter(
        RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S")
    )
    root.addHandler(aside)
