"""How is a checkpoint deleted, so that it's never half there?

Rule: first a note of what will be deleted (the manifest's own list), then the manifest, which ends
the checkpoint's existence, then the files of the list, then the note. A crash in between leaves a
checkpoint that doesn't exist any more and a note by which the next call finishes. A note that can't
be read is let go: its checkpoint is there as before, or its files are those of a save that never
finished, which ``prune`` takes. What an evaluator reads, or keeps as the best, stays. Files that no
manifest of ours lists are never touched.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from orchestrator.decide.retention import Kept, retention
from orchestrator.errors import AlreadyExists, CorruptCheckpoint, OrchestratorError
from orchestrator.store.checkpoints.chains import needed_links, outlived
from orchestrator.store.checkpoints.pointing import point
from orchestrator.store.checkpoints.run_checkpoints import Checkpoint, scan_all
from orchestrator.store.checkpoints.verification import speaks_of_content
from orchestrator.store.objects.exclusive import create_once
from orchestrator.store.objects.layout import CONTROL, read_generation_id, split_bundle_file
from orchestrator.store.objects.location import FileInfo, Location
from orchestrator.store.objects.manifest import Manifest, read_manifest_bytes
from orchestrator.store.run.evaluations import Holds
from orchestrator.store.run.lease import Lease
from orchestrator.store.transfer.multipart import abort_abandoned

log = logging.getLogger("tfresume")

DELETERS = 8
"""Checkpoints or files deleted side by side: most of the time is the store's answering time."""
_PART = re.compile(r"(.+)\.part-[0-9a-f]{32}(?:-\d+)?-\d{5,}", re.DOTALL)
"""A part of a checkpoint's file, as ``multipart`` names it for Google."""
_LET_GO = "a note of a checkpoint on its way out is let go: %s. What is left of that checkpoint, `tfresume checkpoints RUN --prune` takes"


@dataclass(frozen=True)
class Retained:
    """What a call of ``retain`` did: labels kept and deleted, newest first."""

    kept: tuple[str, ...]
    deleted: tuple[str, ...]


def retain(
    output: Location,
    *,
    max_to_keep: int,
    keep_every_hours: float,
    protect: Collection[str] = (),
    lease: Lease | None = None,
    needed: Callable[[], Collection[str]] = frozenset,
) -> Retained:
    """Deletes what needn't be kept, and finishes deletions that a crash interrupted.

    Args:
        protect: labels of checkpoints that are there and stay, such as the one that was committed
            just now (``Checkpoint.label``); where the store doesn't list them nothing is deleted.
        lease: the driver's own; asked before anything is deleted, and again after the listing that
            tells what may be.
        needed: labels of checkpoints that others read or keep; asked again right before each is
            deleted.

    Raises:
        LeaseLost, OutputError, StorageUnavailable: nothing is half deleted in a way that the next
            call doesn't finish.
    """
    if lease is not None:
        lease.check()
    _finish(output, needed)
    full, changes = scan_all(output)
    checkpoints = tuple(item for item in full if item.committed and not item.fenced)
    if not {item.label for item in (*checkpoints, *changes)}.issuperset(protect):
        # A store that lists late: TensorFlow would be pointed at one before the newest, for good
        # where no other save follows
        return Retained(tuple(item.label for item in checkpoints), ())
    if checkpoints:
        abort_abandoned(output, checkpoints[0].generation_id)
    facts = _facts(checkpoints, max_to_keep)
    good = next((item for item, fact in zip(checkpoints, facts, strict=True) if fact.good), None)
    gone_changes, live = outlived(changes, good)
    decision = retention(
        facts,
        max_to_keep=max_to_keep,
        keep_every_h=keep_every_hours,
        protected={*protect, *needed(), *needed_links(live)},
    )
    going = set(decision.delete)
    # Again: a driver that slept over the listing would delete what its successor went on from, in a
    # store that didn't list the newest one to that successor yet
    if lease is not None and (going or gone_changes):
        lease.check()
    # Before what they stand on, and the newest first: none is left without its links
    let_go = [
        item.label
        for item in gone_changes
        if item.label not in protect and delete_checkpoint(item, needed)
    ]
    if going:
        remaining = [item.label for item in checkpoints if item.label not in going]
        # Before the files go: TensorFlow must never be pointed at what's gone
        point(output, remaining, lease)
        gone = {
            item.label
            for item in reversed(checkpoints)
            if item.label in going and delete_checkpoint(item, needed)
        }
        let_go += [label for label in decision.delete if label in gone]
    return Retained(decision.keep, tuple(let_go))


def _facts(checkpoints: Sequence[Checkpoint], max_to_keep: int) -> list[Kept]:
    """Looks at as few manifests as decide: those beyond the window, and the newest until one is
    good.
    """
    goodness: dict[str, bool] = {}
    for item in checkpoints:
        goodness[item.label] = _is_good(item)
        if goodness[item.label]:
            break
    beyond = checkpoints[max_to_keep:] if max_to_keep else ()
    with ThreadPoolExecutor(DELETERS) as pool:
        times = dict(
            zip((item.label for item in beyond), pool.map(_training_s, beyond), strict=True)
        )
    return [
        Kept(item.label, times.get(item.label, 0.0), goodness.get(item.label))
        for item in checkpoints
    ]


