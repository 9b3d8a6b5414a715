"""Which parts of a journal count, and what is said of one that can't be read?"""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from orchestrator.errors import OrchestratorError, OutputError, SourceError, StorageUnavailable
from orchestrator.store.objects.location import FileInfo, Location, open_location
from orchestrator.store.run.journal_parts import (
    LOOKS,
    READERS,
    DamagedPart,
    JournalPart,
    batched,
    looked_again,
    parts_in,
    read_parts,
    refuse,
    uncovered,
)


@pytest.fixture
def directory() -> Location:
    return open_location(f"memory://{uuid.uuid4().hex}/journal")


def part(directory: Location, data: bytes, number: int = 1) -> FileInfo:
    name = f"a0001-{number:06d}.jsonl"
    directory.child(name).write_bytes(data)
    return next(entry for entry in directory.list() if entry.name == name)


@pytest.mark.parametrize("passing", [True, False])
def test_refusal_of_a_damaged_part_says_what_to_do(passing: bool) -> None:
    damaged = DamagedPart("n", 1, "t", "it's cut", "mend it", passing=passing)
    assert str(damaged) == "it's cut. mend it"
    with pytest.raises(OrchestratorError) as refused:
        refuse(damaged)
    assert type(refused.value) is (StorageUnavailable if passing else OutputError)
    assert (refused.value.message, refused.value.remedy) == ("it's cut", "mend it")


@pytest.mark.parametrize(("gone", "missing", "looks"), [(4, True, 5), (5, True, 5), (1, False, 1)])
def test_listing_is_looked_at_anew_only_where_a_part_was_merged_away(
    gone: int, missing: bool, looks: int
) -> None:
    assert LOOKS == 5
    looked: list[int] = []

    def look() -> str:
        looked.append(1)
        if len(looked) <= gone:
            raise SourceError("gone", remedy="", details={"missing": missing})
        return "all"

    if gone < LOOKS and missing:
        assert looked_again(look) == "all"
    else:
        with pytest.raises(SourceError):
            looked_again(look)
    assert len(looked) == looks


def test_part_is_known_by_its_name_and_the_longest_of_those_that_begin_alike_counts(
    directory: Location,
) -> None:
    names = [
        "a0001-000001-000004.jsonl",
        "a0001-000001.jsonl",
        "a0001-000004.jsonl",
        "a0001-000005.jsonl",
        "a0002-000001.jsonl",
        "a0002-000002.jsonl",
        "a0002-000002-000003.jsonl",
    ]
    strangers = ["a1-1.jsonl", "a0001-000009.json", "xa0001-000009.jsonl", "a0001-000009.jsonl.tmp"]
    for name in names + strangers:
        directory.child(name).write_bytes(b"{}")
    found = parts_in(directory.list())
    assert [item.entry.name for item in found] == sorted(names)
    assert [(item.attempt, item.first, item.last) for item in uncovered(reversed(found))] == [
        (1, 1, 4),
        (1, 5, 5),
        (2, 1, 1),
        (2, 2, 3),
    ]
    assert isinstance(found[0], JournalPart)


def test_rows_hold_all_items_in_their_order() -> None:
    assert list(batched("abcde", 2)) == ["ab", "cd", "e"]
    assert list(batched("ab", 2)) == ["ab"]


def told(directory: Location, data: bytes) -> tuple[list[dict[str, Any]], list[DamagedPart]]:
    damaged: list[DamagedPart] = []
    (events,) = read_parts([part(directory, data)], damaged.append)
    return events, damaged


HEAD = b'{"event": "journal-part", "events": 2}\n'
TICK = b'{"event": "tick"}\n'


