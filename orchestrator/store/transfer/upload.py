"""How do a checkpoint's files get into the store, whole or not at all?

Rule: files go side by side, large ones in parallel parts. Each is retried as a whole, with back-off
and jitter, when the store is busy, resets or stops moving, and counts as uploaded only when the
store's own size (and checksum, where it tells one) agrees. Nothing is written over a committed
checkpoint. What is returned was computed from the local bytes, not from what the store says.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import google_crc32c
import stamina

from orchestrator.errors import OutputError
from orchestrator.store.objects import local_files
from orchestrator.store.objects.client_errors import is_transient
from orchestrator.store.objects.failures import translate
from orchestrator.store.objects.layout import MANIFEST_SUFFIX, split_bundle_file
from orchestrator.store.objects.location import Location
from orchestrator.store.objects.manifest import FileRecord
from orchestrator.store.objects.traffic import MOVED
from orchestrator.store.transfer.multipart import PART_BYTES, send_file
from orchestrator.store.transfer.watchdog import TransferProgress, run_on, watched

STALL_S = 60.0
"""A part of 16 MiB that takes longer means less than 0.3 MB/s: better to begin anew."""
ATTEMPTS = 5
"""Tries per file, with back-off between them: a store that is busy or restarts takes the third or
fourth; one that refuses the fifth is left to the rules, which try the whole save again.
"""
FILES_AT_ONCE = 4
"""A checkpoint has two small files (index and graph) beside its data: they don't wait for it, nor
two shards for each other.
"""
CHUNK_BYTES = 8 << 20
"""Read for a checksum at once."""


def upload(
    files: Sequence[Path],
    directory: Location,
    *,
    stall_s: float = STALL_S,
    attempts: int = ATTEMPTS,
    part_bytes: int = PART_BYTES,
) -> tuple[FileRecord, ...]:
    """Puts files into a directory, under their own names.

    Args:
        files: local files of one checkpoint.
        stall_s: a transfer that moves nothing for so long is begun anew.
        attempts: tries per file.

    Returns:
        Name, size and crc32c of each, in the order given: what the manifest has to say.

    Raises:
        OutputError: no permission, no space, or a committed checkpoint of this name is there.
        StorageUnavailable: the last try failed too.
    """
    _refuse_committed(files, directory)
    with ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix="upload") as pool:
        return tuple(
            pool.map(
                lambda path: _upload_one(
                    path, directory.child(path.name), stall_s, attempts, part_bytes
                ),
                files,
            )
        )


def _refuse_committed(files: Sequence[Path], directory: Location) -> None:
    prefixes = {parts[0] for path in files if (parts := split_bundle_file(path.name)) is not None}
    for prefix in sorted(prefixes):
        if directory.child(prefix + MANIFEST_SUFFIX).exists():
            raise OutputError(
                f"{directory.child(prefix).shown} is committed already and is never overwritten",
                remedy="Open a new generation: its directory is free",
            )


def _upload_one(
    path: Path, target: Location, stall_s: float, attempts: int, part_bytes: int
) -> FileRecord:
    record = describe(path)
    try:
        for attempt in stamina.retry_context(
            on=is_transient, attempts=attempts, timeout=None, wait_initial=0.2, wait_max=20.0
        ):
            with attempt:
                _send(path, target, stall_s, part_bytes)
                _confirm(record, target)
    except Exception as error:
        raise translate(error, target.shown, "write") from error
    return record


def describe(path: Path) -> FileRecord:
    """Name, size and crc32c of a local file."""
    crc = size = 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            crc, size = google_crc32c.extend(crc, chunk), size + len(chunk)
            MOVED.add(len(chunk))
    return FileRecord(name=path.name, size_bytes=size, crc32c=crc)


def _send(path: Path, target: Location, stall_s: float, part_bytes: int) -> None:
    if target.is_local:
        _copy(path, Path(target.path))
    elif target.is_async:
        progress = TransferProgress()
        try:
            run_on(
                target.fs.loop,
                watched(send_file(path, target, progress, part_bytes), progress, stall_s),
            )
        except ExceptionGroup as group:
            raise _first(group) from group
    else:
        # Clients without an event loop (memory, sftp) can't be cancelled: their own timeouts count
        target.fs.makedirs(target.parent.path, exist_ok=True)
        target.fs.put_file(str(path), target.path)


def _copy(path: Path, target: Path) -> None:
    local_files.make_directory(target.parent)
    with local_files.temporary_beside(target) as temporary:
        with open(path, "rb") as source, open(temporary, "wb") as file:
            while piece := source.read(CHUNK_BYTES):
                file.write(piece)
                MOVED.add(len(piece))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    local_files.flush_directory(target.parent)


def _confirm(record: FileRecord, target: Location) -> None:
    """Servers that answer "done" to a chunk sent twice have stored it twice: believe the listing,
    not the reply.
    """
    info = target.once("info", target.path)
    if int(info.get("size") or 0) != record.size_bytes:
        raise ConnectionError(
            f"{target.shown} has {info.get('size')} of {record.size_bytes} bytes after its upload"
        )
    stored = info.get("crc32c")
    if (
        isinstance(stored, str)
        and target.protocol in ("gs", "gcs")
        and int.from_bytes(base64.b64decode(stored), "big") != record.crc32c
    ):
        raise ConnectionError(f"{target.shown} has another checksum than what was sent")


def _first(group: ExceptionGroup[Exception]) -> Exception:
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
