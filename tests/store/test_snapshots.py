"""Is the journal's end all that is read, and never a snapshot believed that isn't the journal's?"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.driver.past import KINDS
from orchestrator.errors import OutputError, SourceError, StorageUnavailable
from orchestrator.journal.folding import Folds, frozen, take_all
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run import snapshots
from orchestrator.store.run.journal import MERGE, Journal, read_journal
from orchestrator.store.run.journal_parts import JournalPart
from orchestrator.store.run.snapshots import (
    Reading,
    keep_snapshot,
    read_folds,
    tail_of,
    write_snapshot,
)
from tests.fakes import journals_at_random

PARTS = 8_000
"""A month's journal as older versions left it."""


@pytest.fixture
def output() -> Location:
    return open_location(f"memory://{uuid.uuid4().hex}")


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often what was asked of the store."""
    told: Counter[str] = Counter()
    call = Location.call

    def counted(self: Location, action: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        told[method] += 1
        return call(self, action, method, *args, **kwargs)

    monkeypatch.setattr(Location, "call", counted)
    yield told
    assert told


def place(output: Location, name: str) -> Location:
    return output.child("_tfresume", "journal", name)


def put(output: Location, attempt: int, first: int, events: list[dict[str, Any]]) -> None:
    """One part for each event."""
    for number, event in enumerate(events, first):
        lines = [json.dumps({"event": "journal-part", "writer": "w"}), json.dumps(event), ""]
        name = f"a{attempt:04d}-{number:06d}.jsonl"
        output.fs.pipe_file(place(output, name).path, "\n".join(lines).encode())


def names(output: Location) -> list[str]:
    return [entry.name for entry in output.child("_tfresume", "journal").list()]


def states(output: Location) -> dict[str, Any]:
    return {name: frozen(fold) for name, fold in read_folds(output, KINDS).folds.items()}


def from_the_beginning(output: Location, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    with monkeypatch.context() as patch:
        patch.setattr(snapshots, "_usable", lambda *_: iter(()))
        return states(output)


def of(attempt: int, seed: int, events: int = 20) -> list[dict[str, Any]]:
    return [
        record | {"attempt": attempt, "at": record["at"] + 1e5 * attempt}
        for record in journals_at_random.records(seed, events, attempts=1)
    ]


@pytest.mark.slow
def test_a_months_journal_costs_a_reader_with_a_snapshot_a_few_requests(
    output: Location, requests: Counter[str]
) -> None:
    directory = output.child("_tfresume", "journal")
    for number in range(1, PARTS + 1):
        output.fs.pipe_file(directory.child(f"a0001-{number:06d}.jsonl").path, b"")
    folds: Folds = {name: kind() for name, kind in KINDS.items()}
    take_all(folds, of(1, 1, 100))
    keep_snapshot(output, Reading(folds, {1: PARTS}, PARTS, True))
    put(output, 1, PARTS + 1, of(1, 2, 5))
    requests.clear()
    again = read_folds(output, KINDS)
    assert (requests["ls"], requests["cat_file"]) == (1, 1 + 5)
    assert again.covers == {1: PARTS + 5}


@pytest.mark.slow
def test_a_long_runs_journal_stays_few_objects_and_every_reader_reads_few_of_them(
    output: Location, requests: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    merge = 4
    monkeypatch.setattr("orchestrator.store.run.journal.MERGE", merge)
    journal = Journal(output, 1, lambda: write_snapshot(output, KINDS))
    most = reads = 0
    events = of(1, 3, 2 * merge**3 + 7)
    for number, event in enumerate(events):
        journal.append(event, durable=True)
        if number % 5:
            continue
        most = max(most, len(names(output)))
        requests.clear()
        read_folds(output, KINDS)
        reads = max(reads, requests["cat_file"])
    assert most <= 2 * merge + 2 * merge + snapshots.KEPT + merge
    assert reads <= 1 + merge
    assert names(output)[:2] == ["a0001-000001-000016.jsonl", "a0001-000017-000032.jsonl"]
    assert [event["t_s"] for event in read_journal(output)] == [event["t_s"] for event in events]


@pytest.mark.slow
def test_snapshot_and_tail_say_what_the_journal_says_at_every_event_of_several_drivers(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.store.run.journal.MERGE", 3)
    used = 0
    for attempt in (1, 2, 3):
        journal = Journal(output, attempt, lambda: write_snapshot(output, KINDS))
        for event in of(attempt, attempt, 11):
            journal.append(event, durable=True)
            assert states(output) == from_the_beginning(output, monkeypatch)
            used += any(name.endswith(".snapshot.json") for name in names(output))
    assert used > 25


def spoil(output: Location, how: str) -> None:
    (newest,) = [name for name in names(output) if name.endswith(".snapshot.json")]
    data = place(output, newest).read_bytes()
    head, state, end = data.split(b"\n")
    told = json.loads(head)
    match how:
        case "cut off":
            data = data[: len(data) // 2]
        case "empty":
            data = b""
        case "a bit changed":
            data = data.replace(b'"useful"', b'"usefuI"') if b'"useful"' in data else data[:-2]
        case "of a later version":
            data = b"\n".join([json.dumps(told | {"version": "99.0"}).encode(), state, end])
        case "of other folds":
            data = b"\n".join([json.dumps(told | {"shapes": {}}).encode(), state, end])
        case "not JSON":
            data = b"\xff\xfe\n[]\n"
        case "of another kind":
            data = b"[1]\n[2]\n"
    place(output, newest).write_bytes(data)


@pytest.mark.parametrize(
    "how",
    [
        "cut off",
        "empty",
        "a bit changed",
        "of a later version",
        "of other folds",
        "not JSON",
        "of another kind",
    ],
)
def test_snapshot_that_cannot_be_believed_is_passed_over(
    output: Location, requests: Counter[str], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    put(output, 1, 1, of(1, 1))
    write_snapshot(output, KINDS)
    requests.clear()
    before = states(output)
    assert requests["cat_file"] == 1
    spoil(output, how)
    requests.clear()
    assert states(output) == before == from_the_beginning(output, monkeypatch)
    assert requests["cat_file"] >= 1 + 20


def test_events_of_a_driver_that_woke_up_late_are_not_hidden_and_the_next_snapshot_has_them(
    output: Location, requests: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(output, 1, 1, of(1, 1))
    put(output, 2, 1, of(2, 2))
    write_snapshot(output, KINDS)
    put(output, 1, 21, of(1, 3, 4))
    assert states(output) == from_the_beginning(output, monkeypatch)
    write_snapshot(output, KINDS)
    put(output, 2, 21, of(2, 4, 4))
    requests.clear()
    found = states(output)
    assert requests["cat_file"] == 1 + 4
    assert found == from_the_beginning(output, monkeypatch)


def test_driver_that_woke_up_late_leaves_its_successors_snapshot(output: Location) -> None:
    put(output, 1, 1, of(1, 1))
    stale = read_folds(output, KINDS)
    put(output, 2, 1, of(2, 2))
    write_snapshot(output, KINDS)
    keep_snapshot(output, stale)
    keep_snapshot(output, stale)
    assert [name for name in names(output) if "snapshot" in name] == [
        "a0001-000020.snapshot.json",
        "a0002-000020.snapshot.json",
    ]
    assert read_folds(output, KINDS).parts == 0


@pytest.mark.parametrize("lacking", [1, 10, 19])
def test_listing_that_lacks_a_part_makes_no_snapshot(
    output: Location, monkeypatch: pytest.MonkeyPatch, lacking: int
) -> None:
    put(output, 1, 1, of(1, 1))
    listed = Location.list

    def incomplete(self: Location) -> tuple[Any, ...]:
        return tuple(entry for entry in listed(self) if f"{lacking:06d}" not in entry.name)

    with monkeypatch.context() as patch:
        patch.setattr(Location, "list", incomplete)
        write_snapshot(output, KINDS)
    assert not [name for name in names(output) if "snapshot" in name]
    assert states(output) == from_the_beginning(output, monkeypatch)


def test_part_merged_across_what_a_snapshot_covers_is_read_with_all_before_it(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.store.run.journal.MERGE", 8)
    journal = Journal(output, 1)
    events = of(1, 1, 8)
    for event in events[:5]:
        journal.append(event, durable=True)
    write_snapshot(output, KINDS)
    for event in events[5:]:
        journal.append(event, durable=True)
    assert names(output) == ["a0001-000001-000008.jsonl", "a0001-000005.snapshot.json"]
    assert states(output) == from_the_beginning(output, monkeypatch)
    assert read_folds(output, KINDS).covers == {1: 8}


def test_damaged_part_after_a_snapshot_is_named_and_one_before_it_does_no_harm(
    output: Location,
) -> None:
    put(output, 1, 1, of(1, 1))
    write_snapshot(output, KINDS)
    place(output, "a0001-000003.jsonl").write_bytes(b'{"event": "cut')
    assert read_folds(output, KINDS).parts == 0
    place(output, "a0001-000021.jsonl").write_bytes(b'{"event": "cut')
    (damaged,) = read_folds(output, KINDS).damaged
    assert "a0001-000021.jsonl is damaged" in damaged.message


def test_store_that_refuses_a_snapshot_keeps_the_journal(
    output: Location, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: Location, data: bytes) -> None:
        raise OutputError("full", remedy="make room")

    monkeypatch.setattr(Location, "write_bytes", refuse)
    journal = Journal(output, 1, lambda: write_snapshot(output, KINDS))
    for event in of(1, 1, MERGE):
        journal.append(event, durable=True)
    told = "the journal's snapshot isn't written for now: full. make room"
    assert [record.getMessage() for record in caplog.records] == [told]
    assert names(output) == [f"a0001-000001-{MERGE:06d}.jsonl"]


def test_snapshots_of_several_drivers_follow_one_another_and_the_newest_two_stay(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Reading] = []
    keep = snapshots._keep

    def counted(place: Location, reading: Reading) -> None:
        kept.append(reading)
        keep(place, reading)

    monkeypatch.setattr(snapshots, "_keep", counted)
    put(output, 1, 1, of(1, 1, 8)[:4])
    write_snapshot(output, KINDS)
    put(output, 1, 5, of(1, 1, 8)[4:5])
    write_snapshot(output, KINDS)
    put(output, 2, 1, of(2, 2, 8)[:1])
    write_snapshot(output, KINDS)
    assert [reading.parts for reading in kept] == [4, 1, 1]
    write_snapshot(output, KINDS)
    assert len(kept) == 3, "nothing has happened since"
    assert [name for name in names(output) if "snapshot" in name] == [
        "a0001-000005.snapshot.json",
        "a0002-000001.snapshot.json",
    ]
    put(output, 2, 2, of(2, 2, 8)[1:3])
    assert read_folds(output, KINDS).parts == 2
    assert states(output) == from_the_beginning(output, monkeypatch)

    # The newest one isn't given: the one before counts
    exists = Location.read_if_exists

    def refuses(self: Location) -> bytes | None:
        if self.name == "a0002-000001.snapshot.json":
            raise SourceError("no permission", remedy="")
        return exists(self)

    monkeypatch.setattr(Location, "read_if_exists", refuses)
    assert read_folds(output, KINDS).parts == 3


def test_reading_that_fails_makes_no_snapshot_and_is_told(
    output: Location, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: Any) -> Any:
        raise StorageUnavailable("503")

    monkeypatch.setattr(snapshots, "read_folds", away)
    write_snapshot(output, KINDS)
    told = "the journal's snapshot isn't written for now: 503"
    assert [record.getMessage() for record in caplog.records] == [told]


def lying(*numbers: tuple[int, int]) -> list[JournalPart]:
    entry: Any = None
    return [JournalPart(1, first, last, entry) for first, last in numbers]


@pytest.mark.parametrize(
    ("there", "tail"),
    [
        (((1, 1), (2, 2), (3, 3)), ((3, 3),)),
        (((2, 4), (3, 3), (4, 4)), ((3, 3), (4, 4))),
        (((2, 4), (4, 4)), None),
        (((2, 5), (3, 4)), None),
        (((2, 4),), None),
        (((1, 1), (2, 2)), ()),
    ],
)
def test_part_that_covers_some_of_a_snapshot_is_done_without_only_where_all_else_lies_there(
    there: tuple[tuple[int, int], ...], tail: tuple[tuple[int, int], ...] | None
) -> None:
    found = tail_of(lying(*there), {1: 2})
    assert found == (None if tail is None else lying(*tail))
