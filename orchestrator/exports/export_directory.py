"""When is an export complete, and what may be written over?

Rule: an export is a directory, and complete if and only if its ``export.json`` is there, which is
created last and names every file with size and checksum. ``export.begun.json``, created first, says
whose the files are that lie there until then. Nothing of anyone else's is touched; a second run of
the same export goes on, or finds that it's done.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.errors import AlreadyExists, OutputError
from orchestrator.exports.assets import ASSETS
from orchestrator.store.objects.exclusive import create_once
from orchestrator.store.objects.location import Location
from orchestrator.store.objects.manifest import FileRecord
from orchestrator.store.transfer.upload import upload

COMPLETE = "export.json"
BEGUN = "export.begun.json"
FORMAT = 1
"""Of ``export.json``: grows when its fields change their meaning."""
Identity = Mapping[str, Any]
"""What makes two exports the same: source, format and choices. Plain data."""


def existing(directory: Location, identity: Identity) -> dict[str, Any] | None:
    """The ``export.json`` of this very export, None where it isn't complete.

    Raises:
        OutputError: another export is here, or files of it are missing or have other sizes.
        SourceError, StorageUnavailable: it can't be read.
    """
    data = directory.child(COMPLETE).read_if_exists()
    if data is None:
        return None
    try:
        record: dict[str, Any] = json.loads(data)
        files = _sizes(record["files"])
        assets = _sizes(record.get("assets", []))
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"{directory.child(COMPLETE).shown} isn't one of tfresume's",
            remedy="Name another directory with -o",
        ) from error
    if record.get("identity") != dict(identity):
        raise OutputError(
            f"{directory.shown} holds another export ({_in_words(record.get('identity'))})",
            remedy="Name another directory with -o, or delete this one",
        )
    wrong = _wrong(directory, files)
    if assets:
        wrong += _wrong(directory.child(ASSETS), assets)
    if wrong:
        raise OutputError(
            f"{directory.shown} has lost {wrong[0]}, or it isn't what {COMPLETE} says",
            remedy="Delete the directory and export again",
        )
    return record


def _sizes(records: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    return [(str(file["name"]), int(file["size_bytes"])) for file in records]


def _wrong(directory: Location, files: Sequence[tuple[str, int]]) -> list[str]:
    there = {file.name: file.size_bytes for file in directory.list()}
    return [name for name, size in files if there.get(name, -1) != size]


def begin(directory: Location, identity: Identity, names: Sequence[str]) -> None:
    """Claims an empty directory, or one in which the same export was begun.

    Args:
        names: of the files that will be written.

    Raises:
        OutputError: somebody else's files are there.
        StorageUnavailable: the store doesn't answer.
    """
    refuse_foreign(directory, names)
    try:
        create_once(directory.child(BEGUN), _text({"format": FORMAT, "identity": dict(identity)}))
    except AlreadyExists as error:
        raise OutputError(
            f"{directory.shown} holds the beginning of another export",
            remedy="Name another directory with -o, or delete this one",
        ) from error


def refuse_foreign(directory: Location, names: Sequence[str]) -> None:
    """Raises OutputError: files are there that aren't of a begun export. Nothing is written."""
    entries = {entry.name for entry in directory.list()}
    foreign = sorted(entries - {BEGUN, *names}) if BEGUN in entries else sorted(entries)
    if foreign:
        shown = ", ".join(foreign[:3]) + (f" and {len(foreign) - 3} more" if foreign[3:] else "")
        raise OutputError(
            f"{directory.shown} isn't empty ({shown}), and nothing is written over",
            remedy="Name a directory of the export's own with -o",
        )


def put(directory: Location, files: Sequence[Path]) -> tuple[FileRecord, ...]:
    """Writes local files into the claimed directory. Raises OutputError, StorageUnavailable."""
    return upload(files, directory)


def complete(directory: Location, identity: Identity, record: Mapping[str, Any]) -> dict[str, Any]:
    """Writes ``export.json``: from here on the export is there. Its contents.

    Raises:
        OutputError: someone else was first. StorageUnavailable: the store doesn't answer.
    """
    whole = {"format": FORMAT, "identity": dict(identity), **record}
    create_once(directory.child(COMPLETE), _text(whole))
    directory.child(BEGUN).delete()
    return whole


def _text(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, indent=1) + "\n").encode()


def _in_words(identity: Any) -> str:
    if not isinstance(identity, dict):
        return "of an unknown source"
    return f"{identity.get('to')} of {identity.get('checkpoint')}"
