"""How is a small record kept in a store?

Rule: one JSON object per file, validated by its pydantic model on the way in and out. A record that
can't be read is an error that names the file; a record that isn't there is None.
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from orchestrator.errors import OutputError
from orchestrator.store.objects.location import Location

Model = TypeVar("Model", bound=BaseModel)


def encode(record: BaseModel) -> bytes:
    """The record as it's stored."""
    return record.model_dump_json(indent=1).encode()


def read_record(kind: type[Model], location: Location) -> Model | None:
    """The record at ``location``, None where there is none. Raises OutputError (damaged),
    SourceError, StorageUnavailable.
    """
    data = location.read_if_exists()
    return None if data is None else decode(kind, data, location)


def decode(kind: type[Model], data: bytes, location: Location) -> Model:
    """The record in ``data``. Raises OutputError where it's damaged."""
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise OutputError(
            f"{location.shown} is damaged: {'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}",
            remedy="Someone else wrote or cut this file: restore it from a backup, or use a fresh --output",
            details={"url": location.shown},
        ) from error
