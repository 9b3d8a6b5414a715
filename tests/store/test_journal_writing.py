"""Are a journal's parts what was noted, and are they merged without a doubt?"""

from __future__ import annotations

import json
import re
import uuid
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pytest

from orchestrator.errors import StorageUnavailable
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run import journal as journal_module
from orchestrator.store.run.journal import BUFFERED_EVENTS, Journal, read_journal, read_journal_tail


@pytest.fixture
def output() -> Location:
    return open_location(f"memory://{uuid.uuid4().hex}")


def place(output: Location) -> Location:
    return output.child("_tfresume", "journal")


def names(output: Location) -> list[str]:
    return [entry.name for entry in place(output).list()]


def lines(output: Location, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in place(output).child(name).read_bytes().splitlines()]


def noted(journal: Journal, *numbers: int) -> None:
    for number in numbers:
        journal.append({"event": "tick", "number": number})
        journal.flush()


def numbers(output: Location) -> list[int]:
    return [event["number"] for event in read_journal(output)]


def failing(patch: pytest.MonkeyPatch, times: int) -> list[StorageUnavailable]:
    """So many creates that the store refuses; the errors that are still to come."""
    failures = [StorageUnavailable("503") for _ in range(times)]
    real = journal_module.create_once  # type: ignore[attr-defined]

    def sometimes(*arguments: Any) -> None:
        if failures:
            raise failures.pop()
        real(*arguments)

    patch.setattr(journal_module, "create_once", sometimes)
    return failures


def test_events_wait_for_company_and_each_part_says_who_wrote_how_many(output: Location) -> None:
    journal = Journal(output, 3)
    for number in range(BUFFERED_EVENTS - 1):
        journal.append({"event": "tick", "number": number})
    assert names(output) == []
    journal.append({"event": "tock", "attempt": 2})
    assert names(output) == ["a0003-000001.jsonl"]
    header, first, *_, last = lines(output, "a0003-000001.jsonl")
    assert first == {"attempt": 3, "event": "tick", "number": 0}
    assert last == {"attempt": 2, "event": "tock"}, "an event that names its own keeps it"
    assert header == {
        "event": "journal-part",
        "writer": header["writer"],
        "events": BUFFERED_EVENTS,
    }
    assert re.fullmatch(r"[0-9a-f]{32}", header["writer"]), "what tells its bytes from another's"
    noted(Journal(output, 4), 1)
    assert lines(output, "a0004-000001.jsonl")[0]["writer"] != header["writer"]


def test_flush_after_one_that_failed_writes_the_same_bytes_and_then_what_came_later(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(output, 1)
    failures = failing(monkeypatch, 1)
    with pytest.raises(StorageUnavailable):
        noted(journal, 1)
    noted(journal, 2)
    assert not failures
    found = [[event.get("number") for event in lines(output, name)[1:]] for name in names(output)]
    assert found == [[1], [2]]


def test_parts_and_then_merged_ones_come_together_and_only_they_are_deleted(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "MERGE", 2)
    deleted: list[str] = []
    delete = Location.delete

    def counted(self: Location) -> None:
        deleted.append(self.name)
        delete(self)

    monkeypatch.setattr(Location, "delete", counted)
    merged: list[list[str]] = []
    journal = Journal(output, 1, lambda: merged.append(names(output)))
    noted(journal, 1, 2)
    assert names(output) == ["a0001-000001-000002.jsonl"]
    assert merged == [["a0001-000001-000002.jsonl", "a0001-000001.jsonl", "a0001-000002.jsonl"]]
    noted(journal, 3, 4)
    assert names(output) == ["a0001-000001-000004.jsonl"]
    noted(journal, 5, 6, 7)
    assert names(output) == [
        "a0001-000001-000004.jsonl",
        "a0001-000005-000006.jsonl",
        "a0001-000007.jsonl",
    ]
    assert sorted(deleted) == [
        "a0001-000001-000002.jsonl",
        "a0001-000001.jsonl",
        "a0001-000002.jsonl",
        "a0001-000003-000004.jsonl",
        "a0001-000003.jsonl",
        "a0001-000004.jsonl",
        "a0001-000005.jsonl",
        "a0001-000006.jsonl",
    ]
    assert numbers(output) == [1, 2, 3, 4, 5, 6, 7]
    assert lines(output, "a0001-000001-000004.jsonl")[0]["events"] == 4


def test_merge_that_fails_is_told_and_tried_again_at_the_next_flush(
    output: Location, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(journal_module, "MERGE", 2)
    journal = Journal(output, 1)
    noted(journal, 1)
    journal.append({"event": "tick", "number": 2})
    real = journal_module.Journal._merge
    monkeypatch.setattr(
        journal_module.Journal, "_merge", lambda self: (failing(monkeypatch, 1), real(self))
    )
    journal.flush()
    told = "the journal's parts stay apart for now: 503"
    assert [record.getMessage() for record in caplog.records] == [told]
    assert names(output) == ["a0001-000001.jsonl", "a0001-000002.jsonl"]
    monkeypatch.setattr(journal_module.Journal, "_merge", real)
    noted(journal, 3)
    assert names(output) == ["a0001-000001-000003.jsonl"]
    assert numbers(output) == [1, 2, 3]


@pytest.mark.parametrize(("more", "parts"), [(0, 1), (-1, 2)])
def test_merged_parts_that_are_too_large_together_stay_apart(
    output: Location, monkeypatch: pytest.MonkeyPatch, more: int, parts: int
) -> None:
    monkeypatch.setattr(journal_module, "MERGE", 2)
    journal = Journal(output, 1)
    noted(journal, 1, 2)
    (first,) = place(output).list()
    monkeypatch.setattr(journal_module, "LARGEST_BYTES", 2 * first.size_bytes + more)
    noted(journal, 3, 4)
    assert len(names(output)) == parts
    assert numbers(output) == [1, 2, 3, 4]


def test_value_of_any_kind_is_written_as_text_at_least(output: Location) -> None:
    values = {"path": PurePosixPath("a/b"), "none": None, "yes": True, "number": np.float32(0.5)}
    Journal(output, 1).append({"event": "tick", **values}, durable=True)
    (read,) = read_journal(output)
    assert read == {
        "attempt": 1,
        "event": "tick",
        "path": "a/b",
        "none": None,
        "yes": True,
        "number": 0.5,
    }


def test_reader_of_the_end_reads_a_few_parts_at_a_time_until_it_has_enough(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted(Journal(output, 1), *range(10))
    asked: list[int] = []
    real = journal_module.read_parts  # type: ignore[attr-defined]

    def counted(parts: Any, tell: Any) -> Any:
        asked.append(len(parts))
        return real(parts, tell)

    def last(events: int) -> tuple[list[int], list[int]]:
        asked.clear()
        found = read_journal_tail(output, events)
        return [event["number"] for event in found], list(asked)

    monkeypatch.setattr(journal_module, "read_parts", counted)
    assert last(4) == ([6, 7, 8, 9], [4])
    assert last(5) == ([5, 6, 7, 8, 9], [4, 4])
    assert last(100) == (list(range(10)), [4, 4, 2])
    assert last(0) == ([], [])
    asked.clear()
    assert numbers(output) == list(range(10))
    assert asked == [10]