@pytest.mark.parametrize(
    ("data", "events", "why"),
    [
        (b"", 0, "it's empty"),
        (HEAD + TICK, 1, "it holds 1 of 2 events"),
        (HEAD + TICK + b"\xff\n", 1, "1 of its 3 lines can't be read, line 3 first: it isn't text"),
        (
            HEAD + b'{"event": \n' + TICK + b"7\n",
            1,
            "2 of its 4 lines can't be read, line 2 first: it isn't JSON from its character 11 on",
        ),
        (HEAD + TICK + b"7\n", 1, "1 of its 3 lines can't be read, line 3 first: it's no event"),
        (
            b"[" * 200_000,
            0,
            "1 of its 1 lines can't be read, line 1 first: it's nested without end",
        ),
    ],
)
def test_damaged_part_says_what_is_wrong_with_it_and_what_to_do(
    directory: Location, data: bytes, events: int, why: str
) -> None:
    found, (damaged,) = told(directory, data)
    assert found == [{"event": "tick"}] * events
    (entry,) = directory.list()
    assert damaged == DamagedPart(
        "a0001-000001.jsonl",
        len(data),
        entry.tag,
        f"{entry.location.shown} is damaged: {why}; what was lost of this part of the journal is missing here",
        "Restore this one file from a backup; without one nothing has to be done: the run goes on without those events",
    )


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (HEAD + TICK + TICK, 2),
        (HEAD + TICK + b"\n  \n" + TICK + TICK, 3),
        (TICK, 1),
        (b'{"event": "journal-part"}\n' + TICK, 1),
        (b'{"event": "journal-part", "events": "2"}\n' + TICK, 1),
        (HEAD + TICK + HEAD + TICK + TICK + TICK, 4),
    ],
)
def test_part_that_holds_what_it_promises_is_whole(
    directory: Location, data: bytes, events: int
) -> None:
    assert told(directory, data) == ([{"event": "tick"}] * events, [])


class NotGiven(Exception):
    """What no client knows."""


def not_given(
    directory: Location, patch: pytest.MonkeyPatch, *errors: OrchestratorError
) -> tuple[list[list[dict[str, Any]]], list[DamagedPart]]:
    """What is read of three parts of which the first ones can't be."""
    damaged: list[DamagedPart] = []
    parts = [part(directory, TICK, number) for number in (1, 2, 3)]
    refused = {entry.name: error for entry, error in zip(parts, errors, strict=False)}
    read = Location.read_bytes

    def refuses(self: Location, *arguments: Any, **options: Any) -> bytes:
        if self.name in refused:
            raise refused[self.name]
        return read(self, *arguments, **options)

    patch.setattr(Location, "read_bytes", refuses)
    return list(read_parts(parts, damaged.append)), damaged


def unknown() -> StorageUnavailable:
    error = StorageUnavailable("what is this", remedy="ask")
    error.__cause__ = NotGiven()
    return error


def test_part_that_the_store_does_not_give_is_told_and_the_others_count(
    directory: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = SourceError("no permission", remedy="ask who may")
    events, damaged = not_given(directory, monkeypatch, denied, unknown())
    assert events == [[], [], [{"event": "tick"}]]
    text = "a part of the journal can't be read, and what it tells is missing here"
    entries = directory.list()
    assert damaged == [
        DamagedPart(entry.name, len(TICK), entry.tag, f"{text}: {message}", remedy, given=False)
        for entry, message, remedy in (
            (entries[0], "no permission", "ask who may"),
            (entries[1], "what is this", "ask"),
        )
    ]


def test_part_that_may_be_given_later_is_passing_where_others_are_given(
    directory: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = StorageUnavailable("503", remedy="wait")
    _, (damaged,) = not_given(directory, monkeypatch, busy)
    assert (damaged.given, damaged.passing) == (False, True)


def test_part_that_is_gone_and_a_store_that_gives_nothing_are_errors(
    directory: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = SourceError("gone", remedy="", details={"missing": True})
    with monkeypatch.context() as patch, pytest.raises(SourceError, match="gone"):
        not_given(directory, patch, gone)
    away = [StorageUnavailable(text) for text in ("first", "second", "third")]
    with pytest.raises(StorageUnavailable, match="first"):
        not_given(directory, monkeypatch, *away)


def test_more_parts_than_are_read_ahead_come_in_their_order(directory: Location) -> None:
    entry = part(directory, TICK)
    parts = [entry] * (2 * READERS + 1)
    assert [len(events) for events in read_parts(parts, refuse)] == [1] * len(parts)
