"""What does a store say of a file or directory, whatever words it uses?

Rule: each client of fsspec names the moment of change and the mark of a file's content in its
store's own words; whatever of them is there is taken, and what isn't stays unknown. Plain data in,
plain data out; no store is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple


class ListingEntry(NamedTuple):
    """What an entry of a listing says; the fields of ``location.FileInfo``."""

    name: str
    size_bytes: int
    is_directory: bool
    modified: float | None
    tag: str


def understood(entry: Mapping[str, Any]) -> ListingEntry:
    """An entry as fsspec gives it: in a store of objects and in one of files."""
    modified = (
        entry.get("mtime")
        or entry.get("LastModified")
        or entry.get("updated")
        or entry.get("created")
    )
    tag = entry.get("ETag") or entry.get("etag") or entry.get("generation")
    if not tag and entry.get("mtime") is not None:
        tag = f"{entry['mtime']}-{entry.get('ino', '')}"
    return ListingEntry(
        name=str(entry["name"]).rstrip("/").rpartition("/")[2],
        size_bytes=int(entry.get("size") or 0),
        is_directory=entry.get("type") == "directory",
        modified=_seconds(modified),
        tag=str(tag or ""),
    )


def _seconds(value: Any) -> float | None:
    """Unix seconds of a number, of ISO 8601 (Google's), or of a ``datetime`` (Amazon's)."""
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str) and value:
        try:
            return datetime.fromisoformat(value).timestamp()
        except ValueError:
            return None
    return float(value.timestamp()) if hasattr(value, "timestamp") else None
