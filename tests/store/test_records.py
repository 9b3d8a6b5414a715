"""Is a small record read as it was written, a name taken apart as it was made, an entry understood?"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from orchestrator.errors import OutputError
from orchestrator.store.objects.layout import checkpoint_name, position_in, shard_of
from orchestrator.store.objects.listing_entries import ListingEntry, understood
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.objects.records import encode, read_record


class Inner(BaseModel):
    count: int


class Record(BaseModel):
    inner: Inner


@pytest.fixture
def place() -> Location:
    return open_location(f"memory://{uuid.uuid4().hex}/record.json")


def test_record_comes_back_and_none_is_none(place: Location) -> None:
    assert read_record(Record, place) is None
    record = Record(inner=Inner(count=3))
    place.write_bytes(encode(record))
    assert read_record(Record, place) == record


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b'{"inner": {"count": "x"}}', "inner.count: Input should be a valid integer"),
        (b"[]", "the file: Input should be an object"),
    ],
)
def test_damaged_record_says_which_file_and_which_field(
    place: Location, data: bytes, told: str
) -> None:
    place.write_bytes(data)
    with pytest.raises(OutputError) as refused:
        read_record(Record, place)
    assert refused.value.message.startswith(f"{place.shown} is damaged: {told}")
    assert refused.value.remedy == (
        "Someone else wrote or cut this file: restore it from a backup, or use a fresh --output"
    )
    assert refused.value.details == {"url": place.shown}


def test_name_of_a_further_checkpoint_of_one_step_tells_its_position() -> None:
    assert checkpoint_name("m", 5) == "m-5"
    further = checkpoint_name("m", 5, 96)
    assert further == "m.at96-5"
    assert position_in(further) == position_in(f"{further}.changed") == 96
    assert shard_of("m-5.data-00003-of-00008") == 3
    assert shard_of("m-5.index") is None
    assert position_in("m-5") == position_in("m-5.changed") == 0


WHEN = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("entry", "modified", "tag"),
    [
        ({"mtime": 7.5, "ino": 3}, 7.5, "7.5-3"),
        ({"mtime": 7.5}, 7.5, "7.5-"),
        ({"LastModified": WHEN, "ETag": '"e"'}, WHEN.timestamp(), '"e"'),
        ({"updated": "2024-05-01T12:00:00Z", "etag": "g"}, WHEN.timestamp(), "g"),
        ({"created": WHEN, "generation": 12}, WHEN.timestamp(), "12"),
        ({"updated": "2024-05-01T12:00:00.500Z"}, WHEN.timestamp() + 0.5, ""),
        ({"updated": "2024-05-01T14:00:00+02:00"}, WHEN.timestamp(), ""),
        ({"updated": "yesterday"}, None, ""),
        ({"updated": ""}, None, ""),
        ({}, None, ""),
        ({"mtime": 7, "ETag": "e"}, 7.0, "e"),
    ],
)
def test_entry_of_a_listing_is_understood_in_its_stores_own_words(
    entry: dict[str, Any], modified: float | None, tag: str
) -> None:
    file = understood({"name": "b/run/m-5.index", "size": 12, "type": "file", **entry})
    assert file == ListingEntry("m-5.index", 12, False, modified, tag)
    assert understood({"name": "b/X/", **entry}).name == "X"
    directory = understood({"name": "b/run/", "type": "directory", "size": None, **entry})
    assert directory == ListingEntry("run", 0, True, modified, tag)