def _is_good(item: Checkpoint) -> bool:
    try:
        item.check()
    except OrchestratorError as error:
        if not speaks_of_content(error):
            raise
        return False
    return True


def _training_s(item: Checkpoint) -> float:
    try:
        return item.manifest().training_s
    except CorruptCheckpoint:
        return 0.0


def delete_checkpoint(item: Checkpoint, needed: Callable[[], Collection[str]] = frozenset) -> bool:
    """Deletes one committed checkpoint, by its manifest's list; False where that can't be read, or
    where somebody needs it by now. Raises OutputError, StorageUnavailable.
    """
    manifest_file = item.manifest_file
    if manifest_file is None:
        return False
    note = deletion_note(item)
    try:
        manifest = item.manifest()
    except CorruptCheckpoint:
        return False  # which files were ours, only its manifest could tell
    with contextlib.suppress(AlreadyExists):  # an earlier try's note
        create_once(note, manifest.to_bytes())
    # After the note: who takes a checkpoint says so first and looks for the note then, so that at
    # least one of the two sees the other
    if item.label in needed():
        note.delete()
        return False
    manifest_file.location.delete()
    _delete_listed(item.output, manifest, note)
    return True


def deletion_note(item: Checkpoint) -> Location:
    """Where it's said that a checkpoint is on its way out."""
    name = f"{item.generation_id.directory}.{item.candidate.prefix}.json"
    return item.output.child(CONTROL, "deleting", name)


def is_taken(item: Checkpoint) -> bool:
    """Whether a checkpoint that was said to be needed a moment ago exists and isn't being deleted.
    Raises OutputError, StorageUnavailable.
    """
    file = item.manifest_file
    return file is not None and not deletion_note(item).exists() and file.location.exists()


def _finish(output: Location, needed: Callable[[], Collection[str]] = frozenset) -> None:
    for entry in output.child(CONTROL, "deleting").list():
        data = entry.location.read_if_exists()
        if data is not None:
            try:
                manifest = read_manifest_bytes(data, entry.location.shown)
            except CorruptCheckpoint as error:
                # A disk without links may keep half a note of a crash: it mustn't stop every later
                # deletion, until the disk is full
                log.warning(_LET_GO, error.message)
                entry.location.delete()
                continue
            marker = output.child(manifest.directory, manifest.file_name)
            if manifest.label in needed() and marker.exists():
                entry.location.delete()
                continue
            marker.delete()
            _delete_listed(output, manifest, entry.location)


def _delete_listed(output: Location, manifest: Manifest, note: Location) -> None:
    directory = output.child(manifest.directory)
    with ThreadPoolExecutor(DELETERS) as pool:
        list(pool.map(lambda record: directory.child(record.name).delete(), manifest.files))
    note.delete()
    _drop_if_empty(directory)


def _drop_if_empty(directory: Location) -> None:
    """Local directories stay behind, each one more to list; rmdir deletes only empty ones."""
    if directory.is_local:
        try:
            Path(directory.path).rmdir()
        except OSError:
            return


@dataclass(frozen=True)
class Pruned:
    """What ``prune`` deleted: labels of checkpoints, and files of saves that never finished."""

    checkpoints: tuple[str, ...]
    leftovers: tuple[str, ...]
    freed_bytes: int


def prune(output: Location, *, held: bool, dry_run: bool = False) -> Pruned:
    """Deletes what the run can't use: fenced checkpoints, saves that never finished, parts of
    aborted uploads. May wait for the lease of an evaluator that says that it reads a checkpoint and
    isn't heard of.

    Args:
        held: a driver is at work: then unfinished saves of the two newest generations may be its
            own and stay.
        dry_run: delete nothing, and return what would be.

    Raises:
        OutputError, StorageUnavailable: what's left is found by the next call.
    """
    needed = Holds(output, wait=time.sleep).reasons
    if not dry_run:
        _finish(output, needed)
    full, changes = scan_all(output)
    items = (*full, *changes)
    directories = {
        found: entry.location
        for entry in output.list()
        if (found := read_generation_id(entry.name)) is not None
    }
    # Of the driver's own save there may be nothing but parts yet, and while a new generation's first
    # one is under way another's may still be
    own = sorted(directories)[-2:] if held else []
    kept = {*needed(), *needed_links(changes)}
    fenced = [item for item in items if item.committed and item.fenced and item.label not in kept]
    unfinished = [item for item in items if not item.committed and item.generation_id not in own]
    gone = [item for item in fenced if dry_run or delete_checkpoint(item, needed)]
    freed = sum(item.size_bytes for item in [*gone, *unfinished])
    parts = _parts_in(directory for found, directory in directories.items() if found not in own)
    freed += sum(file.size_bytes for file in parts)
    leftovers = [file for item in unfinished for file in item.candidate.files.values()] + parts
    if not dry_run:
        for file in leftovers:
            file.location.delete()
        # A driver whose first save is under way may have nothing in any listing
        if own or not held:
            abort_abandoned(output, min(own, default=None))
    labels = tuple(item.label for item in gone)
    return Pruned(labels, tuple(file.location.shown for file in leftovers), freed)


def _parts_in(directories: Iterable[Location]) -> list[FileInfo]:
    return [
        file
        for directory in directories
        for file in directory.list()
        if (found := _PART.fullmatch(file.name)) is not None and split_bundle_file(found[1])
    ]
