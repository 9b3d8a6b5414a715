"""Does a damaged part of the journal hide nothing but what is damaged of it, and is it named?

With real files that are really damaged; where another user's rights are needed, with a store that
refuses one object.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import stamina
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.driver.past import KINDS, Traces
from orchestrator.errors import OutputError, StorageUnavailable
from orchestrator.journal.folding import frozen
from orchestrator.store.checkpoints.source import resolve_source
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.journal import Journal, read_journal, read_journal_tail
from orchestrator.store.run.journal_parts import DamagedPart
from orchestrator.store.run.lineage import record_takeover
from orchestrator.store.run.snapshots import read_folds, write_snapshot
from tests.store.runs import saved

EVENTS = 4
"""Events of each part, and parts."""


@pytest.fixture
def output(tmp_path: Path) -> Location:
    found = open_location(str(tmp_path / "more"))
    journal = Journal(found, 1)
    for number in range(1, EVENTS * EVENTS + 1):
        journal.append({"event": "worker_start", "at": 1.0 * number, "worker": f"w{number:04d}"})
        if number % EVENTS == 0:
            journal.flush()
    return found


def part(output: Location, number: int) -> Path:
    return Path(output.child("_tfresume", "journal", f"a0001-{number:06d}.jsonl").path)


def cut_within_its_last_line(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def cut_between_two_lines(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def garbage_within_a_line(path: Path) -> None:
    data = bytearray(path.read_bytes())
    middle = data.rindex(b"worker_start")
    data[middle - 2 : middle + 3] = b"\xff\xfe\x00\x80{"
    path.write_bytes(data)


def zeros_at_the_end(path: Path) -> None:
    """As a file system leaves a file whose length was written before its bytes."""
    data = path.read_bytes()
    path.write_bytes(data[:-30] + bytes(30))


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def other_bytes(path: Path) -> None:
    path.write_bytes(os.urandom(1 << 12).replace(b"{", b"}"))


def nested_without_end(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:-1], b"[" * 100_000, b"\n"]))


def of_another_kind(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:-1], b"[1]\n"]))


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


Damage = Callable[[Path], None]
ONE_LINE: tuple[Damage, ...] = (
    cut_within_its_last_line,
    cut_between_two_lines,
    garbage_within_a_line,
    zeros_at_the_end,
    nested_without_end,
    of_another_kind,
)
WHOLE: tuple[Damage, ...] = (emptied, other_bytes, a_directory, a_link_to_nothing)


def told_by(output: Location) -> tuple[list[int], list[DamagedPart]]:
    told: list[DamagedPart] = []
    return [round(event["at"]) for event in read_journal(output, told.append)], told


def name(damage: Damage) -> str:
    return damage.__name__


@pytest.mark.parametrize("number", [1, 2, EVENTS])
@pytest.mark.parametrize("damage", [*ONE_LINE, *WHOLE], ids=name)
def test_damaged_part_hides_only_its_own_lines_and_is_named(
    output: Location, damage: Damage, number: int
) -> None:
    assert told_by(output) == (list(range(1, EVENTS * EVENTS + 1)), [])
    damage(part(output, number))
    seen, (damaged,) = told_by(output)
    own = range(EVENTS * (number - 1) + 1, EVENTS * number + 1)
    lost = set(own) if damage in WHOLE else {own[-1]}
    assert seen == [at for at in range(1, EVENTS * EVENTS + 1) if at not in lost]
    assert part(output, number).name in damaged.message
    assert damaged.remedy


@pytest.mark.parametrize("damage", [*ONE_LINE, *WHOLE], ids=name)
def test_folds_of_a_damaged_journal_take_all_that_can_be_read(
    output: Location, damage: Damage
) -> None:
    damage(part(output, 2))
    reading = read_folds(output, KINDS)
    assert [item.name for item in reading.damaged] == ["a0001-000002.jsonl"]
    traces = reading.folds["traces"]
    assert isinstance(traces, Traces)
    assert traces.worker == EVENTS * EVENTS


def test_damaged_part_is_an_error_for_whoever_does_not_ask(output: Location) -> None:
    garbage_within_a_line(part(output, 2))
    with pytest.raises(OutputError, match=r"a0001-000002\.jsonl is damaged: 1 of its 5 lines"):
        read_journal(output)


def test_tail_of_a_journal_whose_end_is_damaged_goes_further_back(output: Location) -> None:
    emptied(part(output, EVENTS))
    told: list[DamagedPart] = []
    found = read_journal_tail(output, EVENTS + 1, told.append)
    last = EVENTS * (EVENTS - 1)
    assert [round(event["at"]) for event in found] == list(range(last - EVENTS, last + 1))
    assert [item.name for item in told] == [part(output, EVENTS).name]


@given(st.binary(max_size=200))
def test_any_bytes_of_a_part_are_read(data: bytes) -> None:
    place = open_location("memory://any-bytes")
    place.child("_tfresume", "journal", "a0001-000001.jsonl").write_bytes(data)
    read_journal(place, lambda _: None)
    read_folds(place, KINDS)


def test_snapshot_of_a_damaged_journal_tells_of_the_damage_until_the_part_is_mended(
    output: Location,
) -> None:
    good = part(output, 2).read_bytes()
    whole = frozen(read_folds(output, KINDS).folds["traces"])
    garbage_within_a_line(part(output, 2))
    write_snapshot(output, KINDS)
    reading = read_folds(output, KINDS)
    assert (reading.parts, [item.name for item in reading.damaged]) == (0, ["a0001-000002.jsonl"])
    part(output, 2).write_bytes(good)
    mended = read_folds(output, KINDS)
    assert (mended.parts, mended.damaged) == (EVENTS, ())
    assert frozen(mended.folds["traces"]) == whole


@pytest.mark.parametrize("damage", [a_directory, a_link_to_nothing], ids=name)
def test_no_snapshot_is_made_of_a_part_that_the_store_does_not_give(
    output: Location, damage: Damage
) -> None:
    damage(part(output, 2))
    write_snapshot(output, KINDS)
    assert not [entry for entry in part(output, 1).parent.iterdir() if "snapshot" in entry.name]


def test_snapshot_that_cannot_be_read_is_passed_over(output: Location) -> None:
    write_snapshot(output, KINDS)
    (snapshot,) = part(output, 1).parent.glob("*.snapshot.json")
    assert read_folds(output, KINDS).parts == 0
    snapshot.unlink()
    snapshot.mkdir()
    assert read_folds(output, KINDS).parts == EVENTS


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, OSError]]:
    """What reading a file of this name meets; each has to be met."""
    refused: dict[str, OSError] = {}
    met: set[str] = set()
    local = fsspec.get_filesystem_class("file")
    read = local.cat_file

    def reading(self: Any, path: str, *arguments: Any, **options: Any) -> bytes:
        error = refused.get(Path(path).name)
        if error is not None:
            met.add(Path(path).name)
            raise error
        return bytes(read(self, path, *arguments, **options))

    monkeypatch.setattr(local, "cat_file", reading)
    with stamina.set_testing(True, attempts=10, cap=True):  # as many tries, without the waits
        yield refused
    assert met == set(refused)


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (OSError(errno.EACCES, "Permission denied"), False),
        (OSError(errno.EIO, "Input/output error"), True),
        (OSError(errno.EBADMSG, "Bad message"), False),
        (TimeoutError("no answer"), True),
    ],
)
def test_object_that_the_store_does_not_give_hides_no_other(
    output: Location, refusing: dict[str, OSError], error: OSError, passing: bool
) -> None:
    refusing["a0001-000002.jsonl"] = error
    seen, (damaged,) = told_by(output)
    assert len(seen) == EVENTS * (EVENTS - 1)
    assert (damaged.given, damaged.passing) == (False, passing)
    assert "a0001-000002.jsonl" in damaged.message
    kind = StorageUnavailable if passing else OutputError
    with pytest.raises(kind, match=r"a0001-000002\.jsonl"):
        read_journal(output)


def test_store_that_gives_no_part_is_not_taken_for_damage(
    output: Location, refusing: dict[str, OSError]
) -> None:
    for number in range(1, EVENTS + 1):
        refusing[part(output, number).name] = TimeoutError("no answer")
    with pytest.raises(StorageUnavailable):
        read_journal(output, lambda _: None)


def test_merge_keeps_a_damaged_block_apart_and_loses_nothing_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.store.run.journal.MERGE", 3)
    output = open_location(str(tmp_path))
    journal = Journal(output, 1)
    for number in range(1, 9):
        journal.append({"event": "worker_start", "at": float(number)}, durable=True)
    block = tmp_path / "_tfresume" / "journal" / "a0001-000004-000006.jsonl"
    garbage_within_a_line(block)
    spoilt = block.read_bytes()
    for number in range(9, 12):
        journal.append({"event": "worker_start", "at": float(number)}, durable=True)
    assert block.read_bytes() == spoilt
    seen, (damaged,) = told_by(output)
    assert (seen, damaged.name) == ([1, 2, 3, 4, 5, 7, 8, 9, 10, 11], block.name)
    for number in range(12, 30):
        journal.append({"event": "worker_start", "at": float(number)}, durable=True)
    assert (block.parent / "a0001-000010-000018.jsonl").exists(), "later blocks are merged on"
    assert told_by(output)[0] == [at for at in range(1, 30) if at != 6]


def test_header_of_a_part_says_how_many_events_follow(output: Location) -> None:
    first = json.loads(part(output, 1).read_bytes().splitlines()[0])
    assert first["events"] == EVENTS


@pytest.mark.parametrize("record", ["run.json", "lease/0001.json", "lineage/a0001-g0001.json"])
def test_checkpoint_of_a_run_whose_record_is_damaged_is_a_source_by_its_prefix(
    tmp_path: Path, record: str
) -> None:
    output = open_location(str(tmp_path))
    record_takeover(output, 1, 1, 0)
    saved(output, 1100)
    place = tmp_path / "_tfresume" / record
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(b"{half")
    assert resolve_source(str(tmp_path / "a0001-g0001" / "model.ckpt-1100")).step == 1100
