"""Which commands does ``tfresume`` have, and how does each end?

Rule: a command parses, calls one engine and prints; the work is elsewhere. Engines are imported
inside the commands, so that ``--help`` is quick and works where TensorFlow can't be imported. Every
command returns its exit code; a deliberate error becomes one message with its remedy and the exit
code of its kind, here and nowhere else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Group
from rich.markup import escape

from launch.terminal import (
    EXIT_DONE,
    EXIT_REFUSED,
    configure_logging,
    guarded,
    message_console,
    print_json,
)
from orchestrator.redaction import holds_credential, redacted

RUNNING = Group.create_ordered("Run")
LOOKING = Group.create_ordered("Check and inspect")
TAKING_OUT = Group.create_ordered("Export")
WATCHING = Group.create_ordered("Monitor and stop")
SETTING_UP = Group.create_ordered("Set up")

_COMMANDS = {
    RUNNING: ("demo", "resume", "submit"),
    LOOKING: ("inspect", "check", "verify", "infer"),
    TAKING_OUT: ("export", "salvage"),
    WATCHING: ("evaluate", "status", "runs", "report", "checkpoints", "stop", "logs"),
    SETTING_UP: ("doctor", "config", "render", "completion"),
}
"""Each command, a function in the module of ``launch.commands`` that is called as it is, by the
group that ``--help`` shows it in.
"""

HELP = """Continue TensorFlow 1 training on Ray from a .meta file and a checkpoint.

Try it first:
    tfresume demo

Your own run:
    tfresume check gs://bucket/run
    tfresume resume gs://bucket/run --output gs://bucket/more --steps 1000

SOURCE is a .meta URL, a checkpoint prefix or a directory; RUN is a run's output
URL. Any fsspec URL works: a path, gs://, s3://, az://.

Exit codes: 0 done, 1 failed while running (the same command goes on from the
last checkpoint), 2 refused with nothing started, 130/143 stopped by a signal.
"""


def build_app(tokens: Sequence[str] = ()) -> App:
    """The command tree; where ``tokens`` name no command all are imported, to be told in a line
    each.
    """
    app = App(
        name="tfresume",
        help=HELP,
        help_format="plaintext",
        version=_version,
        help_on_error=False,
        # Ctrl-C is told by ``guarded`` as every other end is, in JSON too
        suppress_keyboard_interrupt=False,
    )
    for group, commands in _COMMANDS.items():
        for name in commands:
            # By name: a command's module, and with it the flags of a run, is imported when that
            # command is called
            app.command(f"launch.commands.{name}:{name}", name=name, group=group)
    if not any(tokens[:1] == [name] for commands in _COMMANDS.values() for name in commands):
        app.resolved_commands()
    return app


def _version() -> str:
    from launch.versions import versions_text

    return versions_text()


def run(tokens: Sequence[str]) -> int:
    """Run one command line and return its exit code; never raises but for SystemExit of
    ``--help``'s kind.
    """
    _quiet_libraries()
    configure_logging(
        verbose="--verbose" in tokens or "-v" in tokens, quiet="--quiet" in tokens or "-q" in tokens
    )
    as_json = "--json" in tokens

    def work() -> int:
        try:
            outcome = build_app(list(tokens))(
                list(tokens),
                exit_on_error=False,
                print_error=False,
                result_action="return_value",
                verbose=False,
            )
        except CycloptsError as error:
            return _refused_command_line(error, tokens, as_json=as_json)
        return outcome if isinstance(outcome, int) else EXIT_DONE

    return guarded(work, as_json=as_json)


def _refused_command_line(error: CycloptsError, tokens: Sequence[str], *, as_json: bool) -> int:
    console = message_console()
    # What was typed is quoted: it may hold credentials, and brackets that would be taken for markup
    said = redacted(
        str(error).strip(), [word for word in tokens if holds_credential(word.rpartition("=")[2])]
    )
    console.print(f"[red bold]error:[/red bold] {escape(said)}")
    help_of = " ".join(["tfresume", *(error.command_chain or ())[:1], "--help"])
    console.print(f"[bold]what to do:[/bold] see `{escape(help_of)}`")
    if as_json:
        print_json(
            {"status": "refused", "error": {"kind": "ConfigError", "message": said, "details": {}}}
        )
    return EXIT_REFUSED


def _quiet_libraries() -> None:
    """Settings that libraries read at import: no chatter on the terminal, no minutes of waiting for
    an endpoint that isn't there.
    """
    for name, value in _LIBRARY_SETTINGS.items():
        os.environ.setdefault(name, value)


_LIBRARY_SETTINGS = {
    # else gcsfs waits 28-195 s per operation where storage control is unreachable
    "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    # Ray's own choice for what it will do one day, and without its warning: a worker without GPUs
    # keeps CUDA_VISIBLE_DEVICES as the operator has set it
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # TensorFlow's lines about the instructions that this processor has, in each process anew
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
