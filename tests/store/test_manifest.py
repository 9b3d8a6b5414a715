"""Is a manifest that can't be read told with what is wrong with it and what to do?"""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.errors import CorruptCheckpoint
from orchestrator.store.objects.manifest import (
    FORMAT,
    ChainLink,
    FileRecord,
    Manifest,
    read_manifest_bytes,
)

FILE = FileRecord(name="m-5.index", size_bytes=3, crc32c=7)
MANIFEST = Manifest(name="m", step=5, attempt=1, generation=2, files=(FILE,))
ANOTHER = "Use another checkpoint; `tfresume checkpoints RUN --verify` shows which are good"


def told(data: bytes) -> tuple[str, str]:
    with pytest.raises(CorruptCheckpoint) as refused:
        read_manifest_bytes(data, "gs://b/m-5.manifest.json")
    return refused.value.message.removeprefix("gs://b/m-5.manifest.json "), refused.value.remedy


def with_fields(**fields: Any) -> bytes:
    return json.dumps({**json.loads(MANIFEST.to_bytes()), **fields}).encode()


def test_manifest_comes_back_as_it_was_written() -> None:
    link = ChainLink(label="a0001-g0002/m-4", save_id="x")
    for manifest in (MANIFEST, MANIFEST.model_copy(update={"format": FORMAT, "chain": (link,)})):
        assert read_manifest_bytes(manifest.to_bytes(), "") == manifest
    assert read_manifest_bytes(with_fields(of_a_later_version=1), "") == MANIFEST


def test_manifest_that_cannot_be_read_says_where_it_is_wrong() -> None:
    message, remedy = told(b"{")
    assert message.startswith("isn't a manifest: Invalid JSON")
    assert remedy == ANOTHER
    record = {"name": "a/b", "size_bytes": 1, "crc32c": 1}
    assert told(with_fields(step=-1, files=[record]))[0] == (
        "isn't a manifest: step: Input should be greater than or equal to 0"
    )
    assert told(with_fields(files=[record])) == (
        "isn't a manifest: files.0.name: Value error, not a plain file name",
        ANOTHER,
    )


def test_manifest_of_a_later_version_asks_for_that_version() -> None:
    assert told(with_fields(format=FORMAT + 1)) == (
        f"has format {FORMAT + 1}, newer than this version's {FORMAT}",
        "Upgrade tfresume",
    )


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\0b", "../m-5.index"])
def test_name_that_leads_elsewhere_is_no_file_of_a_checkpoint(name: str) -> None:
    """Deleting goes by these names."""
    with pytest.raises(ValueError, match="not a plain file name"):
        FileRecord(name=name, size_bytes=0, crc32c=0)
    assert "not a plain file name" in told(with_fields(name=name))[0]


def test_changed_rows_in_a_manifest_of_the_first_format_are_refused() -> None:
    """A reader of before would take them for the whole."""
    link = {"label": "a0001-g0002/m-4", "save_id": "x"}
    assert "changed rows in a manifest of format 1" in told(with_fields(chain=[link], format=1))[0]


def test_names_follow_from_what_a_manifest_says() -> None:
    assert (MANIFEST.label, MANIFEST.file_name) == ("a0001-g0002/m-5", "m-5.manifest.json")
    assert (MANIFEST.directory, MANIFEST.generation_id) == ("a0001-g0002", (1, 2))
    link = ChainLink(label="a0001-g0002/m-4", save_id="x")
    assert MANIFEST.model_copy(update={"chain": (link,)}).prefix == "m-5.changed"
