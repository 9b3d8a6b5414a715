"""Does a person see how far the run is, and every incident once, with and without a terminal?"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
from rich.console import Console

from launch.terminal import configure_logging
from launch.text.progress import (
    LiveProgress,
    LogProgress,
    event_text,
    progress_observer,
    progress_text,
)
from orchestrator.driver.observer import RunProgress
from orchestrator.journal.group_events import RowsMoved
from orchestrator.journal.parsing import parse
from tests.launch.journals import finish, loss_of_rank_1, save, whole_run

AT_1000 = RunProgress(
    step=1000,
    loss=0.25,
    steps_per_s=50.0,
    checkpoint="a0001-g0001/model.ckpt-900",
    world_size=2,
    until=2000,
)


def test_progress_text_says_step_loss_rate_time_left_and_last_checkpoint() -> None:
    text = progress_text(AT_1000)
    for part in (
        "step 1,000 of 2,000",
        "loss 0.25",
        "50 steps/s",
        "20 s left",
        "2 workers",
        "saved model.ckpt-900",
    ):
        assert part in text


def test_progress_text_of_what_is_not_known_yet_leaves_it_out() -> None:
    text = progress_text(
        RunProgress(step=0, loss=None, steps_per_s=0.0, checkpoint=None, world_size=1, until=10)
    )
    assert "loss" not in text
    assert "steps/s" not in text
    assert "1 worker ·" in text
    assert "nothing saved yet" in text


@pytest.mark.parametrize(("start", "cells"), [(0, 10), (1000, 0), (500, 7)])
def test_progress_text_bar_counts_from_the_start_of_the_run(start: int, cells: int) -> None:
    assert progress_text(AT_1000, start).count("━") == cells


def test_event_text_of_an_incident_says_who_and_what_it_cost() -> None:
    (incident,) = (event for event in loss_of_rank_1() if event["event"] == "incident")
    text = event_text(parse(incident))
    assert text is not None
    assert "rank 1" in text
    assert "0.41 s" in text


@pytest.mark.parametrize(
    ("proof", "more"),
    [
        ({"verdict": "equal", "told": "equal to one process"}, "\nequal to one process"),
        # told as a warning
        ({"verdict": "differs", "told": "differs by 1e-3"}, ""),
        (None, ""),
    ],
)
def test_event_text_of_an_attempt_tells_its_proof(proof: dict[str, str] | None, more: str) -> None:
    begun = {"event": "attempt", "attempt": 1, "start_step": 500, "until": 2000, "proof": proof}
    assert event_text(parse(begun)) == f"attempt 1: step 500 to 2,000{more}"


def test_event_text_covers_every_event_that_a_person_waits_for() -> None:
    told = {event["event"] for event in whole_run() if event_text(parse(event)) is not None}
    assert told >= {"attempt", "generation", "incident", "save_committed", "finish"}
    assert "progress" not in told


@pytest.mark.parametrize(
    ("reason", "more"), [("SIGINT", "; Ctrl-C again ends it at once"), ("SIGTERM", "")]
)
def test_event_text_of_a_stop_says_what_is_waited_for(reason: str, more: str) -> None:
    text = event_text(
        parse({"event": "stopping", "reason": reason, "boundary": 1266, "grace_s": 25})
    )
    assert text == f"stopping ({reason}), after a last save at step 1,266{more}"


def test_event_text_of_a_stop_without_a_save_promises_none() -> None:
    assert (
        event_text(
            parse({"event": "stopping", "reason": "stop request", "boundary": 1266, "grace_s": 0})
        )
        == "stopping (stop request)"
    )


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append((record.levelname, record.getMessage()))


@pytest.fixture
def lines() -> Iterator[Lines]:
    logger, handler = logging.getLogger("tfresume"), Lines()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_log_progress_is_written_every_ten_seconds_and_at_the_end(lines: Lines) -> None:
    clock = iter([0.0, 3.0, 9.9, 10.0, 11.0])
    observer = LogProgress(now=lambda: next(clock))
    for step in (1, 2, 3, 4, 5):
        observer.progress(RunProgress(step, None, 1.0, None, 1, until=5))
    assert [message.split(" of")[0] for _, message in lines.said] == ["step 1", "step 4", "step 5"]


def test_log_progress_events_are_lines_and_the_rest_is_for_verbose(lines: Lines) -> None:
    observer = LogProgress()
    for event in [*loss_of_rank_1(), *save(40, 1100), finish(50, 1100)]:
        observer.event(event)
    assert {level for level, message in lines.said if "worker_lost" in message} == {"DEBUG"}
    assert any(
        "saved a0001-g0002/model.ckpt-1100" in message
        for level, message in lines.said
        if level == "INFO"
    )


def test_live_progress_keeps_events_and_leaves_the_terminal_clean() -> None:
    screen = io.StringIO()
    observer = LiveProgress(Console(file=screen, force_terminal=True, width=120))
    for event in whole_run():
        observer.event(event)
        observer.progress(AT_1000)
    observer.close()
    shown = screen.getvalue()
    assert shown.count("incident:") == 1
    assert "step 1,000 of 2,000" in shown
    assert "\x1b[?25h" in shown  # the cursor is back


def test_live_progress_hides_credentials() -> None:
    screen = io.StringIO()
    LiveProgress(Console(file=screen, force_terminal=True, width=200)).event(
        {**finish(1, 2), "reason": "s3://AKIA1:geheim123@b/x is gone"}
    )
    assert "geheim123" not in screen.getvalue()


@pytest.mark.parametrize(
    ("terminal", "quiet", "kind"),
    [(True, False, LiveProgress), (False, False, LogProgress), (True, True, LogProgress)],
)
def test_progress_observer_fits_the_terminal(terminal: bool, quiet: bool, kind: type) -> None:
    assert isinstance(
        progress_observer(Console(file=io.StringIO(), force_terminal=terminal), quiet=quiet), kind
    )


def test_warning_is_shown_also_where_only_warnings_are(caplog: pytest.LogCaptureFixture) -> None:
    configure_logging(quiet=True)
    logger = logging.getLogger("tfresume")
    logger.addHandler(caplog.handler)
    LogProgress().event({"event": "warning", "reason": "2 slots start from their initial values"})
    logger.removeHandler(caplog.handler)
    assert [(item.levelname, item.message) for item in caplog.records] == [
        ("WARNING", "warning: 2 slots start from their initial values")
    ]


def test_counter_that_stands_still_is_told_with_what_goes_on_meanwhile() -> None:
    told = event_text(
        parse({"event": "counter_stands", "step": 9, "position": 1200, "seconds": 61.0})
    )
    assert told is not None
    assert "has stood at 9 for 61 s" in told or "has stood at 9 for 1 min" in told
    assert "1,200 batches so far" in told


def test_attempt_is_told_with_what_its_starter_calls_it() -> None:
    record = {"event": "attempt", "attempt": 3, "start_step": 5, "until": 9}
    assert event_text(parse(record)) == "attempt 3: step 5 to 9"
    told = event_text(parse({**record, "outer_attempt": "tfresume-x7k2p"}))
    assert told == "attempt 3 (tfresume-x7k2p): step 5 to 9"


def test_event_text_of_rows_that_moved_says_how_many_and_how_large() -> None:
    moved = RowsMoved(
        generation=3, givers=("w0001",), takers=("w0002",), rows=1200, size_bytes=2_000_000
    )

    assert event_text(moved) == "1,200 rows of tables moved between workers (2 MB)"
