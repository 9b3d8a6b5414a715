"""Do the journal's writers, its readers and its page speak of the same events?"""

from __future__ import annotations

import ast
import dataclasses
import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.journal.event import JournalEvent, UnknownEvent, fields_of
from orchestrator.journal.parsing import KINDS, parse
from orchestrator.journal.run_events import ProgressMade, Warned
from orchestrator.journal.worker_events import LossOfWorker, WorkerWarm
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.journal import Journal, read_journal
from tests.docs import journal_page
from tests.sources import PRODUCT, ROOT, calls, text

RECORDED = Path(__file__).with_name("recorded_journal.jsonl")
SINCE_THEN = {"proof", "edits"}
"""Fields that were added after that run: they stay absent, and nothing is written in their place."""
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**6),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=4),
    st.lists(st.one_of(st.text(max_size=3), st.integers(0, 9)), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
NAMES = sorted({item.name for kind in KINDS.values() for item in fields_of(kind)})
RECORDS = st.builds(
    lambda kind, fields: {"event": kind} | fields,
    st.one_of(st.sampled_from(sorted(KINDS)), VALUES),
    st.dictionaries(st.sampled_from([*NAMES, "at", "attempt", "t_s", "later"]), VALUES, max_size=9),
)


@functools.cache
def called() -> set[str]:
    """The kinds of events that the product makes, with or without a module before them."""
    return {
        made.attr if isinstance(made := call.func, ast.Attribute) else getattr(made, "id", "")
        for path in PRODUCT
        for call in calls(path, *(kind.__name__ for kind in KINDS.values()))
    }


def test_page_of_the_journal_says_what_the_classes_say() -> None:
    assert journal_page.PAGE.read_text() == journal_page.page(), (
        "run `python -m tests.docs.journal_page`"
    )


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.WORD)
def test_docstring_of_a_kind_speaks_only_of_fields_that_it_has(kind: type[JournalEvent]) -> None:
    assert journal_page.meanings(kind).keys() <= {item.name for item in fields_of(kind)}


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.WORD)
def test_kind_that_readers_know_is_written_somewhere(kind: type[JournalEvent]) -> None:
    assert kind.__name__ in called()


def test_kinds_are_named_by_their_classes_alone() -> None:
    """A writer or reader that names events by strings would be held by none of these tests."""
    words = re.compile(r"""\[["']event["']\]|get\(["']event["']|["']event["']:|\.word ==""")
    named = {path for path in PRODUCT if words.search(text(path))}
    journal = {ROOT / "orchestrator" / "journal" / f"{name}.py" for name in ("event", "parsing")}
    # What is posted to a webhook has a field of that name
    notices = ROOT / "orchestrator" / "driver" / "notices.py"
    run = ROOT / "orchestrator" / "store" / "run"
    assert named == {*journal, notices, run / "journal.py", run / "journal_parts.py"}


@given(RECORDS)
def test_any_record_is_read_and_nothing_of_it_is_lost(record: dict[str, Any]) -> None:
    assert parse(record).record() == record


def test_recorded_journal_of_a_real_run_is_written_again_byte_for_byte(tmp_path: Path) -> None:
    lines = RECORDED.read_text().splitlines()
    output = open_location(str(tmp_path))
    journal = Journal(output, 1)
    for line in lines:
        event = parse(json.loads(line))
        assert event.absent <= SINCE_THEN
        assert not event.other
        journal.append(event.record())
    journal.flush()
    (part,) = (tmp_path / "_tfresume" / "journal").iterdir()
    assert part.read_text().splitlines()[1:] == lines
    assert len({type(parse(record)) for record in read_journal(output)}) >= 10


def test_unknown_kind_keeps_its_word_and_its_fields() -> None:
    event = parse({"event": "later", "at": 1.5, "colour": "blue"})
    assert isinstance(event, UnknownEvent)
    assert (event.word, event.at, event.other) == ("later", 1.5, {"colour": "blue"})


def test_field_of_another_type_is_absent_and_still_shown() -> None:
    event = parse({"event": "worker_lost", "worker": "w1", "rank": "one", "cause": None})
    assert isinstance(event, LossOfWorker)
    assert (event.worker, event.rank, event.cause) == ("w1", None, "")
    assert event.lacks("rank")
    assert event.record()["rank"] == "one"


def test_numbers_that_are_not_finite_are_written_as_text() -> None:
    event = dataclasses.replace(parse({"event": "progress"}), absent=frozenset())
    assert isinstance(event, ProgressMade)
    told = dataclasses.replace(event, loss=float("nan"), values={"l": float("-inf")}).record()
    assert (told["loss"], told["values"]) == ("nan", {"l": "-inf"})


def test_field_that_says_nothing_is_left_out_where_the_class_says_so() -> None:
    warm = WorkerWarm(worker="w1", node="n", pid=1, seconds=1.0)
    assert list(warm.record()) == ["event", "worker", "node", "pid", "seconds"]
    assert dataclasses.replace(warm, place="p").record()["place"] == "p"


def test_stamp_comes_first() -> None:
    told = Warned(reason="hot").stamped(1.5, 2, 0.5).record()
    assert list(told.items()) == [
        ("at", 1.5),
        ("attempt", 2),
        ("t_s", 0.5),
        ("event", "warning"),
        ("reason", "hot"),
    ]
