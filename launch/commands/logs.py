"""The command ``logs``: what has happened in a run?"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from launch.commands.options import Looks
from launch.terminal import EXIT_DONE, EXIT_FAILED, message_console, print_json, write_text
from orchestrator.redaction import redacted

if TYPE_CHECKING:
    from orchestrator.store.objects.location import Location

FOLLOW_EVERY_S = 1.0
"""How often a followed journal is listed: a person notices more, and a store bills for fewer."""
log = logging.getLogger("tfresume")
LAST_WORDS = 3
"""Events at a journal's end among which the run's end is."""


def logs(
    run: str,
    /,
    *,
    follow: Annotated[
        bool,
        Parameter(
            name=["--follow", "-f"],
            negative=(),
            show_default=False,
            help="Keep showing new events until the run ends.",
        ),
    ] = False,
    lines: Annotated[
        int,
        Parameter(
            name=["--lines", "-n"],
            validator=Number(gte=0),
            help="Show only the newest N events; 0 shows all.",
        ),
    ] = 0,
    worker: Annotated[
        str | None, Parameter(help="Show only events that name this worker, such as w0002.")
    ] = None,
    address: Annotated[
        str | None,
        Parameter(help="Job server: show what the run's latest job wrote instead of its journal."),
    ] = None,
    looks: Looks = Looks(),  # noqa: B008  frozen
) -> int:
    """Show what happened in a run: its journal, or its Ray job's output.

    For example:

        tfresume logs gs://b/more -n 50
        tfresume logs gs://b/more --follow
        tfresume logs gs://b/more --worker w0002
        tfresume logs gs://b/more --address http://HEAD:8265 --follow

    Args:
        run: A run's output URL.
    """
    if address is not None:
        return _job_output(run, address, follow=follow)
    from launch.runs.status import no_run
    from launch.text.log_text import about, log_lines
    from orchestrator.store.objects.location import open_location
    from orchestrator.store.run.journal import read_journal, read_journal_tail
    from orchestrator.store.run.run_record import read_run_record

    output = open_location(run)
    # What is followed goes on where this one read ends, whatever of it is shown
    whole = follow or worker is not None or not lines
    every = read_journal(output) if whole else read_journal_tail(output, lines)
    events = (every if worker is None else about(every, worker))[-lines:]
    if not events and read_run_record(output) is None:
        raise no_run(output)
    if looks.json:
        print_json({"run": output.shown, "events": events})
        return EXIT_DONE
    if not events:
        told = f"names {worker}" if every else "has happened"
        message_console().print(f"nothing in the journal of {output.shown} {told}", markup=False)
    _write(log_lines(events))
    if follow:
        with following(output.shown):
            _follow(output, every, worker)
    return EXIT_DONE


@contextmanager
def following(run: str) -> Iterator[None]:
    """Ctrl-C ends only the looking; whoever presses it is told what goes on, and how to end it."""
    try:
        yield
    except KeyboardInterrupt:
        log.warning(
            "no longer following: the run goes on; `tfresume stop %s` saves and ends it",
            redacted(run),
        )
        raise


def _follow(output: Location, events: list[dict[str, Any]], worker: str | None) -> None:
    """Write what is added to the journal's ``events`` until the newest attempt has ended."""
    from launch.text.log_text import about, log_lines
    from orchestrator.store.run.journal import read_journal

    while not _ended(events):
        time.sleep(FOLLOW_EVERY_S)
        shown, events = len(events), read_journal(output)
        added = events[shown:]
        _write(log_lines(added if worker is None else about(added, worker)))


def _ended(events: list[dict[str, Any]]) -> bool:
    from launch.runs.history import history

    # a last sign of progress may follow the end, and so may the next attempt
    return history(events[-LAST_WORDS:]).finish is not None


def _write(lines: list[str]) -> None:
    write_text("".join(line + "\n" for line in lines))


def _job_output(run: str, address: str, *, follow: bool) -> int:
    from launch.jobs.plan import exit_code_of, submission_name
    from launch.jobs.server import JobServer
    from launch.jobs.spelling import one_spelling
    from orchestrator.errors import ConfigError

    server = JobServer(address)
    job = server.find(submission_name(one_spelling(run, Path.cwd())))
    if job is None:
        raise ConfigError(
            f"the job server at {server.address} knows no job for {redacted(run)}",
            remedy="Was it submitted to another cluster, or with another --output? `tfresume logs RUN` alone reads the journal",
        )
    if not follow:
        write_text(server.logs(job.submission_id))
        return EXIT_DONE
    with following(run):
        state = server.follow(job.submission_id, write_text)
    return EXIT_DONE if state.status == "SUCCEEDED" else exit_code_of(state) or EXIT_FAILED
